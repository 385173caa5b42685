// SPDX-License-Identifier: MIT

package dtlstest

import (
	"crypto"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"fmt"
	"net"

	"github.com/go-dsm/dsm/internal/record"
)

// MessageHelloRequest is the type of a message that only a server sends (RFC 5246 section
// 7.4.1.1).
const MessageHelloRequest = 0

// ScriptedClient is a client of DTLS 1.2 that a test makes say whatever it likes, in any
// order: Message, Record and Send take all bytes. Handshake says what an honest client
// says. Everything between the two can be called by itself.
//
// It has the suites with a pre-shared key, ECDHE_PSK and ECDHE_ECDSA, the curve P-256 and
// the hash SHA-256. It verifies no certificate. It repeats nothing by itself. It is not
// safe for concurrent use.
type ScriptedClient struct {
	net.Conn // the connected socket

	// What it says. NewScriptedClient fills it, and the test may change it.
	Hello    ClientHello // the next ClientHello, without its sequence numbers
	Key      []byte      // the pre-shared key
	Identity []byte      // of the key
	Chain    [][]byte    // the certificates that are sent if the server requests some
	Signer   crypto.Signer

	// Where it is.
	Sequence   uint64 // of the next plaintext record
	MessageSeq uint16 // of the next message
	Transcript []byte // the messages that a Finished covers (RFC 5246 section 7.4.9)
	Master     []byte // the master secret: that of the session to resume, or DeriveKeys's
	Records    *record.Session

	// What the server has said.
	Server ServerSaid

	key     *ecdh.PrivateKey
	nextSeq uint16          // message_seq of the server's next message
	partial map[uint16]part // of the server's messages
}

// NewScriptedClient returns a client over a connected socket, with the key and identity
// of PSKConfig(key). It offers Suite if no suites are given, and extended master secret.
func NewScriptedClient(socket net.Conn, key string, suites ...record.SuiteID) *ScriptedClient {
	c := &ScriptedClient{Conn: socket, Key: []byte(key), Identity: []byte(Identity), partial: map[uint16]part{}}
	c.Hello = ClientHello{Suites: suites, Extensions: append(ExtendedMasterSecret(), CurveP256()...)}
	_, _ = rand.Read(c.Hello.Random[:]) // never fails
	c.key, _ = ecdh.P256().GenerateKey(rand.Reader)
	return c
}

// ExtendedMasterSecret returns the extension of RFC 7627.
func ExtendedMasterSecret() []byte { return []byte{0, 23, 0, 0} }

// CurveP256 returns the extensions supported_groups, ec_point_formats and
// signature_algorithms of a client that knows P-256 and ECDSA with SHA-256 (RFC 8422
// section 5.1, RFC 5246 section 7.4.1.4.1).
func CurveP256() []byte {
	return []byte{0, 10, 0, 4, 0, 2, 0, 23, 0, 11, 0, 2, 1, 0, 0, 13, 0, 4, 0, 2, 4, 3}
}

// Message makes the client's next message. It has the next message_seq, and is added to
// the transcript, which a ClientHello begins.
func (c *ScriptedClient) Message(kind uint8, body []byte) []byte {
	m := Message(kind, c.MessageSeq, body...)
	c.MessageSeq++
	if kind == record.MessageClientHello {
		c.Transcript = nil
	}
	c.Transcript = append(c.Transcript, m...)
	return m
}

// Fragments divides a message into fragments of at most size bytes (RFC 6347 section
// 4.2.3).
func Fragments(message []byte, size int) [][]byte {
	h, _, ok := record.NextHandshake(message)
	if !ok {
		panic("dtlstest: not a whole message")
	}
	var fragments [][]byte
	for at := 0; at < len(h.Body); at += size {
		part := h.Body[at:min(at+size, len(h.Body))]
		fragments = append(fragments, append(FragmentHeader(h.Type, h.MessageSeq, h.Length, at, len(part)), part...))
	}
	return fragments
}

// Record makes a record of epoch 0 with the next sequence number.
func (c *ScriptedClient) Record(kind record.Type, fragment []byte) []byte {
	c.Sequence++
	return Plaintext(kind, c.Sequence-1, fragment...)
}

// Handshakes makes one record for each message, or fragment of one.
func (c *ScriptedClient) Handshakes(messages ...[]byte) [][]byte {
	var records [][]byte
	for _, m := range messages {
		records = append(records, c.Record(record.TypeHandshake, m))
	}
	return records
}

// Seal makes a protected record with the next sequence number. DeriveKeys was called.
func (c *ScriptedClient) Seal(kind record.Type, payload []byte) []byte {
	raw, err := c.Records.Seal(nil, kind, payload)
	if err != nil {
		panic(err)
	}
	return raw
}

// Send sends records in one datagram. What cannot be sent is lost.
func (c *ScriptedClient) Send(records ...[]byte) {
	var datagram []byte
	for _, r := range records {
		datagram = append(datagram, r...)
	}
	_, _ = c.Write(datagram)
}

// SendHello sends the next ClientHello, and returns its message.
func (c *ScriptedClient) SendHello() []byte {
	m := c.Message(record.MessageClientHello, c.Hello.Body())
	c.Send(c.Handshakes(m)...)
	return m
}

// Hellos does an honest handshake up to the server's last message before the client's
// last flight.
func (c *ScriptedClient) Hellos() error {
	c.SendHello()
	answered := func() bool { return c.Heard(record.MessageServerHelloDone) || c.Server.Finished }
	c.Await(Patience, func() bool { return c.Heard(record.MessageHelloVerifyRequest) || answered() })
	if c.Heard(record.MessageHelloVerifyRequest) {
		c.SendHello()
	}
	if !c.Await(Patience, answered) {
		return fmt.Errorf("no answer to the ClientHello; %d alerts", len(c.Server.Alerts))
	}
	return nil
}

// KeyMessages makes the messages of the last flight of an honest client between
// ServerHelloDone and ChangeCipherSpec, and derives the keys.
func (c *ScriptedClient) KeyMessages() (messages [][]byte, err error) {
	if c.Heard(record.MessageCertificateRequest) {
		messages = append(messages, c.Message(record.MessageCertificate, CertificateList(c.Chain)))
	}
	messages = append(messages, c.Message(record.MessageClientKeyExchange, c.KeyExchange()))
	if err := c.DeriveKeys(); err != nil {
		return nil, err
	}
	if c.Heard(record.MessageCertificateRequest) && len(c.Chain) > 0 {
		messages = append(messages, c.Message(record.MessageCertificateVerify, c.CertificateVerify()))
	}
	return messages, nil
}

// LastFlight makes the records of an honest client's last flight.
func (c *ScriptedClient) LastFlight() ([][]byte, error) {
	var records [][]byte
	if !c.Resumes() {
		messages, err := c.KeyMessages()
		if err != nil {
			return nil, err
		}
		records = c.Handshakes(messages...)
	}
	records = append(records, c.ChangeCipherSpec())
	return append(records, c.Seal(record.TypeHandshake, c.Message(record.MessageFinished, c.VerifyData()))), nil
}

// Handshake does an honest handshake.
func (c *ScriptedClient) Handshake() error {
	if err := c.Hellos(); err != nil {
		return err
	}
	flight, err := c.LastFlight()
	if err != nil {
		return err
	}
	c.Send(flight...)
	if !c.Await(Patience, func() bool { return c.Server.Finished }) {
		return errors.New("no Finished")
	}
	return nil
}

// Echo reports whether the server echoes a text.
func (c *ScriptedClient) Echo(text string) bool {
	c.Send(c.Seal(record.TypeApplicationData, []byte(text)))
	n := len(c.Server.Data)
	return c.Await(Patience, func() bool { return len(c.Server.Data) > n && string(c.Server.Data[n]) == text })
}

// SPDX-License-Identifier: MIT

package dtlstest

import (
	"bytes"
	"encoding/binary"
	"encoding/gob"
	"fmt"

	"github.com/go-dsm/dsm/internal/record"
	"github.com/pion/dtls/v2"
)

// Plaintext returns a record of epoch 0.
func Plaintext(kind record.Type, sequence uint64, fragment ...byte) []byte {
	return rawRecord(kind, 0, sequence, fragment)
}

// Unauthentic returns a record of epoch 1 whose fragment is size zeros, which no key
// opens.
func Unauthentic(kind record.Type, sequence uint64, size int) []byte {
	return rawRecord(kind, 1, sequence, make([]byte, size))
}

func rawRecord(kind record.Type, epoch uint16, sequence uint64, fragment []byte) []byte {
	b := make([]byte, record.HeaderSize, record.HeaderSize+len(fragment))
	record.PutHeader(b, kind, epoch, sequence, len(fragment))
	return append(b, fragment...)
}

// FragmentHeader returns the 12 bytes in front of a fragment of a handshake message
// (RFC 6347 section 4.2.2), whether or not they make sense.
func FragmentHeader(message uint8, messageSeq uint16, length, offset, size int) []byte {
	return []byte{
		message, byte(length >> 16), byte(length >> 8), byte(length), byte(messageSeq >> 8), byte(messageSeq),
		byte(offset >> 16), byte(offset >> 8), byte(offset), byte(size >> 16), byte(size >> 8), byte(size),
	}
}

// Message returns a whole handshake message in one fragment, with its header.
func Message(message uint8, messageSeq uint16, body ...byte) []byte {
	return append(FragmentHeader(message, messageSeq, len(body), 0, len(body)), body...)
}

// Suite is the cipher suite of PSKConfig and of a ClientHello that names no other.
const Suite = record.SuiteID(dtls.TLS_PSK_WITH_AES_128_GCM_SHA256)

// ClientHello is a ClientHello of the test's making. The zero value is a client's
// first one, as short as can be.
type ClientHello struct {
	Version    uint16 // client_version (RFC 5246 section 7.4.1.2). 0: 0xfefd, DTLS 1.2
	Sequence   uint64 // of the record
	MessageSeq uint16
	Random     record.Random
	SessionID  []byte
	Cookie     []byte
	Suites     []record.SuiteID // nil: Suite
	Extensions []byte           // without the length in front. Empty: no extensions
}

// Datagram returns the ClientHello in a record of its own.
func (h ClientHello) Datagram() []byte {
	return Plaintext(record.TypeHandshake, h.Sequence, Message(record.MessageClientHello, h.MessageSeq, h.Body()...)...)
}

// Body returns the message without its header.
func (h ClientHello) Body() []byte {
	suites, version := h.Suites, h.Version
	if suites == nil {
		suites = []record.SuiteID{Suite}
	}
	if version == 0 {
		version = 0xfefd
	}
	body := append(binary.BigEndian.AppendUint16(nil, version), h.Random[:]...)
	body = append(append(body, byte(len(h.SessionID))), h.SessionID...)
	body = append(append(body, byte(len(h.Cookie))), h.Cookie...)
	body = binary.BigEndian.AppendUint16(body, uint16(2*len(suites)))
	for _, id := range suites {
		body = binary.BigEndian.AppendUint16(body, uint16(id))
	}
	body = append(body, 1, 0) // no compression
	if len(h.Extensions) > 0 {
		body = binary.BigEndian.AppendUint16(body, uint16(len(h.Extensions)))
		body = append(body, h.Extensions...)
	}
	return body
}

// Hello returns a client's first ClientHello. All bytes of its random are random.
func Hello(random byte) []byte { return ClientHello{Random: RandomOf(random)}.Datagram() }

// RandomOf returns a hello's random whose bytes are all b.
func RandomOf(b byte) record.Random {
	return record.Random(bytes.Repeat([]byte{b}, len(record.Random{})))
}

// Records returns the records of a datagram up to the first malformed one. They refer
// to the datagram's bytes.
func Records(datagram []byte) []record.Record {
	var records []record.Record
	for rest := datagram; len(rest) > 0; {
		r, next, fault := record.Next(rest)
		if fault != record.NoFault {
			break
		}
		records = append(records, r)
		rest = next
	}
	return records
}

// Has reports whether a datagram has a record of a type, protected or in plaintext.
func Has(datagram []byte, kind record.Type, protected bool) bool {
	for _, r := range Records(datagram) {
		if r.Type == kind && (r.Epoch > 0) == protected {
			return true
		}
	}
	return false
}

// ClientRecords returns the record layer of an established client of pion v2, for
// records that pion would not send. Its first sequence number is next, which should be
// beyond those that pion uses.
func ClientRecords(c *dtls.Conn, next uint64) (*record.Session, error) {
	state := c.ConnectionState()
	raw, err := state.MarshalBinary()
	if err != nil {
		return nil, err
	}
	var s struct {
		LocalEpoch                uint16
		LocalRandom, RemoteRandom [32]byte
		CipherSuiteID             uint16
		MasterSecret              []byte
	}
	if err := gob.NewDecoder(bytes.NewReader(raw)).Decode(&s); err != nil {
		return nil, fmt.Errorf("state of pion's client: %w", err)
	}
	return record.New(record.Config{
		Suite: record.SuiteID(s.CipherSuiteID), MasterSecret: s.MasterSecret, IsClient: true, Epoch: s.LocalEpoch,
		ClientRandom: s.LocalRandom, ServerRandom: s.RemoteRandom, NextSequence: next,
	})
}

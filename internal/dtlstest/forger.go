// SPDX-License-Identifier: MIT

package dtlstest

import (
	"bytes"
	"encoding/hex"
	"net"
	"sync"

	"github.com/go-dsm/dsm/internal/record"
)

// FinishedForger is the transport of a client that has the right keys and sends
// another record in the place of its Finished.
//
// Its KeyLog must be the KeyLogWriter of the client's config, or SetMasterSecret be
// called before the handshake.
type FinishedForger struct {
	net.Conn
	suite record.SuiteID
	forge func(client *record.Session) ([]byte, error)

	mu sync.Mutex
	// mu guards the following.
	clientRandom, serverRandom record.Random
	masterSecret               []byte
	forged                     int
}

// NewFinishedForger returns a FinishedForger over conn, for a handshake of that suite.
// forge makes the record. client is the client's record layer, and its next sequence
// number is that of the Finished.
func NewFinishedForger(conn net.Conn, suite record.SuiteID, forge func(client *record.Session) ([]byte, error)) *FinishedForger {
	f := &FinishedForger{suite: suite, forge: forge}
	f.Conn = RewriteRecords(conn, f.rewrite)
	return f
}

// KeyLog takes the master secret from a line in the format of NSS's key log.
func (f *FinishedForger) KeyLog() WriterFunc {
	return func(line []byte) {
		if fields := bytes.Fields(line); len(fields) == 3 {
			secret, _ := hex.DecodeString(string(fields[2]))
			f.SetMasterSecret(secret)
		}
	}
}

// SetMasterSecret sets the master secret, such as that of the session to be resumed.
func (f *FinishedForger) SetMasterSecret(secret []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.masterSecret = bytes.Clone(secret)
}

// Forged returns how many records were replaced.
func (f *FinishedForger) Forged() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.forged
}

// Read reads a datagram, and takes the server's random from it.
func (f *FinishedForger) Read(p []byte) (int, error) {
	n, err := f.Conn.Read(p)
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range Records(p[:max(n, 0)]) {
		if r.Epoch != 0 || r.Type != record.TypeHandshake {
			continue
		}
		if h, _, ok := record.NextHandshake(r.Fragment()); ok && h.Type == record.MessageServerHello && len(h.Body) >= 2+len(record.Random{}) {
			f.serverRandom = record.Random(h.Body[2:])
		}
	}
	return n, err
}

// rewrite replaces a protected record, and takes the client's random from a ClientHello.
func (f *FinishedForger) rewrite(r record.Record) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if hello, ok := record.ParseClientHello(r); ok {
		f.clientRandom = hello.Random
	}
	if r.Epoch == 0 {
		return r.Raw, nil
	}
	client, err := f.clientRecordsLocked(r.Sequence)
	if err != nil {
		return nil, err
	}
	raw, err := f.forge(client)
	if err == nil {
		f.forged++
	}
	return raw, err
}

func (f *FinishedForger) clientRecordsLocked(next uint64) (*record.Session, error) {
	return record.New(record.Config{
		Suite: f.suite, MasterSecret: f.masterSecret, ClientRandom: f.clientRandom, ServerRandom: f.serverRandom,
		IsClient: true, Epoch: 1, NextSequence: next,
	})
}

// PaddingForMAC is a forge function for AES-CBC suites: a record that ends before its
// MAC, and whose plaintext is all well-formed padding (RFC 5246 section
// 6.2.3.2).
func PaddingForMAC(client *record.Session) ([]byte, error) {
	const ivSize, size = 16, 48
	sequence := client.Config().NextSequence
	raw, err := client.Seal(nil, record.TypeHandshake, bytes.Repeat([]byte{size - 1}, size))
	if err != nil {
		return nil, err
	}
	raw = raw[:record.HeaderSize+ivSize+size] // without the MAC and the padding behind it
	record.PutHeader(raw, record.TypeHandshake, 1, sequence, len(raw)-record.HeaderSize)
	return raw, nil
}

// WrongFinished is a forge function: a Finished whose verify_data are zeros. messageSeq
// is 1 in an abbreviated handshake.
func WrongFinished(messageSeq uint16) func(client *record.Session) ([]byte, error) {
	return func(client *record.Session) ([]byte, error) {
		return client.Seal(nil, record.TypeHandshake, Message(record.MessageFinished, messageSeq, make([]byte, 12)...))
	}
}

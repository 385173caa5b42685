// SPDX-License-Identifier: MIT

package record

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"

	"github.com/pion/dtls/v2/pkg/crypto/prf"
)

// What Open and Seal answer. None says more to a stranger than that the record was
// not taken, and none ends a session but ErrExhausted.
var (
	ErrEpoch        = errors.New("dsm: record of another epoch")
	ErrReplay       = errors.New("dsm: record seen before, or older than the replay window")
	ErrNotAuthentic = errors.New("dsm: record is not the peer's")
	ErrTooLong      = errors.New("dsm: payload is longer than a record can carry")
	ErrExhausted    = errors.New("dsm: no sequence number left")
)

// Config is what a handshake leaves to the record layer.
type Config struct {
	Suite                      SuiteID
	MasterSecret               []byte
	ClientRandom, ServerRandom Random
	IsClient                   bool
	Epoch                      uint16 // of both directions
	NextSequence               uint64 // the first that we may use
	// Used are sequence numbers from NextSequence on whose nonces were used before
	// the session was ours. They are left out. Almost always there is none.
	Used         []uint64
	ReplayWindow int // records; at least 64 are remembered
}

// Session is the state of an established session's records: keys and numbers.
// Ciphers are built on use and dropped by Rest. It is not safe for concurrent use.
type Session struct {
	suite *suite
	// keys is the key block (RFC 5246 section 6.3).
	keys     []byte
	isClient bool
	epoch    uint16
	next     uint64 // the sequence number of the next record that we seal
	used     []uint64
	seen     Window
	active   protection // nil while at rest
}

// New makes the session of a handshake. Its window is empty.
func New(c Config) (*Session, error) {
	s := &Session{
		suite:    suiteByID(c.Suite),
		isClient: c.IsClient,
		epoch:    c.Epoch,
		next:     c.NextSequence,
		used:     slices.Clone(c.Used),
		seen:     NewWindow(c.ReplayWindow),
	}
	switch {
	case s.suite == nil:
		return nil, fmt.Errorf("dsm: cipher suite %#04x is not supported", uint16(c.Suite))
	case len(c.MasterSecret) != 48:
		return nil, errors.New("dsm: a master secret has 48 bytes")
	case c.Epoch == 0:
		return nil, errors.New("dsm: epoch 0 is plaintext")
	}
	keys, err := prf.GenerateEncryptionKeys(c.MasterSecret, c.ClientRandom[:], c.ServerRandom[:],
		s.suite.macLen, s.suite.keyLen, s.suite.ivLen(), s.suite.prf)
	if err != nil {
		return nil, err
	}
	for _, part := range [][]byte{
		keys.ClientMACKey, keys.ServerMACKey, keys.ClientWriteKey, keys.ServerWriteKey, keys.ClientWriteIV, keys.ServerWriteIV,
	} {
		s.keys = append(s.keys, part...)
	}
	return s, nil
}

// protection builds the ciphers if they are not there.
func (s *Session) protection() (protection, error) {
	if s.active != nil {
		return s.active, nil
	}
	keys := s.keys
	var client, server halfKeys
	for _, part := range []struct {
		of  *[]byte
		len int
	}{
		{&client.mac, s.suite.macLen},
		{&server.mac, s.suite.macLen},
		{&client.key, s.suite.keyLen},
		{&server.key, s.suite.keyLen},
		{&client.iv, s.suite.ivLen()},
		{&server.iv, s.suite.ivLen()},
	} {
		*part.of, keys = keys[:part.len], keys[part.len:]
	}
	local, remote := server, client
	if s.isClient {
		local, remote = client, server
	}
	var err error
	s.active, err = s.suite.protect(local, remote)
	return s.active, err
}

// Rest drops the ciphers; the next record builds them anew.
func (s *Session) Rest() { s.active = nil }

// Epoch is that of the session's records.
func (s *Session) Epoch() uint16 { return s.epoch }

// NextSequence is the sequence number of the next record that Seal makes.
func (s *Session) NextSequence() uint64 { return s.next }

// Overhead is how many bytes a record can have beside its payload.
func (s *Session) Overhead() int { return HeaderSize + s.suite.overhead() }

// Seal appends a record that carries payload to dst, and uses up a sequence number.
// payload may have up to MaxPlaintext bytes (else ErrTooLong) and must not overlap
// dst. Once no number is left it is ErrExhausted: the session must end.
func (s *Session) Seal(dst []byte, t Type, payload []byte) ([]byte, error) {
	if len(payload) > MaxPlaintext {
		return dst, ErrTooLong
	}
	for slices.Contains(s.used, s.next) {
		s.next++
	}
	if s.next > MaxSequence {
		return dst, ErrExhausted
	}
	p, err := s.protection()
	if err != nil {
		return dst, err
	}
	sequence := s.next
	s.next++ // also if sealing failed half-way: a number is never used again
	return p.seal(dst, t, s.epoch, sequence, payload)
}

// Open appends the payload of a record to dst, which must not overlap the record;
// the record stays as it was, also when it proves not to be the session's. Only a
// record whose MAC held is entered into the replay window.
func (s *Session) Open(dst []byte, r Record) ([]byte, error) {
	if r.Epoch != s.epoch || r.Type == ChangeCipherSpec {
		return dst, ErrEpoch // a ChangeCipherSpec is never sent under the new cipher
	}
	if !s.seen.Fresh(r.Sequence) {
		return dst, ErrReplay
	}
	p, err := s.protection()
	if err != nil {
		return dst, err
	}
	opened, err := p.open(dst, r)
	if err != nil {
		return dst, err
	}
	if len(opened)-len(dst) > MaxPlaintext {
		return dst, ErrNotAuthentic
	}
	s.seen.See(r.Sequence)
	return opened, nil
}

// Format writes no secret, whatever the verb.
func (s Session) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.describe()) }

// LogValue has no secret.
func (s Session) LogValue() slog.Value { return slog.StringValue(s.describe()) }

func (s Session) describe() string {
	if s.suite == nil {
		return "record.Session{}"
	}
	return fmt.Sprintf("record.Session{suite %#04x, epoch %d}", uint16(s.suite.id), s.epoch)
}

// Format writes no secret, whatever the verb.
func (c Config) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.describe()) }

// LogValue has no secret.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.describe()) }

func (c Config) describe() string {
	return fmt.Sprintf("record.Config{suite %#04x, epoch %d}", uint16(c.Suite), c.Epoch)
}

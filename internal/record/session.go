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

// Session is the state of an established session's records: secrets and numbers.
// Keys and ciphers are made of them on use and dropped by Rest, so that at rest it is
// small. It is not safe for concurrent use.
type Session struct {
	suite                      *suite
	masterSecret               [masterSecretSize]byte
	clientRandom, serverRandom Random
	epoch                      uint16
	isClient                   bool
	next                       uint64    // the sequence number of the next record that we seal
	used                       *[]uint64 // Config.Used; nil: none
	seen                       Window
	active                     protection // nil at rest
}

const masterSecretSize = 48 // bytes (RFC 5246 section 8.1)

// New makes the session of a handshake. Its window is empty.
func New(c Config) (*Session, error) {
	s := &Session{
		suite:        suiteByID(c.Suite),
		clientRandom: c.ClientRandom,
		serverRandom: c.ServerRandom,
		isClient:     c.IsClient,
		epoch:        c.Epoch,
		next:         c.NextSequence,
		seen:         NewWindow(c.ReplayWindow),
	}
	switch {
	case s.suite == nil:
		return nil, fmt.Errorf("dsm: cipher suite %#04x is not supported", uint16(c.Suite))
	case len(c.MasterSecret) != masterSecretSize:
		return nil, errors.New("dsm: a master secret has 48 bytes")
	case c.Epoch == 0:
		return nil, errors.New("dsm: epoch 0 is plaintext")
	}
	copy(s.masterSecret[:], c.MasterSecret)
	if len(c.Used) > 0 {
		used := slices.Clone(c.Used)
		s.used = &used
	}
	return s, nil
}

// Config returns what New needs for such a session, as it is now but for the window.
func (s *Session) Config() Config {
	c := Config{
		Suite: s.suite.id, MasterSecret: slices.Clone(s.masterSecret[:]), ClientRandom: s.clientRandom, ServerRandom: s.serverRandom,
		IsClient: s.isClient, Epoch: s.epoch, NextSequence: s.next, ReplayWindow: int(s.seen.size),
	}
	if s.used != nil {
		c.Used = slices.Clone(*s.used)
	}
	return c
}

// protection derives the keys (RFC 5246 section 6.3) and builds the ciphers, if they
// are not there.
func (s *Session) protection() (protection, error) {
	if s.active != nil {
		return s.active, nil
	}
	k, err := prf.GenerateEncryptionKeys(s.masterSecret[:], s.clientRandom[:], s.serverRandom[:],
		s.suite.macLen, s.suite.keyLen, s.suite.ivLen(), s.suite.prf)
	if err != nil {
		return nil, err
	}
	local := halfKeys{k.ServerMACKey, k.ServerWriteKey, k.ServerWriteIV}
	remote := halfKeys{k.ClientMACKey, k.ClientWriteKey, k.ClientWriteIV}
	if s.isClient {
		local, remote = remote, local
	}
	s.active, err = s.suite.protect(local, remote)
	return s.active, err
}

// Rest drops keys and ciphers; the next record makes them anew.
func (s *Session) Rest() { s.active = nil }

// ClientRandom is Config.ClientRandom. It may be called concurrently.
func (s *Session) ClientRandom() Random { return s.clientRandom }

// Overhead is how many bytes a record can have beside its payload.
func (s *Session) Overhead() int { return HeaderSize + s.suite.overhead() }

// Seal appends a record that carries payload to dst, and uses up a sequence number.
// payload may have up to MaxPlaintext bytes (else ErrTooLong) and must not overlap
// dst. Once no number is left it is ErrExhausted: the session must end.
func (s *Session) Seal(dst []byte, t Type, payload []byte) ([]byte, error) {
	if len(payload) > MaxPlaintext {
		return dst, ErrTooLong
	}
	for s.used != nil && slices.Contains(*s.used, s.next) {
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

// OpenOwn opens a record that we have sealed, or that was sealed with our keys before
// they were ours. It changes nothing.
func (s *Session) OpenOwn(r Record) ([]byte, error) {
	p, err := s.protection()
	if err != nil {
		return nil, err
	}
	return p.openOwn(r)
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

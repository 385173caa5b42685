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
	ReplayWindow               int    // records; at least 64 are remembered
}

// Session is the state of an established session's records: secrets and numbers.
// Keys and ciphers are made of them on use and dropped by Rest, so that at rest it is
// small. It is not safe for concurrent use.
type Session struct {
	suite                      uint8 // an index into suites
	isClient                   bool
	epoch                      uint16
	masterSecret               [masterSecretSize]byte
	clientRandom, serverRandom Random
	next                       uint64 // the sequence number of the next record that we seal
	seen                       Window
	active                     *ciphers // nil at rest
}

// ciphers are a protection behind a plain pointer, which is smaller.
type ciphers struct{ protection }

// LastSequence is the last sequence number that a Session seals a record with. RFC
// 6347 section 4.1.0 would allow 2^48-1; with 2^40 less than one nonce in a million
// that another drew at random, for the same key and epoch, is ever reached.
const LastSequence = 1<<40 - 1

const masterSecretSize = 48 // bytes (RFC 5246 section 8.1)

// New makes the session of a handshake. Its window is empty.
func New(c Config) (*Session, error) {
	s := &Session{
		clientRandom: c.ClientRandom,
		serverRandom: c.ServerRandom,
		isClient:     c.IsClient,
		epoch:        c.Epoch,
		next:         c.NextSequence,
		seen:         NewWindow(c.ReplayWindow),
	}
	i := suiteIndex(c.Suite)
	switch {
	case i < 0:
		return nil, fmt.Errorf("dsm: cipher suite %#04x is not supported", uint16(c.Suite))
	case len(c.MasterSecret) != masterSecretSize:
		return nil, errors.New("dsm: a master secret has 48 bytes")
	case c.Epoch == 0:
		return nil, errors.New("dsm: epoch 0 is plaintext")
	}
	s.suite = uint8(i)
	copy(s.masterSecret[:], c.MasterSecret)
	return s, nil
}

// Config returns what New needs for such a session, as it is now but for the window.
func (s *Session) Config() Config {
	return Config{
		Suite: suites[s.suite].id, MasterSecret: slices.Clone(s.masterSecret[:]), ClientRandom: s.clientRandom, ServerRandom: s.serverRandom,
		IsClient: s.isClient, Epoch: s.epoch, NextSequence: s.next, ReplayWindow: int(s.seen.size()),
	}
}

// protection derives the keys (RFC 5246 section 6.3) and builds the ciphers, if they
// are not there.
func (s *Session) protection() (protection, error) {
	if s.active != nil {
		return s.active, nil
	}
	suite := &suites[s.suite]
	k, err := prf.GenerateEncryptionKeys(s.masterSecret[:], s.clientRandom[:], s.serverRandom[:],
		suite.macLen, suite.keyLen, suite.ivLen(), suite.prf)
	if err != nil {
		return nil, err
	}
	local := halfKeys{k.ServerMACKey, k.ServerWriteKey, k.ServerWriteIV}
	remote := halfKeys{k.ClientMACKey, k.ClientWriteKey, k.ClientWriteIV}
	if s.isClient {
		local, remote = remote, local
	}
	p, err := suite.protect(local, remote)
	if err != nil {
		return nil, err
	}
	s.active = &ciphers{p}
	return p, nil
}

// Rest drops keys and ciphers; the next record makes them anew.
func (s *Session) ReleaseCiphers() { s.active = nil }

// ClientRandom is Config.ClientRandom. It may be called concurrently.
func (s *Session) ClientRandom() Random { return s.clientRandom }

// StartAt has the records that we seal begin at a number.
func (s *Session) SetNextSequence(next uint64) { s.next = next }

// Overhead is how many bytes a record can have beside its payload.
func (s *Session) Overhead() int { return HeaderSize + suites[s.suite].overhead() }

// Seal appends a record that carries payload to dst, and uses up a sequence number.
// payload may have up to MaxPlaintext bytes (else ErrTooLong) and must not overlap
// dst. Once no number is left it is ErrExhausted: the session must end.
func (s *Session) Seal(dst []byte, t Type, payload []byte) ([]byte, error) {
	if len(payload) > MaxPlaintext {
		return dst, ErrTooLong
	}
	last := uint64(LastSequence)
	if t == TypeAlert {
		last++ // to say that it is over
	}
	if s.next > last {
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
	opened, err := s.open(dst, r)
	if err == nil {
		s.seen.See(r.Sequence)
	}
	return opened, err
}

// Peek is Open, and changes nothing: the record can still be opened.
func (s *Session) Peek(r Record) ([]byte, error) { return s.open(nil, r) }

func (s *Session) open(dst []byte, r Record) ([]byte, error) {
	if r.Epoch != s.epoch || r.Type == TypeChangeCipherSpec {
		return dst, ErrEpoch // a ChangeCipherSpec is never sent under the new cipher
	}
	if !s.seen.Fresh(r.Sequence) {
		return dst, ErrReplay
	}
	if len(r.Fragment()) < suites[s.suite].minimum() {
		return dst, ErrNotAuthentic // before ciphers are built for it
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
	if s.epoch == 0 {
		return "record.Session{}"
	}
	return fmt.Sprintf("record.Session{suite %#04x, epoch %d}", uint16(suites[s.suite].id), s.epoch)
}

// Format writes no secret, whatever the verb.
func (c Config) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.describe()) }

// LogValue has no secret.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.describe()) }

func (c Config) describe() string {
	return fmt.Sprintf("record.Config{suite %#04x, epoch %d}", uint16(c.Suite), c.Epoch)
}

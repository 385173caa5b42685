// SPDX-License-Identifier: MIT

package record

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
)

// The errors of Open and Seal. Only ErrExhausted ends a session. Anybody can send a
// record that causes ErrEpoch, ErrConnectionID, ErrReplay or ErrNotAuthentic, so such a
// record is dropped without an answer (RFC 6347 section 4.1.2.7). ErrNotAuthentic does not
// distinguish a wrong MAC from wrong padding.
var (
	ErrEpoch        = errors.New("dsm: record of another epoch")
	ErrConnectionID = errors.New("dsm: record without the session's connection ID")
	ErrReplay       = errors.New("dsm: record seen before, or older than the replay window")
	ErrNotAuthentic = errors.New("dsm: record is not the peer's")
	ErrTooLong      = errors.New("dsm: payload is longer than a record can carry")
	ErrExhausted    = errors.New("dsm: no sequence number left")
	ErrFrozen       = errors.New("dsm: session is being taken over")
)

// LastSequence is the last sequence number with which a Session seals a record; a final
// alert may have the number after it (RFC 6347 section 4.1).
const LastSequence = MaxSequence - 1

const masterSecretSize = 48 // bytes (RFC 5246 section 8.1)

// Config holds the results of a handshake that the record layer needs. Packages fmt and
// log/slog print it without secrets.
type Config struct {
	Suite                      SuiteID
	MasterSecret               []byte // 48 bytes
	ClientRandom, ServerRandom Random
	IsClient                   bool
	Epoch                      uint16 // of both directions
	NextSequence               uint64 // of the next record to seal
	ReplayWindow               int    // size in sequence numbers; the minimum is 64
	// ConnectionID is the ID in the peer's records, PeerConnectionID the ID in the records
	// to the peer (RFC 9146). Each has at most 255 bytes. Empty: records of that direction
	// have no ID.
	ConnectionID, PeerConnectionID []byte
}

// Session is the record layer of an established session: its secrets, the next sequence
// number and the replay window. The ciphers are built from the secrets on first use and
// dropped by ReleaseCiphers, so an idle session takes little memory. [New] makes a
// Session. It is not safe for concurrent use. Packages fmt and log/slog print it without
// secrets.
type Session struct {
	suite                      uint8 // an index of suites
	isClient                   bool
	epoch                      uint16
	reserved                   uint32 // units of sequence numbers that may be used: see Reserve
	masterSecret               [masterSecretSize]byte
	clientRandom, serverRandom Random
	nextSequence               uint64         // of the next record to seal; with frozen: none may be sealed
	window                     Window         // of the records opened
	ciphers                    *ciphers       // nil until they are used and after ReleaseCiphers
	ids                        *connectionIDs // nil: no direction has an ID
}

// New returns the session of a completed handshake, with an empty replay window.
func New(c Config) (*Session, error) {
	s := &Session{
		clientRandom: c.ClientRandom,
		serverRandom: c.ServerRandom,
		isClient:     c.IsClient,
		epoch:        c.Epoch,
		nextSequence: c.NextSequence,
		reserved:     Unlimited,
		window:       NewWindow(c.ReplayWindow),
	}
	i := suiteIndex(c.Suite)
	switch {
	case i < 0:
		return nil, fmt.Errorf("dsm: cipher suite %#04x is not supported", uint16(c.Suite))
	case len(c.MasterSecret) != masterSecretSize:
		return nil, errors.New("dsm: a master secret has 48 bytes")
	case c.Epoch == 0:
		return nil, errors.New("dsm: epoch 0 is plaintext")
	case len(c.ConnectionID) > maxConnectionID || len(c.PeerConnectionID) > maxConnectionID:
		return nil, errConnectionIDTooLong
	}
	s.SetConnectionIDs(c.ConnectionID, c.PeerConnectionID)
	s.suite = uint8(i)
	copy(s.masterSecret[:], c.MasterSecret)
	return s, nil
}

// Config returns the configuration with which New makes a session that continues this
// one. The marks of the replay window are not part of it.
func (s *Session) Config() Config {
	return Config{
		Suite: suites[s.suite].id, MasterSecret: slices.Clone(s.masterSecret[:]), ClientRandom: s.clientRandom, ServerRandom: s.serverRandom,
		IsClient: s.isClient, Epoch: s.epoch, NextSequence: s.NextSequence(), ReplayWindow: int(s.window.size()),
		ConnectionID: slices.Clone(s.ConnectionID()), PeerConnectionID: slices.Clone(s.PeerConnectionID()),
	}
}

// ClientRandom returns Config.ClientRandom. It may be called concurrently with any
// method.
func (s *Session) ClientRandom() Random { return s.clientRandom }

// IsClient returns Config.IsClient.
func (s *Session) IsClient() bool { return s.isClient }

// SetNextSequence sets the sequence number of the next record to seal. A frozen session stays
// frozen.
func (s *Session) SetNextSequence(next uint64) { s.nextSequence = s.nextSequence&frozen | next }

// NextSequence returns the sequence number of the next record to seal.
func (s *Session) NextSequence() uint64 { return s.nextSequence &^ frozen }

// Overhead returns the maximum difference between the length of a record and the
// length of its payload, in bytes.
func (s *Session) Overhead() int {
	id := len(s.PeerConnectionID())
	return HeaderSize + id + suites[s.suite].overhead() + innerOverhead(id)
}

// MaxPayload returns the maximum length of a payload for Seal, in bytes. The type that a
// record with a connection ID seals counts as plaintext (RFC 9146 section 5).
func (s *Session) MaxPayload() int { return MaxPlaintext - innerOverhead(len(s.PeerConnectionID())) }

// HasCiphers reports whether the session holds ciphers.
func (s *Session) HasCiphers() bool { return s.ciphers != nil }

// ReleaseCiphers drops the ciphers and their keys. The next record builds them again.
func (s *Session) ReleaseCiphers() { s.ciphers = nil }

// buildCiphers returns the ciphers of the session. If there are none, it derives the
// keys (RFC 5246 section 6.3) and builds them.
func (s *Session) buildCiphers() (*ciphers, error) {
	if s.ciphers != nil {
		return s.ciphers, nil
	}
	suite := &suites[s.suite]
	remote, local := suite.keyBlock(s.masterSecret[:], s.clientRandom, s.serverRandom)
	if s.isClient {
		local, remote = remote, local
	}
	c, err := suite.newCiphers(local, remote)
	if err != nil {
		return nil, err
	}
	s.ciphers = c
	return c, nil
}

// Seal appends a record with the payload to dst and uses one sequence number. The
// payload has at most MaxPayload bytes, otherwise the error is ErrTooLong. It must not
// overlap dst. ErrExhausted means that no sequence number is left, or none of those that
// Reserve allows: the session must end. One more number is kept for an alert. ErrFrozen
// means that Freeze was called.
func (s *Session) Seal(dst []byte, t Type, payload []byte) ([]byte, error) {
	if len(payload) > s.MaxPayload() {
		return dst, ErrTooLong
	}
	last := uint64(s.reserved)<<unitBits - 2 // LastSequence if all are allowed
	if t == TypeAlert {
		last++ // for close_notify after ErrExhausted
	}
	if s.nextSequence > last {
		if s.nextSequence&frozen != 0 {
			return dst, ErrFrozen
		}
		return dst, ErrExhausted
	}
	c, err := s.buildCiphers()
	if err != nil {
		return dst, err
	}
	sequence := s.nextSequence
	s.nextSequence++ // before an error of seal, which may have used the number
	return appendSealed(c.local, dst, t, s.epoch, sequence, s.PeerConnectionID(), payload), nil
}

// Open appends the payload of a record to dst, which must not overlap the record, and
// returns its type: for a record of TypeConnectionID the type that was sealed with the
// payload, which can be any value but 0. The bytes of the record are not changed, whether
// it is authentic or not. The sequence number is marked in the replay window only if the
// record is authentic (RFC 6347 section 4.1.2.6).
func (s *Session) Open(dst []byte, r Record) (payload []byte, t Type, err error) {
	payload, t, err = s.openPeers(dst, r)
	if err == nil {
		s.window.Mark(r.Sequence)
	}
	return payload, t, err
}

// Peek is Open without the mark in the replay window: the record can still be opened.
func (s *Session) Peek(r Record) (payload []byte, t Type, err error) { return s.openPeers(nil, r) }

func (s *Session) openPeers(dst []byte, r Record) ([]byte, Type, error) {
	// A session does not renegotiate, so its epoch has no ChangeCipherSpec.
	if r.Epoch != s.epoch || r.Type == TypeChangeCipherSpec {
		return dst, 0, ErrEpoch
	}
	if !s.window.Check(r.Sequence) {
		return dst, 0, ErrReplay
	}
	return s.open(dst, r, s.ConnectionID(), (*ciphers).ofPeer)
}

// OpenOwn returns the payload and the type of a record that was sealed with the session's
// own keys: by Seal, or by the handshake. It changes neither the sequence number nor the
// replay window.
func (s *Session) OpenOwn(r Record) (payload []byte, t Type, err error) {
	return s.open(nil, r, s.PeerConnectionID(), (*ciphers).own)
}

// open opens a record of one direction, which has the connection ID.
func (s *Session) open(dst []byte, r Record, id []byte, direction func(*ciphers) protection) ([]byte, Type, error) {
	if !hasID(r, id) {
		return dst, 0, ErrConnectionID
	}
	// A record that is too short costs no ciphers.
	if len(r.Fragment()) < suites[s.suite].minFragment(innerOverhead(len(id))) {
		return dst, 0, ErrNotAuthentic
	}
	c, err := s.buildCiphers()
	if err != nil {
		return dst, 0, err
	}
	opened, ok := direction(c).open(dst, r)
	if !ok {
		return dst, 0, ErrNotAuthentic
	}
	if len(opened)-len(dst) > MaxPlaintext {
		return dst, 0, ErrNotAuthentic
	}
	t := r.Type
	if len(id) > 0 {
		if opened, t = splitInner(opened, len(dst)); t == 0 {
			return dst, 0, ErrNotAuthentic
		}
	}
	return opened, t, nil
}

// SealAsPeer appends a record as the peer would seal it: with the peer's keys, the
// connection ID of the peer's records, and the given sequence number. It is for a handshake
// that runs in this process, and no such record goes to the network.
func (s *Session) SealAsPeer(dst []byte, t Type, sequence uint64, payload []byte) ([]byte, error) {
	c, err := s.buildCiphers()
	if err != nil {
		return dst, err
	}
	return appendSealed(c.remote, dst, t, s.epoch, sequence, s.ConnectionID(), payload), nil
}

// VerifyDataSize is the length of a Finished message's verify_data, in bytes, with each
// cipher suite of the package (RFC 5246 section 7.4.9).
const VerifyDataSize = 12

// ClientVerifyData returns the verify_data of the client's Finished after a transcript
// with the given hash (RFC 5246 section 7.4.9).
func (s *Session) ClientVerifyData(transcript []byte) []byte {
	seed := slices.Concat([]byte("client finished"), transcript)
	return pHash(suites[s.suite].prf, s.masterSecret[:], seed, VerifyDataSize)
}

// Format implements [fmt.Formatter]. It prints no secret with any verb.
func (s Session) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.describe()) }

// LogValue implements [slog.LogValuer]. The value contains no secret.
func (s Session) LogValue() slog.Value { return slog.StringValue(s.describe()) }

func (s Session) describe() string {
	if s.epoch == 0 { // the zero Session has no suite
		return "record.Session{}"
	}
	return fmt.Sprintf("record.Session{suite %#04x, epoch %d}", uint16(suites[s.suite].id), s.epoch)
}

// Format implements [fmt.Formatter]. It prints no secret with any verb.
func (c Config) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.describe()) }

// LogValue implements [slog.LogValuer]. The value contains no secret.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.describe()) }

func (c Config) describe() string {
	return fmt.Sprintf("record.Config{suite %#04x, epoch %d}", uint16(c.Suite), c.Epoch)
}

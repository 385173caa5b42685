// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/resume"
)

// The version of the marshalled form of a session is its first byte. The second version is of
// listeners that give connection IDs.
const (
	stateVersion        = 1
	stateVersionWithIDs = 2
)

// Bits of a marshalled session.
const (
	stateExtendedMasterSecret = 1 << iota
	stateInterrupted
	stateFlight
	stateResumable
	stateResumed
	stateRoutabilityCheck
)

var (
	// errState is the error of unmarshalling what MarshalBinary has not written.
	errState = errors.New("dsm: not a session state")
	// errNoState is the error for the zero SessionState.
	errNoState = errors.New("dsm: the zero SessionState holds no session")
)

// MarshalBinary implements [encoding.BinaryMarshaler]. The result holds the session's secrets
// in the clear. It is an error if the SessionState is zero or was attached.
func (s SessionState) MarshalBinary() ([]byte, error) {
	switch {
	case s.state == nil:
		return nil, errNoState
	case s.state.used.Load():
		return nil, ErrStateUsed
	}
	return s.state.append(nil), nil
}

// UnmarshalBinary implements [encoding.BinaryUnmarshaler]. It takes what MarshalBinary has
// returned, in this version of the format, and nothing else. It keeps nothing of data.
func (s *SessionState) UnmarshalBinary(data []byte) error {
	state, err := parseState(data)
	if err != nil {
		return err
	}
	s.state = state
	return nil
}

// append appends the marshalled form.
func (s *sessionState) append(b []byte) []byte {
	if s.givesIDs {
		b = append(b, stateVersionWithIDs)
	} else {
		b = append(b, stateVersion)
	}
	b = append(b, s.id[:]...)
	b = appendVector(b, 1, func(b []byte) []byte { return must(s.peer.AppendBinary(b)) })
	b = appendVector(b, 1, func(b []byte) []byte { return must(s.source.AppendBinary(b)) })
	b = append(b, s.socket)
	b = appendVector(b, 2, s.records.AppendState)
	b = appendBytes(b, 1, []byte(s.scope))
	b = append(b, s.tag[:]...)
	b = appendBytes(b, 2, s.identity.PSKIdentity)
	b = appendVector(b, 3, func(b []byte) []byte {
		for _, der := range s.identity.Certificates {
			b = appendBytes(b, 3, der)
		}
		return b
	})
	b = appendTime(b, s.identity.Verified)
	b = appendBytes(b, 1, []byte(s.identity.Protocol))
	b = appendBytes(b, 2, []byte(s.identity.ServerName))
	b = appendTime(b, s.lastUsed)
	b = appendBytes(b, 1, s.connectionID)
	b = appendBytes(b, 1, s.peerConnectionID)
	if s.givesIDs {
		b = append(b, s.idKey[:]...)
		b = binary.BigEndian.AppendUint32(b, s.slot)
		b = binary.BigEndian.AppendUint32(b, s.generation)
	}
	b = append(b, s.flags())
	if s.flight != (finalFlight{}) {
		b = binary.BigEndian.AppendUint64(b, uint64(s.flight.nextPlaintext))
		b = append(b, s.flight.finished()...)
	}
	if s.resumable {
		b = appendBytes(b, 1, []byte(s.sessionID))
		b = appendTime(b, s.created)
		b = appendTime(b, s.expires)
		b = appendBytes(b, 2, s.data)
	}
	return appendVector(b, 3, func(b []byte) []byte {
		for _, datagram := range s.unread {
			b = appendBytes(b, 2, datagram)
		}
		return b
	})
}

func (s *sessionState) flags() (flags byte) {
	add := func(bit byte, set bool) {
		if set {
			flags |= bit
		}
	}
	add(stateExtendedMasterSecret, s.extendedMasterSecret)
	add(stateInterrupted, s.interrupted)
	add(stateFlight, s.flight != finalFlight{})
	add(stateResumable, s.resumable)
	add(stateResumed, s.resumable && s.resumed)
	add(stateRoutabilityCheck, s.routabilityCheck)
	return flags
}

// parseState parses the marshalled form of a session. What it returns shares no memory with
// data. Each session has one marshalled form: what parseState accepts is what append would
// write.
func parseState(data []byte) (*sessionState, error) {
	if len(data) > 0 && data[0] != stateVersion && data[0] != stateVersionWithIDs {
		return nil, fmt.Errorf("dsm: a session state of version %d: want %d or %d", data[0], stateVersion, stateVersionWithIDs)
	}
	r := stateReader{rest: data}
	s := &sessionState{}
	s.givesIDs = r.byte() == stateVersionWithIDs
	copy(s.id[:], r.take(len(s.id)))
	r.check(s.peer.UnmarshalBinary(r.vector(1)))
	r.check(s.source.UnmarshalBinary(r.vector(1)))
	s.socket = r.byte()
	s.records = r.records()
	s.scope = string(r.vector(1))
	copy(s.tag[:], r.take(len(s.tag)))
	s.identity.PSKIdentity = r.bytes(2)
	for chain := (stateReader{rest: r.vector(3)}); len(chain.rest) > 0 && r.err == nil; r.check(chain.err) {
		der := chain.bytes(3)
		if der == nil {
			chain.check(errState)
		}
		s.identity.Certificates = append(s.identity.Certificates, der)
	}
	s.identity.Verified = r.time()
	s.identity.Protocol = string(r.vector(1))
	s.identity.ServerName = string(r.vector(2))
	s.lastUsed = r.time()
	s.connectionID, s.peerConnectionID = r.bytes(1), r.bytes(1)
	if s.givesIDs {
		copy(s.idKey[:], r.take(len(s.idKey)))
		s.slot, s.generation = binary.BigEndian.Uint32(r.take(4)), binary.BigEndian.Uint32(r.take(4))
	}
	flags := r.byte()
	s.routabilityCheck = flags&stateRoutabilityCheck != 0
	s.extendedMasterSecret, s.interrupted = flags&stateExtendedMasterSecret != 0, flags&stateInterrupted != 0
	if flags&stateFlight != 0 {
		s.flight = finalFlightOf(r.uint64(), r.take(finishedSize))
	}
	s.resumable, s.resumed = flags&stateResumable != 0, flags&stateResumed != 0
	if s.resumable {
		s.sessionID = string(r.vector(1))
		s.created, s.expires = r.time(), r.time()
		s.data = r.bytes(2)
	}
	for unread := (stateReader{rest: r.vector(3)}); len(unread.rest) > 0 && r.err == nil; r.check(unread.err) {
		if len(s.unread) == maxUnreadDatagrams {
			unread.check(errState)
		}
		s.unread = append(s.unread, unread.bytes(2))
	}
	switch {
	case r.err != nil:
		return nil, r.err
	case len(r.rest) != 0 || flags != s.flags() || !s.isSound():
		return nil, errState
	}
	return s, nil
}

// isSound reports whether the fields have values that a session can have.
func (s *sessionState) isSound() bool {
	return s.peer.IsValid() && s.peer.Port() != 0 && !s.peer.Addr().Is4In6() && !s.source.Is4In6() &&
		(s.flight == finalFlight{} || s.flight.nextPlaintext != 0) && len(s.data) <= resume.MaxData &&
		!s.records.IsClient() && (s.givesIDs || len(s.connectionID)+len(s.peerConnectionID) == 0) &&
		(!s.routabilityCheck || len(s.connectionID) > 0)
}

// stateReader reads the parts of a marshalled session. After an error it returns zeros.
type stateReader struct {
	rest []byte
	err  error
}

func (r *stateReader) check(err error) {
	if r.err == nil && err != nil {
		r.err, r.rest = errState, nil
	}
}

func (r *stateReader) take(n int) []byte {
	if len(r.rest) < n {
		r.check(errState)
		return make([]byte, n)
	}
	taken := r.rest[:n:n]
	r.rest = r.rest[n:]
	return taken
}

func (r *stateReader) byte() byte     { return r.take(1)[0] }
func (r *stateReader) uint64() uint64 { return binary.BigEndian.Uint64(r.take(8)) }

// vector reads bytes with their number in front of them, which has size bytes. It returns nil
// if there are none.
func (r *stateReader) vector(size int) []byte {
	read := record.ReadVector8
	switch size {
	case 2:
		read = record.ReadVector16
	case 3:
		read = record.ReadVector24
	}
	v, ok := read(&r.rest)
	if !ok {
		r.check(errState)
	}
	if len(v) == 0 {
		return nil
	}
	return v
}

// bytes is vector with a copy, so that a session which keeps one part does not keep all of its
// marshalled form in memory.
func (r *stateReader) bytes(size int) []byte { return bytes.Clone(r.vector(size)) }

// time reads a time in Unix milliseconds. Zero is the zero time.
func (r *stateReader) time() time.Time {
	ms := int64(r.uint64())
	if ms == 0 {
		return time.Time{}
	}
	t := time.UnixMilli(ms).UTC()
	if t.IsZero() { // which has another form
		r.check(errState)
	}
	return t
}

func (r *stateReader) records() *record.Session {
	s, err := record.ParseState(r.vector(2))
	r.check(err)
	return s
}

// appendVector appends what f appends, with its length in front of it, which has size bytes.
func appendVector(b []byte, size int, f func([]byte) []byte) []byte {
	start := len(b) + size
	b = f(append(b, make([]byte, size)...))
	for i, n := start-1, len(b)-start; i >= start-size; i, n = i-1, n>>8 {
		b[i] = byte(n)
	}
	return b
}

func appendBytes(b []byte, size int, v []byte) []byte {
	return appendVector(b, size, func(b []byte) []byte { return append(b, v...) })
}

func appendTime(b []byte, t time.Time) []byte {
	var ms int64
	if !t.IsZero() {
		ms = t.UnixMilli()
	}
	return binary.BigEndian.AppendUint64(b, uint64(ms))
}

// must is for the marshalling of addresses, which never fails.
func must(b []byte, err error) []byte {
	if err != nil {
		panic("dsm: an address cannot be marshalled: " + err.Error())
	}
	return b
}

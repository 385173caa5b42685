// SPDX-License-Identifier: MIT

package record

import (
	"encoding/binary"
	"errors"
	"slices"
)

// maxWindowWords bounds the ring of a replay window that ParseState accepts: a window of
// 65 536 sequence numbers.
const maxWindowWords = 1<<16/64 + 1

// ErrState is the error of ParseState for what AppendState has not written.
var ErrState = errors.New("dsm: not the state of a record layer")

// AppendState appends what another Session needs to go on where this one is, replay window
// and secrets included. The ceiling of Reserve is not part of it.
func (s *Session) AppendState(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(suites[s.suite].id))
	b = append(b, boolByte(s.isClient))
	b = binary.BigEndian.AppendUint16(b, s.epoch)
	b = append(b, s.masterSecret[:]...)
	b = append(b, s.clientRandom[:]...)
	b = append(b, s.serverRandom[:]...)
	b = binary.BigEndian.AppendUint64(b, s.NextSequence())
	b = binary.BigEndian.AppendUint64(b, s.window.next)
	ring := s.window.ring()
	b = binary.BigEndian.AppendUint16(b, uint16(len(ring)))
	for _, word := range ring {
		b = binary.BigEndian.AppendUint64(b, word)
	}
	return b
}

// ParseState returns the Session whose state AppendState has written: b has nothing else.
// Any other input is ErrState.
func ParseState(b []byte) (*Session, error) {
	const fixed = 2 + 1 + 2 + masterSecretSize + 2*len(Random{}) + 8 + 8 + 2
	if len(b) < fixed || b[2] > 1 {
		return nil, ErrState
	}
	c := Config{
		Suite: SuiteID(binary.BigEndian.Uint16(b)), IsClient: b[2] == 1, Epoch: binary.BigEndian.Uint16(b[3:]),
		MasterSecret: b[5:][:masterSecretSize],
	}
	rest := b[5+masterSecretSize:]
	rest = rest[copy(c.ClientRandom[:], rest):]
	rest = rest[copy(c.ServerRandom[:], rest):]
	c.NextSequence = binary.BigEndian.Uint64(rest)
	next, words := binary.BigEndian.Uint64(rest[8:]), int(binary.BigEndian.Uint16(rest[16:]))
	rest = rest[18:]
	if c.NextSequence > MaxSequence+1 || next > MaxSequence+1 || words < len(Window{}.small) || words > maxWindowWords || len(rest) != 8*words {
		return nil, ErrState
	}
	c.ReplayWindow = (words - 1) * 64
	s, err := New(c)
	if err != nil {
		return nil, err
	}
	s.window.next = next
	ring := s.window.ring()
	for i := range ring {
		ring[i] = binary.BigEndian.Uint64(rest[8*i:])
	}
	if !s.window.isSound() {
		return nil, ErrState
	}
	return s, nil
}

// Highest returns one more than the highest sequence number that was received, and 0 if
// there is none.
func (s *Session) Highest() uint64 { return s.window.next }

// MarkBelow marks all sequence numbers below next as received: those that can have been.
func (s *Session) MarkBelow(next uint64) {
	s.window.next = max(s.window.next, next)
	ring := s.window.ring()
	for i := range ring {
		ring[i] = ^uint64(0)
	}
	s.window.clearAbove()
}

// isSound reports whether the window is one that Mark can have made: nothing is marked above
// the highest number, which is. Otherwise the window is not to be used.
func (w *Window) isSound() bool {
	marks := slices.Clone(w.ring())
	w.clearAbove()
	return slices.Equal(marks, w.ring()) && (w.next == 0 || !w.Check(w.next-1))
}

// clearAbove clears the marks of numbers from next on, and of words that were never reached.
func (w *Window) clearAbove() {
	ring := w.ring()
	n := uint64(len(ring))
	if w.next == 0 {
		clear(ring)
		return
	}
	last := w.next - 1
	ring[last/64%n] &= 1<<(last%64+1) - 1
	for word := last/64 + 1; word < n; word++ {
		ring[word] = 0
	}
}

func boolByte(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// SPDX-License-Identifier: MIT

package record

const (
	unitBits = 24 // of the sequence numbers of a unit
	// Unlimited is the number of units of all sequence numbers.
	Unlimited = 1 << (sequenceBits - unitBits)

	// frozen is a bit of Session.nextSequence above all sequence numbers. So one
	// comparison in Seal covers it.
	frozen = 1 << 63
)

// Reserve allows the sequence numbers below units times 2^24, and no others, for Seal. A
// crash then leaves no doubt about which numbers can have been used. units is at least 1
// and at most Unlimited, which every session starts with.
func (s *Session) Reserve(units uint32) { s.reserved = min(max(units, 1), Unlimited) }

// Reserved returns the units that Reserve has allowed.
func (s *Session) Reserved() uint32 { return s.reserved }

// UnitsFor returns how many units cover the next count sequence numbers, at most Unlimited.
func (s *Session) UnitsFor(count uint64) uint32 {
	return uint32(min((s.NextSequence()+count)>>unitBits+1, Unlimited))
}

// FirstAfter returns the first sequence number that a number of units does not cover.
func FirstAfter(units uint32) uint64 { return uint64(units) << unitBits }

// Freeze keeps the session from sealing: its next sequence number is another one's to
// use. Thaw takes that back.
func (s *Session) Freeze() { s.nextSequence |= frozen }

// Thaw ends what Freeze began.
func (s *Session) Thaw() { s.nextSequence &^= frozen }

// IsFrozen reports whether Freeze was called.
func (s *Session) IsFrozen() bool { return s.nextSequence&frozen != 0 }

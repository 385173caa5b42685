// SPDX-License-Identifier: MIT

package dsm

import "sync"

// Handle refers to one session of a table. Hold, HoldAt, Admit and At return
// handles. The methods of a Handle need no lookup of the session. A handle whose
// session has left the table has no effect, even if the same peer has a new session
// or another session has taken the slot. (Each session of a slot has the next
// generation, or the one that HoldAt was given. The generation wraps around after
// 2^32-1.)
//
// A Handle may be copied, compared with == and used concurrently. The zero Handle
// refers to no session.
type Handle[V any] struct {
	table *Table[V]
	slot  uint32
	gen   uint32
}

// handle returns a handle to a slot, or the zero Handle for slot 0.
func (t *Table[V]) handle(slot, gen uint32) Handle[V] {
	if slot == 0 {
		return Handle[V]{}
	}
	return Handle[V]{t, slot, gen}
}

// Slot returns the number of the session's slot, from 0 to MaxSlots()-1, or -1 for
// the zero Handle. No other session has this number before the session has left
// the table.
func (h Handle[V]) Slot() int { return int(h.slot) - 1 }

// Generation returns the number that tells the session from the earlier and later
// sessions of its slot, or 0 for the zero Handle. Slot and generation together
// identify the session, and At returns its handle.
func (h Handle[V]) Generation() uint32 { return h.gen }

// At returns the handle to the session that has or had the given slot, from 0 to
// MaxSlots()-1, in the given generation. It returns the zero Handle for any other
// slot. At does not check whether the table has the session; Get does. If the slot
// has not reached the generation yet, the handle has no effect until then.
func (t *Table[V]) At(slot int, generation uint32) Handle[V] {
	return t.handle(t.slotNumber(slot), generation)
}

// slotNumber returns the slot for a number as Handle.Slot returns it, or 0 if the
// table has no such slot.
func (t *Table[V]) slotNumber(slot int) uint32 {
	if slot < 0 || slot >= t.MaxSlots() {
		return 0
	}
	return uint32(slot + 1)
}

// Get returns a copy of the session and its state, or StateNone if the session has
// left the table. It does not count as use.
func (h Handle[V]) Get() (session Session[V], state State) {
	if h.table == nil {
		return session, StateNone
	}
	h.table.mu.Lock()
	if h.table.slots.current(h.slot, h.gen) {
		session, state = h.table.sessionLocked(h.slot), h.table.slots.state(h.slot)
	}
	h.table.mu.Unlock()
	return session, state
}

// Use marks the session as used now, as Store does. It returns false, and does
// nothing, if the session has left the table.
func (h Handle[V]) Use() bool {
	if h.table == nil {
		return false
	}
	return useSlot(&h.table.mu, &h.table.slots, h.slot, h.gen)
}

// useSlot marks slot i as used now if it holds the session of generation gen, and
// reports whether it does. It repeats the body of slots.use, which the compiler does
// not inline: the call would take a tenth of the time of Handle.Use.
func useSlot(mu *sync.Mutex, s *slots, i, gen uint32) bool {
	p := &s.array[i]
	mu.Lock()
	current := s.current(i, gen)
	if current {
		s.uses++
		if s.usesWait {
			s.wait(i)
		} else {
			s.nodes[i].lastUse = s.uses
			moveToNewest(s.nodes, s.listOfSlot(p), i)
		}
	}
	mu.Unlock()
	return current
}

// Free removes the session, as Remove does. It returns false, and does nothing, if
// the session has left the table.
func (h Handle[V]) Free() bool {
	if h.table == nil {
		return false
	}
	h.table.mu.Lock()
	current := h.table.slots.current(h.slot, h.gen)
	if current {
		h.table.stats.Removed++
		h.table.freeLocked(h.slot)
	}
	h.table.mu.Unlock()
	return current
}

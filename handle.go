// SPDX-License-Identifier: MIT

package dsm

import "sync"

// Handle refers to one session of a table. Hold and Admit return handles. The
// methods of a Handle need no lookup. A handle whose session has left the table
// has no effect, even if the same peer has a new session or another session has
// taken the slot. (The generation that tells the sessions of a slot apart wraps
// around after 2^32 sessions.)
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

// Use marks the session as used now, as Store does. It returns false, and does
// nothing, if the session has left the table.
func (h Handle[V]) Use() bool {
	if h.table == nil {
		return false
	}
	return useSlot(&h.table.mu, &h.table.slots, h.slot, h.gen)
}

// useSlot marks slot i as used now and reports whether its generation is gen. It
// repeats the body of slots.use, which the compiler does not inline: the call
// would take a tenth of the time of Handle.Use.
func useSlot(mu *sync.Mutex, s *slots, i, gen uint32) bool {
	p := &s.array[i]
	mu.Lock()
	current := p.gen == gen
	if current {
		s.uses++
		p.lastUse = s.uses
		moveToNewest(s.array, s.listOfSlot(p), i)
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
		h.table.freeLocked(h.table.slots.positionOf(h.slot), h.slot)
	}
	h.table.mu.Unlock()
	return current
}

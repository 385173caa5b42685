// SPDX-License-Identifier: MIT

package dsm

const (
	// maxWaiting is the number of uses that wait in a large table. The lock is held
	// for a few microseconds while they are brought into the lists.
	maxWaiting = 32
	// maxSlotsWithoutWaiting is the number of slots up to which no use waits, because
	// the caches of a core hold most of the table.
	maxSlotsWithoutWaiting = 8192
)

// use marks the session in a taken slot as used now.
//
// In a large table the neighbours of the slot in its list are rarely in the cache, and
// the unlocking of a mutex waits for the writes to them. So the use waits, and
// settleUses brings several uses into the lists together.
func (s *slots) use(i uint32) {
	s.uses++
	if s.usesWait {
		s.wait(i)
	} else {
		s.nodes[i].lastUse = s.uses
		moveToNewest(s.nodes, s.listOfSlot(&s.array[i]), i)
	}
}

// wait adds a use of slot i, which is the last use of the table, to the waiting ones.
func (s *slots) wait(i uint32) {
	s.waiting[s.numWaiting] = i
	if s.numWaiting++; s.numWaiting == maxWaiting {
		s.settleUses()
	}
}

// settleUses brings the waiting uses into the lists. What adds or removes a slot of a
// list, or needs its exact order, calls settleUses first. A walk calls it only at its
// start, because later uses make no difference to it.
func (s *slots) settleUses() {
	if s.numWaiting > 0 {
		s.settleWaiting()
	}
}

func (s *slots) settleWaiting() {
	// The first loop makes the processor load all neighbours at one time. The second
	// one would load one after the other.
	waiting := s.waiting[:s.numWaiting]
	var loaded uint32
	for _, i := range waiting {
		n := &s.nodes[i]
		loaded += s.nodes[n.prev].next + s.nodes[n.next].prev
	}
	s.loaded = loaded // The compiler must not remove the loop.
	lastUse := s.uses - uint64(s.numWaiting)
	for _, i := range waiting {
		lastUse++
		s.nodes[i].lastUse = lastUse
		moveToNewest(s.nodes, s.listOfSlot(&s.array[i]), i)
	}
	s.numWaiting = 0
}

// SPDX-License-Identifier: MIT

package dsm

// ring is a slot's place in a circular, doubly linked list of slots in the order
// of their last use. Where a list begins, its oldest slot, is known outside of
// it; the newest is the one before that. Both zero: the slot is in no such list
// (a free slot's place in allRing is the free list's).
type ring struct{ prev, next uint32 }

// The lists that a slot can be in. Walking either from its oldest slot, the
// access counter of the last use rises strictly.
const (
	allRing  = iota // every session of the table
	sockRing        // the established sessions of one sock
	numRings
)

// toNewest moves slot i to the newest end of a ring that it is in.
func toNewest(slots []slot, r int, oldest *uint32, i uint32) {
	at := &slots[i].rings[r]
	if i == *oldest {
		*oldest = at.next // the newest is the one before: it is enough to turn the ring
		return
	}
	slots[at.prev].rings[r].next = at.next
	slots[at.next].rings[r].prev = at.prev
	first := &slots[*oldest].rings[r]
	slots[first.prev].rings[r].next = i
	*at = ring{first.prev, *oldest}
	first.prev = i
}

// enter puts slot i at the newest end of a ring that it is not in.
func enter(slots []slot, r int, oldest *uint32, i uint32) {
	if *oldest == 0 {
		slots[i].rings[r] = ring{i, i}
		*oldest = i
		return
	}
	first := &slots[*oldest].rings[r]
	slots[i].rings[r] = ring{first.prev, *oldest}
	slots[first.prev].rings[r].next = i
	first.prev = i
}

// leave takes slot i out of a ring. What the slot itself says of its place is
// left for the caller to forget.
func leave(slots []slot, r int, oldest *uint32, i uint32) {
	at := slots[i].rings[r]
	if i == *oldest {
		*oldest = at.next
		if at.next == i {
			*oldest = 0
			return
		}
	}
	slots[at.prev].rings[r].next = at.next
	slots[at.next].rings[r].prev = at.prev
}

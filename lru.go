// SPDX-License-Identifier: MIT

package dsm

// ring is a slot's place in a circular, doubly linked list of slots. Where a
// list begins, the oldest use, is known outside of it; the newest use is the one
// before that. Both zero: the slot is in no such list.
type ring struct{ prev, next uint32 }

// The lists that a slot can be in.
const (
	allRing  = iota // every session of the table
	sockRing        // the established sessions of one sock
	numRings
)

// link is what the order of use knows of a slot. It is 32 bytes and has no
// pointer: two to a cache line, and nothing for the garbage collector to read.
type link struct {
	used  uint64         // the access counter at the last use; 0: the slot is free
	rings [numRings]ring // in sockRing if and only if the session is established
	sock  uint32         // the slot's sock, as an index into slots.socks
	gen   uint32         // how often the slot was freed: what tells handles apart
}

// order keeps slots by their last use. Invariants: walking a ring from its
// oldest slot, used rises strictly, and never above uses.
type order struct {
	uses   uint64 // the access counter: the number of uses so far
	oldest uint32 // where the ring of all sessions begins; 0: there is none
	links  []link // links[0] stands for "no slot"
}

// stamp gives slot i the next value of the access counter.
func (o *order) stamp(i uint32) {
	o.uses++
	o.links[i].used = o.uses
}

// toNewest moves slot i to the newest end of a ring that it is in. It returns
// the ring's oldest slot, which was given as oldest.
func (o *order) toNewest(r int, oldest, i uint32) uint32 {
	links := o.links
	at := links[i].rings[r]
	if i == oldest {
		return at.next // the newest is the one before the oldest: turn the ring
	}
	newest := links[oldest].rings[r].prev
	if i == newest {
		return oldest
	}
	links[at.prev].rings[r].next = at.next
	links[at.next].rings[r].prev = at.prev
	links[newest].rings[r].next = i
	links[oldest].rings[r].prev = i
	links[i].rings[r] = ring{prev: newest, next: oldest}
	return oldest
}

// insert puts slot i at the newest end of a ring that it is not in, and returns
// the ring's oldest slot.
func (o *order) insert(r int, oldest, i uint32) uint32 {
	if oldest == 0 {
		o.links[i].rings[r] = ring{prev: i, next: i}
		return i
	}
	newest := o.links[oldest].rings[r].prev
	o.links[i].rings[r] = ring{prev: newest, next: oldest}
	o.links[newest].rings[r].next = i
	o.links[oldest].rings[r].prev = i
	return oldest
}

// remove takes slot i out of a ring, and returns the ring's oldest slot, 0 when
// none is left.
func (o *order) remove(r int, oldest, i uint32) uint32 {
	at := o.links[i].rings[r]
	o.links[i].rings[r] = ring{}
	if at.next == i {
		return 0
	}
	o.links[at.prev].rings[r].next = at.next
	o.links[at.next].rings[r].prev = at.prev
	if i == oldest {
		return at.next
	}
	return oldest
}

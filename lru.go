// SPDX-License-Identifier: MIT

package dsm

// node is the node of a slot in a circular, doubly linked list of slots in the order of
// their last use. From the oldest slot along next, lastUse increases strictly. A list is
// represented by the number of its oldest slot, or 0 if it is empty; the newest slot is
// the one before the oldest.
//
// A taken slot is in exactly one list: the established sessions of its sock, or
// the half-open sessions of all socks. A second list over all sessions would make
// each use touch more cache lines, so All merges the lists instead. The free list
// is linked in the same way, in no order of use, so that HoldAt can take any slot.
//
// The nodes have an array of their own, because a change of a list touches the nodes of
// two other slots, and in a dense array these are more often in the cache.
type node struct {
	lastUse    uint64 // the access counter at the last use; 0: the slot is free
	prev, next uint32
}

// moveToNewest moves slot i, which is in the list, to the newest end.
func moveToNewest(nodes []node, oldest *uint32, i uint32) {
	l := &nodes[i]
	if i == *oldest {
		*oldest = l.next // The newest slot is the one before the oldest, so no link changes.
		return
	}
	nodes[l.prev].next = l.next
	nodes[l.next].prev = l.prev
	first := &nodes[*oldest]
	nodes[first.prev].next = i
	l.prev, l.next = first.prev, *oldest
	first.prev = i
}

// insertNewest inserts slot i, which is in no list, at the newest end.
func insertNewest(nodes []node, oldest *uint32, i uint32) {
	if *oldest == 0 {
		nodes[i].prev, nodes[i].next = i, i
		*oldest = i
		return
	}
	first := &nodes[*oldest]
	nodes[i].prev, nodes[i].next = first.prev, *oldest
	nodes[first.prev].next = i
	first.prev = i
}

// unlink removes slot i from the list. It leaves the node of slot i unchanged; the
// caller has to overwrite it.
func unlink(nodes []node, oldest *uint32, i uint32) {
	l := &nodes[i]
	if i == *oldest {
		*oldest = l.next
		if l.next == i {
			*oldest = 0
			return
		}
	}
	nodes[l.prev].next = l.next
	nodes[l.next].prev = l.prev
}

// listOfSlot returns the list that a taken slot is in.
func (s *slots) listOfSlot(p *slot) *uint32 {
	if p.state == StateEstablished {
		return &s.sockEntry(p.sock).oldest
	}
	return &s.oldestHalfOpen
}

// listOfSock returns the list of the established sessions of an entry of s.socks,
// or the list of all half-open sessions for entry 0.
func (s *slots) listOfSock(sock uint32) *uint32 {
	if sock == 0 {
		return &s.oldestHalfOpen
	}
	return &s.sockEntry(sock).oldest
}

// lru returns the slot of the least recently used established session of sock, or
// 0 if sock has no established session.
func (s *slots) lru(sock Sock) uint32 {
	s.settleUses()
	return s.sockEntry(s.findSock(sock)).oldest // Entry 0 has no list.
}

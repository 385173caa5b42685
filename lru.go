// SPDX-License-Identifier: MIT

package dsm

// links are the neighbours of a slot in a circular, doubly linked list of slots in
// the order of their last use. From the oldest slot along next, lastUse increases
// strictly. A list is represented by the number of its oldest slot, or 0 if it is
// empty; the newest slot is the one before the oldest.
//
// A taken slot is in exactly one list: the established sessions of its sock, or
// the half-open sessions of all socks. A second list over all sessions would make
// each use touch more cache lines, so All merges the lists instead. The free list
// is linked in the same way, in no order of use, so that HoldAt can take any slot.
type links struct{ prev, next uint32 }

// moveToNewest moves slot i, which is in the list, to the newest end.
func moveToNewest(slots []slot, oldest *uint32, i uint32) {
	l := &slots[i].links
	if i == *oldest {
		*oldest = l.next // The newest slot is the one before the oldest, so no link changes.
		return
	}
	slots[l.prev].links.next = l.next
	slots[l.next].links.prev = l.prev
	first := &slots[*oldest].links
	slots[first.prev].links.next = i
	*l = links{first.prev, *oldest}
	first.prev = i
}

// insertNewest inserts slot i, which is in no list, at the newest end.
func insertNewest(slots []slot, oldest *uint32, i uint32) {
	if *oldest == 0 {
		slots[i].links = links{i, i}
		*oldest = i
		return
	}
	first := &slots[*oldest].links
	slots[i].links = links{first.prev, *oldest}
	slots[first.prev].links.next = i
	first.prev = i
}

// unlink removes slot i from the list. It leaves the links of slot i unchanged; the
// caller has to overwrite them.
func unlink(slots []slot, oldest *uint32, i uint32) {
	l := slots[i].links
	if i == *oldest {
		*oldest = l.next
		if l.next == i {
			*oldest = 0
			return
		}
	}
	slots[l.prev].links.next = l.next
	slots[l.next].links.prev = l.prev
}

// listOfSlot returns the list that a taken slot is in.
func (s *slots) listOfSlot(p *slot) *uint32 {
	if p.state == StateEstablished {
		return &s.socks[p.sock].oldest
	}
	return &s.oldestHalfOpen
}

// listOfSock returns the list of the established sessions of an entry of s.socks,
// or the list of all half-open sessions for entry 0.
func (s *slots) listOfSock(sock uint32) *uint32 {
	if sock == 0 {
		return &s.oldestHalfOpen
	}
	return &s.socks[sock].oldest
}

// lru returns the slot of the least recently used established session of sock, or
// 0 if sock has no established session.
func (s *slots) lru(sock Sock) uint32 {
	return s.socks[s.findSock(sock)].oldest // socks[0].oldest is 0.
}

// use marks the session in a taken slot as used now.
func (s *slots) use(i uint32) {
	p := &s.array[i]
	s.uses++
	p.lastUse = s.uses
	moveToNewest(s.array, s.listOfSlot(p), i)
}

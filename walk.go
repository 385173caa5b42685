// SPDX-License-Identifier: MIT

package dsm

import "math/bits"

// walk visits the sessions of all lists in the order of their last use, in several
// steps, while other goroutines use the table. It merges the lists. The access
// counter has no value twice, so a slot with an unchanged lastUse still holds the
// same session at the same position of the same list.
//
// A session that is used after the start of the walk has a last use after end, at the
// latest when the use is brought into the lists. So the walk has to visit only the slots
// whose last use is end or earlier, and the number of these slots never increases.
//
// The walk ends, whatever other goroutines do. A step either moves a cursor to the
// next slot of its list, or finds that the slot of the cursor was used or removed. A
// slot whose last use was end or earlier is used or removed once only. So there are at
// most as many lost positions as slots, and between two of them at most as many other
// steps as slots. The trail makes a lost position cheap.
type walk struct {
	end  uint64 // the access counter at the start of the walk; sessions used later are not yielded
	last uint64 // the last use of the session that was returned last
	// cursors has one cursor for each list with slots to visit. It is a heap; the
	// cursor with the lowest lastUse is first.
	cursors []cursor

	// trail has some of the slots that were visited: trail[n] is the latest one whose
	// number in the order of visits is an odd multiple of 2^n. So there is one among
	// the last 2, another one among the last 4, and so on.
	trail [32]footprint
	slots uint64 // the number of visited slots

	visits int // memory accesses since the lock was taken, about
}

// footprint is a slot that a walk has visited. If lastUse is no longer the last use of
// the slot, the slot was used or freed since then.
type footprint struct {
	lastUse uint64
	slot    uint32
}

// cursor is the next slot to visit of one list. If lastUse is no longer the last
// use of the slot, the slot was used or freed since then. All slots of the list
// that the walk has to visit have a last use of lastUse or later.
type cursor struct {
	lastUse uint64
	slot    uint32
	list    uint32 // as in listOfSock
}

// readOldest sets cursors to the oldest slots of the lists of one segment of socks. It
// leaves out the lists without sessions that were used up to end, and returns the
// number of the others. It reads a list later than the walk starts, but a session that
// the walk has to yield was in the same list at the start.
func (s *slots) readOldest(cursors *[segmentSocks]cursor, first uint32, end uint64) (n int) {
	for list := first; list < min(first+segmentSocks, s.numSocks); list++ {
		i := *s.listOfSock(list)
		if lastUse := s.nodes[i].lastUse; i != 0 && lastUse <= end {
			cursors[n] = cursor{lastUse, i, list}
			n++
		}
	}
	return n
}

// makeHeap makes a heap of the cursors.
func (w *walk) makeHeap() {
	for n := len(w.cursors)/2 - 1; n >= 0; n-- {
		w.siftDown(n)
	}
}

// next visits one slot. It returns the slot if its session is the next one in the
// order of use, or 0. The walk ends when no cursor is left; next must not be
// called after that.
func (w *walk) next(s *slots) uint32 {
	c := &w.cursors[0]
	if c.lastUse > w.end {
		w.cursors = nil
		return 0
	}
	w.visits += 1 + bits.Len(uint(len(w.cursors)))/4 // The upper levels of the heap are in the cache.
	i, result := c.slot, uint32(0)
	if s.nodes[i].lastUse == c.lastUse {
		if c.lastUse > w.last {
			result, w.last = i, c.lastUse
		}
		w.slots++
		w.trail[bits.TrailingZeros64(w.slots)%len(w.trail)] = footprint{c.lastUse, i}
		i = s.nextInList(i, c.list)
	} else {
		i = w.resume(s, c.list)
	}
	if i == 0 {
		end := len(w.cursors) - 1
		*c = w.cursors[end]
		w.cursors = w.cursors[:end]
	} else {
		c.slot, c.lastUse = i, s.nodes[i].lastUse
	}
	w.siftDown(0)
	return result
}

// resume returns a slot of the list, not after the next slot to visit, or 0 if the list
// has no slot to visit. It is called when the position in the list is lost. The slot
// after a visited slot that is still in its place is such a slot; resume takes the
// newest one in the trail, and the oldest slot of the list if the trail has none. next
// skips the slots up to w.last again, and so they come into the trail again.
func (w *walk) resume(s *slots, list uint32) uint32 {
	w.visits += len(w.trail)
	var newest footprint
	for _, f := range w.trail {
		if f.lastUse > newest.lastUse && s.nodes[f.slot].lastUse == f.lastUse && s.listOfSlot(&s.array[f.slot]) == s.listOfSock(list) {
			newest = f
		}
	}
	if newest.slot == 0 {
		return *s.listOfSock(list)
	}
	return s.nextInList(newest.slot, list)
}

// nextInList returns the slot after slot i of the list, or 0 if i is the newest one.
func (s *slots) nextInList(i, list uint32) uint32 {
	if next := s.nodes[i].next; next != *s.listOfSock(list) {
		return next
	}
	return 0
}

// siftDown restores the heap after the lastUse of cursor n was increased.
func (w *walk) siftDown(n int) {
	for {
		least := n
		for child := 2*n + 1; child <= 2*n+2 && child < len(w.cursors); child++ {
			if w.cursors[child].lastUse < w.cursors[least].lastUse {
				least = child
			}
		}
		if least == n {
			return
		}
		w.cursors[n], w.cursors[least] = w.cursors[least], w.cursors[n]
		n = least
	}
}

// SPDX-License-Identifier: MIT

package dsm

// ring is a slot's place in a circular, doubly linked list of slots in the order
// of their last use: walking it from its oldest slot, the access counter of the
// last use rises strictly. Where a list begins, its oldest slot, is known outside
// of it; the newest is the one before that.
//
// A taken slot is in one list: the established ones of its sock, or the half-open
// ones of the table. One list, so that a use has few neighbours to meet; All merges
// them.
type ring struct{ prev, next uint32 }

// toNewest moves slot i to the newest end of a list that it is in.
func toNewest(slots []slot, oldest *uint32, i uint32) {
	at := &slots[i].ring
	if i == *oldest {
		*oldest = at.next // the newest is the one before: it is enough to turn the ring
		return
	}
	slots[at.prev].ring.next = at.next
	slots[at.next].ring.prev = at.prev
	first := &slots[*oldest].ring
	slots[first.prev].ring.next = i
	*at = ring{first.prev, *oldest}
	first.prev = i
}

// enter puts slot i at the newest end of a list. It is in none.
func enter(slots []slot, oldest *uint32, i uint32) {
	if *oldest == 0 {
		slots[i].ring = ring{i, i}
		*oldest = i
		return
	}
	first := &slots[*oldest].ring
	slots[i].ring = ring{first.prev, *oldest}
	slots[first.prev].ring.next = i
	first.prev = i
}

// leave takes slot i out of a list. What the slot itself says of its place is left
// for the caller to forget.
func leave(slots []slot, oldest *uint32, i uint32) {
	at := slots[i].ring
	if i == *oldest {
		*oldest = at.next
		if at.next == i {
			*oldest = 0
			return
		}
	}
	slots[at.prev].ring.next = at.next
	slots[at.next].ring.prev = at.prev
}

// walk goes through all sessions by their last use, some at a time, while others
// use the table: a merge of the lists. Uses have numbers that never come twice, so
// a slot and the number of its last use tell whether it is still where it was.
type walk struct {
	end  uint64 // the last use to give
	last uint64 // the last use given
	// cursors has one for each list that may have more to give, as a heap: the
	// one with the least use is first.
	cursors []cursor
}

// cursor is the next slot of a list to look at. If its use is no longer used, it was
// used since or is gone; but whatever is left of its list was used later than used.
type cursor struct {
	used uint64
	slot uint32
	list uint32 // an index into slots.socks; 0: the half-open ones
}

// beginWalk returns a walk, which keeps its cursors in buf if that has room. Lists
// that are made later hold only what is used later.
func (s *slots) beginWalk(buf []cursor) walk {
	w := walk{end: s.uses, cursors: buf}
	for n := range s.socks {
		if i := *s.list(uint32(n)); i != 0 {
			w.cursors = append(w.cursors, cursor{s.array[i].used, i, uint32(n)})
		}
	}
	for n := len(w.cursors)/2 - 1; n >= 0; n-- {
		w.down(n)
	}
	return w
}

// next looks at one slot, and returns it if it is the next in the order, or 0. It is
// over when no cursor is left.
func (w *walk) next(s *slots) uint32 {
	c := &w.cursors[0]
	if c.used > w.end {
		w.cursors = nil
		return 0
	}
	oldest := *s.list(c.list)
	i, given := c.slot, uint32(0)
	if s.array[i].used == c.used {
		if c.used > w.last {
			given, w.last = i, c.used
		}
		i = s.array[i].ring.next
		if i == oldest {
			i = 0
		}
	} else {
		i = oldest // and so again past what was given
	}
	if i == 0 {
		end := len(w.cursors) - 1
		*c = w.cursors[end]
		w.cursors = w.cursors[:end]
	} else {
		c.slot, c.used = i, s.array[i].used
	}
	w.down(0)
	return given
}

// down restores the heap below a cursor whose use has grown.
func (w *walk) down(n int) {
	for {
		least := n
		for child := 2*n + 1; child <= 2*n+2 && child < len(w.cursors); child++ {
			if w.cursors[child].used < w.cursors[least].used {
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

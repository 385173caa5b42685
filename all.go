// SPDX-License-Identifier: MIT

package dsm

import "iter"

const (
	// walkBatch is the number of sessions that All copies while it holds the lock.
	walkBatch = 16
	// walkSteps is the number of slots that All visits while it holds the lock. It
	// visits more slots than it copies where it has to find its position again.
	walkSteps = 1024
	// walkLists is the number of lists that All merges without an allocation.
	walkLists = 16
)

// All returns an iterator over the sessions of all socks, in either state, and
// their states, least recently used first. Iteration does not count as use.
//
// The iterator takes the lock for a few sessions at a time, and once for a time
// that grows with the number of socks. It does not hold the lock while the loop
// body runs, so the body may call any method of the table.
//
// The iterator yields no session twice, and yields every session that is not used,
// stored or removed while the loop runs. A session that the loop body or another
// goroutine uses, stores or removes in this time may or may not be yielded. A
// session that Handle.Rebind moves in this time is yielded with one of its endpoints.
func (t *Table[V]) All() iter.Seq2[Session[V], State] {
	return func(yield func(Session[V], State) bool) {
		var batch [walkBatch]visited[V]
		var cursors [walkLists]cursor
		t.mu.Lock()
		w := t.slots.newWalk(cursors[:0])
		t.mu.Unlock()
		for {
			n, unfinished := t.nextBatch(&w, &batch)
			for i := range batch[:n] {
				if !yield(batch[i].session, batch[i].state) {
					return
				}
			}
			if !unfinished {
				return
			}
			clear(batch[:n]) // A long loop must not retain the values of removed sessions.
		}
	}
}

// visited is the copy of one session that All yields.
type visited[V any] struct {
	session Session[V]
	state   State
}

// nextBatch copies the next n sessions of a walk into batch. unfinished is false
// if the walk has ended; a batch of an unfinished walk may be empty.
func (t *Table[V]) nextBatch(w *walk, batch *[walkBatch]visited[V]) (n int, unfinished bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for steps := 0; len(w.cursors) > 0; steps++ {
		if n == len(batch) || steps == walkSteps {
			return n, true
		}
		if i := w.next(&t.slots); i != 0 {
			batch[n] = visited[V]{t.sessionLocked(i), t.slots.state(i)}
			n++
		}
	}
	return n, false
}

// walk visits the sessions of all lists in the order of their last use, in several
// steps, while other goroutines use the table. It merges the lists. The access
// counter has no value twice, so a slot with an unchanged lastUse still holds the
// same session at the same position of its list.
type walk struct {
	end  uint64 // the access counter at the start of the walk; sessions used later are not yielded
	last uint64 // the last use of the session that was returned last
	// cursors has one cursor for each list with slots to visit. It is a heap; the
	// cursor with the lowest lastUse is first.
	cursors []cursor
}

// cursor is the next slot to visit of one list. If lastUse is no longer the last
// use of the slot, the slot was used or freed since then. All slots of the list
// that the walk has not visited have a last use of lastUse or later.
type cursor struct {
	lastUse uint64
	slot    uint32
	list    uint32 // as in listOfSock
}

// newWalk returns a walk over all lists. It appends the cursors to buf. A list that
// is created later has only sessions that are used after the start of the walk.
func (s *slots) newWalk(buf []cursor) walk {
	w := walk{end: s.uses, cursors: buf}
	for n := range s.socks {
		if i := *s.listOfSock(uint32(n)); i != 0 {
			w.cursors = append(w.cursors, cursor{s.array[i].lastUse, i, uint32(n)})
		}
	}
	for n := len(w.cursors)/2 - 1; n >= 0; n-- {
		w.siftDown(n)
	}
	return w
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
	oldest := *s.listOfSock(c.list)
	i, result := c.slot, uint32(0)
	if s.array[i].lastUse == c.lastUse {
		if c.lastUse > w.last {
			result, w.last = i, c.lastUse
		}
		i = s.array[i].links.next
		if i == oldest {
			i = 0
		}
	} else {
		i = oldest // The position is lost: skip the slots up to w.last again.
	}
	if i == 0 {
		end := len(w.cursors) - 1
		*c = w.cursors[end]
		w.cursors = w.cursors[:end]
	} else {
		c.slot, c.lastUse = i, s.array[i].lastUse
	}
	w.siftDown(0)
	return result
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

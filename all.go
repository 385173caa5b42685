// SPDX-License-Identifier: MIT

package dsm

import (
	"iter"
	"runtime"
)

const (
	// walkBatch is the number of sessions that All copies while it holds the lock.
	walkBatch = 16
	// walkVisits limits the time for which All holds the lock, in memory accesses that
	// can miss the cache. All makes up to half as many more.
	walkVisits = 64
	// walkLists is the number of lists that All merges without an allocation.
	walkLists = 16
)

// All returns an iterator over the sessions of all socks, in either state, and
// their states, least recently used first. Iteration does not count as use.
//
// The iterator takes the lock for a few sessions, or a few tens of socks, at a time. It
// reads the oldest session of each sock before it yields the first session. It does not
// hold the lock while the loop body runs, so the body may call any method of the table.
//
// The iterator yields no session twice, and yields every session that is not used,
// stored or removed while the loop runs. A session that the loop body or another
// goroutine uses, stores or removes in this time may or may not be yielded. A
// session that Handle.Rebind moves in this time is yielded with one of its endpoints.
// The loop ends even if sessions are used all the time.
func (t *Table[V]) All() iter.Seq2[Session[V], State] {
	return func(yield func(Session[V], State) bool) {
		var batch [walkBatch]visited[V]
		var cursors [walkLists]cursor
		w := t.newWalk(cursors[:0])
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
			letOthersLock()
		}
	}
}

// visited is the copy of one session that All yields.
type visited[V any] struct {
	session Session[V]
	state   State
}

// newWalk returns a walk over all lists. It appends the cursors to buf, without the
// lock because their number has no bound. Each cursor is of a list with a session that
// was taken at the start, so room for all of them is allocated at one time.
//
// An entry of slots.socks that is added or reused after the start of the walk has only
// sessions that are used later, so it makes no difference whether newWalk reads it.
func (t *Table[V]) newWalk(buf []cursor) walk {
	t.mu.Lock()
	t.slots.settleUses() // Later uses may wait: they are after end, wherever their slots are.
	w := walk{end: t.slots.uses, cursors: buf}
	lists, taken := t.slots.numSocks, t.slots.taken
	t.mu.Unlock()
	if n := min(int(lists), taken); n > cap(buf) {
		w.cursors = make([]cursor, 0, n)
	}
	for first := uint32(0); first < lists; first += segmentSocks {
		var cursors [segmentSocks]cursor
		t.mu.Lock()
		n := t.slots.readOldest(&cursors, first, w.end)
		t.mu.Unlock()
		w.cursors = append(w.cursors, cursors[:n]...)
		letOthersLock()
	}
	w.makeHeap()
	return w
}

// letOthersLock gives those who wait for the lock their turn. A mutex prefers the goroutine
// that runs, for up to a millisecond.
func letOthersLock() { runtime.Gosched() }

// nextBatch copies the next n sessions of a walk into batch. unfinished is false
// if the walk has ended; a batch of an unfinished walk may be empty.
func (t *Table[V]) nextBatch(w *walk, batch *[walkBatch]visited[V]) (n int, unfinished bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	w.visits = 0
	for len(w.cursors) > 0 {
		if n == len(batch) || w.visits >= walkVisits {
			return n, true
		}
		if i := w.next(&t.slots); i != 0 {
			batch[n] = visited[V]{t.sessionLocked(i), t.slots.state(i)}
			n++
		}
	}
	return n, false
}

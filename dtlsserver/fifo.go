// SPDX-License-Identifier: MIT

package dtlsserver

import "iter"

// fifo is a queue of any length. No call moves an element or allocates more than a chunk of
// fifoChunk elements, so the lock under which it is used is held for a short time, whatever the
// length. A queue whose length changes little allocates nothing. The zero value is an empty
// queue. It is not safe for concurrent use.
//
// An element that is in the queue does not change. So all reads a queue to which others push.
type fifo[T any] struct {
	first, last *fifoPart[T] // nil: nothing was pushed yet
	spare       *fifoPart[T] // empty, for the next chunk; or nil
	popped      int          // of first
	pushed      int          // of last
	len         int
}

// fifoPart is a chunk of a queue. All but the last chunk are full.
type fifoPart[T any] struct {
	elements [fifoChunk]T
	next     *fifoPart[T]
}

func (f *fifo[T]) push(element T) {
	if f.last == nil {
		f.last = new(fifoPart[T])
		f.first = f.last
	} else if f.pushed == fifoChunk {
		next := f.spare
		if f.spare = nil; next == nil {
			next = new(fifoPart[T])
		}
		f.last.next = next
		f.last, f.pushed = next, 0
	}
	f.last.elements[f.pushed] = element
	f.pushed++
	f.len++
}

// pop removes the oldest element. It reports false if there is none.
func (f *fifo[T]) pop() (element T, ok bool) {
	if f.len == 0 {
		return element, false
	}
	var none T
	element, f.first.elements[f.popped] = f.first.elements[f.popped], none // which would stay in memory
	f.popped++
	f.len--
	switch {
	case f.len == 0: // first is last
		f.popped, f.pushed = 0, 0
	case f.popped == fifoChunk:
		f.spare, f.first, f.popped = f.first, f.first.next, 0
		f.spare.next = nil
	}
	return element, true
}

// all returns the elements that the queue has now, oldest first. The loop needs no lock against
// those who push meanwhile, but nobody may pop.
func (f *fifo[T]) all() iter.Seq[T] {
	now := *f
	return func(yield func(T) bool) {
		part, at := now.first, now.popped
		for range now.len {
			if at == fifoChunk {
				part, at = part.next, 0
			}
			if !yield(part.elements[at]) {
				return
			}
			at++
		}
	}
}

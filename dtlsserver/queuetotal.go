// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"math/bits"
	"sync/atomic"

	"github.com/go-dsm/dsm/internal/lockorder"
)

// queueTotal bounds what all sessions of a listener together have queued. When the bound
// is exceeded one of the longest queues loses its newest datagram, so a session with a
// short queue does not suffer from the others.
//
// The bytes are counted by one atomic number. The queues longer than a threshold are in
// lists by their length, a list for each power of two, so that one of the longest is found
// without a search. Only these queues take the lock, each time that the length of one
// passes a power of two.
type queueTotal struct {
	// Set in init, never changed.
	limit     int64 // bytes
	threshold int   // bytes; a longer queue is in a list

	bytes atomic.Int64 // of all queues

	mu lockorder.Mutex[lockorder.Leaf]
	// mu guards the following, and the places of inboxes in the lists.
	lists  [bits.UintSize]*inbox // by bits.Len of the queue's bytes: the first of the list
	filled uint64                // bit n-1 is set if lists[n] is not empty
}

// listPlace is the place of an inbox in one of the lists. It changes with both the peer's
// lock and queueTotal.mu held, so each of them is enough for reading it.
type listPlace struct {
	list           int // index of queueTotal.lists; 0: in no list
	next, previous *inbox
}

// init sets the bounds. When the sessions have more than total bytes, one of them has
// more than total/sessions, so with this threshold the lists are not empty then.
func (q *queueTotal) init(total, sessions int) {
	q.limit = int64(total)
	q.threshold = min(longQueue, total/sessions)
}

// over reports whether the bound is exceeded.
func (q *queueTotal) over() bool { return q.bytes.Load() > q.limit }

// addLocked counts bytes that were added to an inbox, or if negative, removed from it. The
// inbox has them already, and its peer is locked.
func (q *queueTotal) addLocked(b *inbox, bytes int) {
	q.bytes.Add(int64(bytes))
	list := 0
	if b.bytes > q.threshold {
		list = bits.Len(uint(b.bytes))
	}
	if list != b.place.list {
		q.move(b, list)
	}
}

// move puts an inbox into a list.
func (q *queueTotal) move(b *inbox, list int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	p := &b.place
	if p.list != 0 {
		if p.next != nil {
			p.next.place.previous = p.previous
		}
		if p.previous != nil {
			p.previous.place.next = p.next
		} else if q.lists[p.list] = p.next; p.next == nil {
			q.filled &^= 1 << (p.list - 1)
		}
	}
	*p = listPlace{list: list}
	if list != 0 {
		p.next = q.lists[list]
		if p.next != nil {
			p.next.place.previous = b
		}
		q.lists[list] = b
		q.filled |= 1 << (list - 1)
	}
}

// longest returns one of the longest queues, and its list, or nil and 0 if no queue is
// longer than the threshold.
func (q *queueTotal) longest() (*inbox, int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	list := bits.Len64(q.filled)
	return q.lists[list], list
}

// isLongestLocked reports whether an inbox is one of the longest queues, or no queue is
// longer than the threshold. The peer of the inbox is locked.
func (q *queueTotal) isLongestLocked(b *inbox) bool {
	_, list := q.longest()
	return b.place.list == list
}

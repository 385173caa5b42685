// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"sync"
	"sync/atomic"
	"time"
)

// inbox is what was received for a session and not read yet, and its deadlines. An
// idle session has none. The peer's lock guards it.
type inbox struct {
	datagrams []*buffer   // oldest first
	bytes     int         // of memory, by buffer.cost
	total     *queueTotal // that counts the bytes; nil: they count no more
	place     listPlace

	// changed is signalled for one waiting Read when a datagram is added, and
	// broadcast to all when the session ends or the read deadline passes.
	changed sync.Cond
	readers int // Reads that wait

	slow bool // the last call of Serve's handler among those of other sessions has taken slowHandler

	readDeadline  time.Time   // zero: none
	readTimer     *time.Timer // runs until readDeadline; nil until there was one
	readExpired   bool        // readDeadline has passed
	writeDeadline time.Time
}

func newInbox(mu sync.Locker, total *queueTotal) *inbox {
	return &inbox{changed: sync.Cond{L: mu}, total: total}
}

// push adds a datagram, if there is room for it within the bounds. If it returns true the
// caller calls queueTotal.relieve after unlock: the datagram can have its room at the
// expense of a longer queue.
func (b *inbox) push(datagram *buffer, maxDatagrams, maxBytes int) bool {
	cost := datagram.cost()
	if len(b.datagrams) >= maxDatagrams || b.bytes+cost > maxBytes {
		return false
	}
	b.datagrams = append(b.datagrams, datagram)
	b.count(cost)
	if b.total != nil && b.total.over() && b.total.isLongestLocked(b) {
		b.removeNewest()
		return false
	}
	return true
}

// count notes bytes that were added, or if negative, removed.
func (b *inbox) count(bytes int) {
	b.bytes += bytes
	if b.total != nil {
		b.total.addLocked(b, bytes)
	}
}

// pop removes the oldest datagram, or returns nil.
func (b *inbox) pop() *buffer {
	if len(b.datagrams) == 0 {
		return nil
	}
	oldest := b.datagrams[0]
	n := copy(b.datagrams, b.datagrams[1:])
	b.datagrams[n] = nil
	b.datagrams = b.datagrams[:n]
	b.count(-oldest.cost())
	return oldest
}

// removeNewest removes the newest datagram. There must be one.
func (b *inbox) removeNewest() *buffer {
	n := len(b.datagrams) - 1
	newest := b.datagrams[n]
	b.datagrams[n] = nil
	b.datagrams = b.datagrams[:n]
	b.count(-newest.cost())
	return newest
}

// dropNewestLocked drops the newest datagram, for queueTotal.
func (b *inbox) dropNewestLocked() { b.removeNewest().release() }

// leaveTotal stops counting the inbox in the total. What is left to read stays.
func (b *inbox) leaveTotal() {
	if q := b.total; q != nil {
		b.total = nil
		q.bytes.Add(-int64(b.bytes))
		if b.place.list != 0 {
			q.move(b, 0)
		}
	}
}

// clear drops all datagrams.
func (b *inbox) clear() {
	for datagram := b.pop(); datagram != nil; datagram = b.pop() {
		datagram.release()
	}
}

// setReadDeadline makes Reads fail from a time on, those that wait too. The zero time
// means never.
func (b *inbox) setReadDeadline(at time.Time) {
	left := time.Until(at)
	b.readDeadline = at
	b.readExpired = !at.IsZero() && left <= 0
	switch {
	case !at.IsZero() && !b.readExpired && b.readTimer == nil:
		b.readTimer = time.AfterFunc(left, b.readTimeout)
	case !at.IsZero() && !b.readExpired:
		b.readTimer.Reset(left)
	case b.readTimer != nil:
		b.readTimer.Stop()
	}
	if b.readExpired {
		b.changed.Broadcast()
	}
}

// readTimeout is called by the timer. The deadline may have changed since the timer was
// started.
func (b *inbox) readTimeout() {
	b.changed.L.Lock()
	defer b.changed.L.Unlock()
	if b.readDeadline.IsZero() || b.readExpired {
		return
	}
	if left := time.Until(b.readDeadline); left > 0 {
		b.readTimer.Reset(left)
		return
	}
	b.readExpired = true
	b.changed.Broadcast()
}

// writeExpired reports whether the write deadline has passed.
func (b *inbox) writeExpired(now time.Time) bool {
	return !b.writeDeadline.IsZero() && !now.Before(b.writeDeadline)
}

// unused reports whether a session can do without the inbox.
func (b *inbox) unused() bool {
	return len(b.datagrams) == 0 && b.readers == 0 && b.readDeadline.IsZero() && b.writeDeadline.IsZero()
}

// relieve drops the newest datagrams of the longest queues until the bound is kept, and
// counts them. It locks the peers of these queues, one at a time, so no peer may be
// locked.
func (q *queueTotal) relieve(dropped *atomic.Uint64) {
	for q.over() {
		b, list := q.longest()
		if b == nil {
			return
		}
		b.changed.L.Lock()
		if q.over() && b.place.list == list { // otherwise it was read meanwhile
			b.dropNewestLocked()
			dropped.Add(1)
		}
		b.changed.L.Unlock()
	}
}

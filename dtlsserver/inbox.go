// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"sync"
	"time"
)

// inbox is what was received for a session and not read yet, and its deadlines. An
// idle session has none. The peer's lock guards it.
type inbox struct {
	datagrams []*buffer // oldest first
	bytes     int

	// changed is signalled for one waiting Read when a datagram is added, and
	// broadcast to all when the session ends or the read deadline passes.
	changed sync.Cond
	readers int // Reads that wait

	readDeadline  time.Time   // zero: none
	readTimer     *time.Timer // runs until readDeadline; nil until there was one
	readExpired   bool        // readDeadline has passed
	writeDeadline time.Time
}

func newInbox(mu sync.Locker) *inbox { return &inbox{changed: sync.Cond{L: mu}} }

// push adds a datagram, if there is room for it within the bounds.
func (b *inbox) push(datagram *buffer, maxDatagrams, maxBytes int) bool {
	if len(b.datagrams) >= maxDatagrams || b.bytes+len(datagram.b) > maxBytes {
		return false
	}
	b.datagrams = append(b.datagrams, datagram)
	b.bytes += len(datagram.b)
	return true
}

// pop removes the oldest datagram, or returns nil.
func (b *inbox) pop() *buffer {
	if len(b.datagrams) == 0 {
		return nil
	}
	oldest := b.datagrams[0]
	b.bytes -= len(oldest.b)
	n := copy(b.datagrams, b.datagrams[1:])
	b.datagrams[n] = nil
	b.datagrams = b.datagrams[:n]
	return oldest
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

// buffer is room for a datagram.
type buffer struct {
	b    []byte // the datagram
	room []byte
}

// buffers has those of smallBuffer bytes.
var buffers = sync.Pool{New: func() any { return &buffer{room: make([]byte, smallBuffer)} }}

// newBuffer returns a buffer with room for at least size bytes.
func newBuffer(size int) *buffer {
	if size > smallBuffer {
		return &buffer{room: make([]byte, size)}
	}
	return buffers.Get().(*buffer)
}

func (b *buffer) release() {
	if len(b.room) == smallBuffer {
		b.b = nil
		buffers.Put(b)
	}
}

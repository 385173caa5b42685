// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"sync"
	"time"

	"github.com/go-dsm/dsm/internal/lockorder"
	"github.com/go-dsm/dsm/internal/udp"
)

// outbox collects the datagrams of a socket, which leave together in one system call. A
// datagram is collected while a goroutine has promised to flush soon: the reader of the socket,
// which has received several datagrams, or a worker of Serve, which has more to handle. This
// promise is a hold. Without a hold a datagram leaves at once.
//
// The datagrams of a socket leave in the order in which send was called, so that no close_notify
// overtakes the last answer. A hold delays no datagram for longer than maxHold, if any processor
// is free: a timer revokes all holds. On Linux the timer of an idle process is late by up to half
// a millisecond, as epoll counts in milliseconds. With one processor a handler that computes
// keeps the timer from running. For this reason a worker flushes before a handler that was slow
// the last time, and holds are suspended for a while if too many have lasted too long.
type outbox struct {
	// Set in init, never changed.
	socket   *udp.Socket
	collects bool // holds are granted

	mu lockorder.Mutex[lockorder.Leaf]
	// mu guards the following. It is not held while datagrams are sent.

	epoch      uint64 // 1, and one more for each revocation; the holds of an earlier epoch are void
	readerHeld bool
	workerHeld int // holds of workers

	waiting  *sendBatch  // collected
	spare    *sendBatch  // being sent, or empty
	since    time.Time   // when the first datagram of waiting was collected; zero: no datagram waits for a flush
	sending  bool        // a goroutine sends, and goes on until waiting is empty
	departed *sync.Cond  // a batch was sent
	timer    *time.Timer // runs while since is set

	lateness  int // grows with each hold that has lasted too long
	suspended int // holds of the reader that are not granted any more
	closed    bool
}

// alwaysCollect has holds granted for sockets that are written one by one too. Tests set it, whose
// networks are in memory. Otherwise such a socket would gain nothing from waiting.
var alwaysCollect bool

// sendBatch is the datagrams that leave together. The buffers are kept for the next batch.
type sendBatch struct {
	datagrams [maxCollected]udp.Datagram
	n         int
}

// hold is the promise of a worker to call release. Epoch 0 stands for a hold that was not
// granted.
type hold struct {
	out   *outbox
	epoch uint64
}

func (o *outbox) init(socket *udp.Socket) {
	o.socket = socket
	o.collects = alwaysCollect || socket != nil && socket.Batches()
	o.epoch = 1
	o.waiting, o.spare = new(sendBatch), new(sendBatch)
	o.departed = sync.NewCond(&o.mu)
	o.timer = time.AfterFunc(maxHold, o.expire)
	o.timer.Stop()
}

// send sends a datagram, or collects a copy of it. A datagram that cannot be sent is lost, as it
// could be in the network. No lock may be held.
func (o *outbox) send(d udp.Datagram) {
	lockorder.AssertNone("a socket write")
	o.mu.Lock()
	if !o.isHeldLocked() && !o.sending {
		o.mu.Unlock()
		one := oneDatagram.Get().(*[1]udp.Datagram)
		one[0] = d
		_, _ = o.socket.Write(one[:])
		one[0] = udp.Datagram{}
		oneDatagram.Put(one)
		return
	}
	for o.sending && o.waiting.n == maxCollected {
		o.departed.Wait()
	}
	o.waiting.add(d)
	switch {
	case o.sending: // and goes on with this datagram
	case !o.isHeldLocked() || o.waiting.n == maxCollected:
		o.flushLocked()
	case o.waiting.n == 1:
		o.since = time.Now()
		o.timer.Reset(maxHold)
	}
	o.mu.Unlock()
}

// oneDatagram saves send the allocation of a slice of one.
var oneDatagram = sync.Pool{New: func() any { return new([1]udp.Datagram) }}

func (b *sendBatch) add(d udp.Datagram) {
	kept := &b.datagrams[b.n]
	d.Buf = append(kept.Buf[:0], d.Buf...)
	*kept = d
	b.n++
}

// clear empties the batch. Long buffers are not kept.
func (b *sendBatch) clear() {
	for i := range b.datagrams[:b.n] {
		if d := &b.datagrams[i]; cap(d.Buf) > maxKept {
			d.Buf = nil
		}
	}
	b.n = 0
}

// isHeldLocked reports whether some goroutine is going to flush.
func (o *outbox) isHeldLocked() bool { return o.readerHeld || o.workerHeld > 0 }

// holdForReader has datagrams collected until flush is called by the socket's reader, which
// calls no handler in between, but may call Config.OnEnd.
func (o *outbox) holdForReader() {
	o.mu.Lock()
	if o.suspended > 0 {
		o.suspended--
	}
	o.readerHeld = o.collects && o.suspended == 0 && !o.closed
	o.mu.Unlock()
}

// flush ends the hold of the reader, and sends what was collected. A hold that was not granted or
// was revoked makes no difference.
func (o *outbox) flush() {
	o.mu.Lock()
	o.readerHeld = false
	o.flushLocked()
	o.mu.Unlock()
}

// renew has datagrams collected until release, unless the worker has a hold already that was not
// revoked.
func (h *hold) renew() {
	o := h.out
	o.mu.Lock()
	if h.epoch != o.epoch && o.collects && o.suspended == 0 && !o.closed {
		h.epoch = o.epoch
		o.workerHeld++
	}
	o.mu.Unlock()
}

// release ends the hold. It sends what was collected, unless the reader is going to do that.
func (h *hold) release() {
	o := h.out
	o.mu.Lock()
	if h.epoch == o.epoch {
		o.workerHeld--
	}
	h.epoch = 0
	if !o.readerHeld {
		o.flushLocked()
	}
	o.mu.Unlock()
}

// sendCollected sends what was collected. The holds stay.
func (o *outbox) sendCollected() {
	o.mu.Lock()
	o.flushLocked()
	o.mu.Unlock()
}

// expire is called by the timer. It revokes all holds if a datagram was collected maxHold ago.
func (o *outbox) expire() {
	o.mu.Lock()
	if !o.since.IsZero() && time.Since(o.since) >= maxHold {
		o.epoch++
		o.readerHeld, o.workerHeld = false, 0
		o.flushLocked()
	}
	o.mu.Unlock()
}

// flushLocked sends what was collected, unless another goroutine is sending, which does it then.
func (o *outbox) flushLocked() {
	if o.sending || o.waiting.n == 0 {
		return
	}
	o.noteHoldLocked()
	o.sending = true
	o.sendLocked(maxSends)
}

// sendLocked sends batches, at most so many, until no datagram waits. Then a goroutine of its own
// continues, so that nobody sends the datagrams of others for ever.
func (o *outbox) sendLocked(most int) {
	for ; o.waiting.n > 0; most-- {
		if most == 0 {
			go func() {
				o.mu.Lock()
				o.sendLocked(-1)
				o.mu.Unlock()
			}()
			return
		}
		b := o.waiting
		o.waiting, o.spare = o.spare, b
		o.mu.Unlock()
		_, _ = o.socket.Write(b.datagrams[:b.n])
		b.clear()
		o.mu.Lock()
		// Thousands may wait, and so many find room. Each of them has a batch sent in turn.
		for range maxCollected {
			o.departed.Signal()
		}
	}
	o.sending = false
}

// noteHoldLocked notes for how long the first datagram has waited, if it did.
func (o *outbox) noteHoldLocked() {
	if o.since.IsZero() {
		return
	}
	late := time.Since(o.since) >= maxHold
	o.since = time.Time{}
	o.timer.Stop()
	if !late {
		o.lateness = max(0, o.lateness-1)
		return
	}
	if o.lateness += lateCost; o.lateness >= maxLateness {
		o.lateness -= lateCost // so that the next one suspends the holds again
		o.suspended = suspendedHolds
	}
}

// close sends what was collected. No datagram is collected after that.
func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.epoch++
	o.readerHeld, o.workerHeld = false, 0
	o.flushLocked()
	for o.sending {
		o.departed.Wait()
	}
}

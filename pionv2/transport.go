// SPDX-License-Identifier: MIT

package pionv2

import (
	"net"
	"os"
	"sync"
	"time"

	"github.com/go-dsm/dsm/internal/lockorder"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/pion/transport/v2/deadline"
)

// Bounds of what pion gets in one handshake. That of an honest client is a dozen records,
// or some hundred with a long chain of certificates in small fragments.
const (
	maxQueuedBytes   = 64 << 10
	maxQueuedRecords = 256
	maxPassedOn      = 512 // records in all: pion reassembles fragments in quadratic time

	// finishPause is how long pion gets no record after the client's Finished, unless it
	// goes on before. Pion sleeps for a flight interval over one record too many.
	finishPause = 100 * time.Millisecond
)

// transport is the net.Conn over which pion runs a handshake: a queue of records for
// pion, and what is done with the datagrams of pion.
type transport struct {
	// Set in newTransport, never changed.
	write    func(datagram []byte) // takes a datagram of pion's, with no lock held
	pauseEnd func()                // is called when the pause is over, with mu held
	deadline *deadline.Deadline    // of Read
	wake     chan struct{}         // has room for one: Read looks again
	closed   chan struct{}

	closeOnce sync.Once

	// mu guards the following, and all else that belongs to the handshake.
	mu       lockorder.Mutex[lockorder.Handshake]
	queue    []inbound // records that pion has not read yet
	bytes    int       // of queue
	passedOn int       // records that were queued, in all
	paused   bool      // pion has the client's Finished
	done     bool      // pion gets nothing more
}

// inbound is a record for pion.
type inbound struct {
	raw      []byte
	finished bool // the client's Finished
}

func newTransport(write func(datagram []byte), pauseEnd func()) *transport {
	return &transport{write: write, pauseEnd: pauseEnd, deadline: deadline.New(), wake: make(chan struct{}, 1), closed: make(chan struct{})}
}

// passOnLocked queues a record for pion, and reports whether there was room for it.
func (t *transport) passOnLocked(in inbound) bool {
	if len(t.queue) == maxQueuedRecords || t.bytes+len(in.raw) > maxQueuedBytes || t.passedOn == maxPassedOn {
		return false
	}
	if r, _, _ := record.Next(in.raw); r.Epoch == 0 {
		// The record gets a sequence number of our own. Pion moves its replay window by
		// what anybody can forge, and would take the client's own records for old ones.
		record.PutHeader(in.raw, r.Type, 0, uint64(t.passedOn), len(r.Fragment()))
	}
	t.passedOn++
	t.queue = append(t.queue, in)
	t.bytes += len(in.raw)
	select {
	case t.wake <- struct{}{}:
	default:
	}
	return true
}

// Read gives pion one record.
func (t *transport) Read(p []byte) (int, error) {
	for {
		raw, paused, done := t.next()
		if raw != nil {
			return copy(p, raw), nil
		}
		var timer <-chan time.Time
		if paused {
			timer = time.After(finishPause)
		}
		wake := t.wake
		if paused || done {
			wake = nil
		}
		select {
		case <-wake:
		case <-timer:
			t.mu.Lock()
			t.pauseEnd()
			t.mu.Unlock()
		case <-t.deadline.Done():
			return 0, os.ErrDeadlineExceeded
		case <-t.closed:
			return 0, net.ErrClosed
		}
	}
}

// next takes the next record for pion. There is none for a while after the client's
// Finished, and none at all once pion has sent everything.
func (t *transport) next() (raw []byte, paused, done bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.done || t.paused || len(t.queue) == 0 {
		return nil, t.paused && !t.done, t.done
	}
	next := t.queue[0]
	t.queue = t.queue[1:]
	t.bytes -= len(next.raw)
	t.paused = next.finished
	return next.raw, false, false
}

// Write takes a datagram of pion's. A datagram that is not sent is lost, as it could be
// in the network.
func (t *transport) Write(p []byte) (int, error) {
	t.write(p)
	return len(p), nil
}

// Close makes Read fail.
func (t *transport) Close() error {
	t.closeOnce.Do(func() { close(t.closed) })
	return nil
}

// LocalAddr and RemoteAddr are not used by pion's server.
func (t *transport) LocalAddr() net.Addr  { return &net.UDPAddr{} }
func (t *transport) RemoteAddr() net.Addr { return &net.UDPAddr{} }

func (t *transport) SetReadDeadline(at time.Time) error {
	t.deadline.Set(at)
	return nil
}

// SetWriteDeadline does nothing: a Write never waits.
func (t *transport) SetWriteDeadline(time.Time) error { return nil }

func (t *transport) SetDeadline(at time.Time) error { return t.SetReadDeadline(at) }

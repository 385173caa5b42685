// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"context"
	"sync"

	"github.com/go-dsm/dsm/internal/lockorder"
)

// workQueue holds the sessions that have datagrams to handle, and the workers of Serve,
// which take them in order. A worker handles one session at a time, and no session is with
// two workers.
type workQueue struct {
	limit   int                 // workers; set in init
	handler func(*Conn, []byte) // set by Serve before the first session is queued

	mu lockorder.Mutex[lockorder.Leaf]
	// mu guards the following.
	conns   []*Conn    // from head on, in order
	head    int        // the sessions before it were taken
	workers int        // goroutines
	waiting int        // of these, those that wait, or were woken and do not run yet
	stopped bool       // no handler is called any more
	work    *sync.Cond // a session was queued, or stopped is set
	idle    *sync.Cond // a worker waits, or stopped is set

	handlers sync.WaitGroup // the workers
}

func (q *workQueue) init(limit int) {
	q.limit = limit
	q.work, q.idle = sync.NewCond(&q.mu), sync.NewCond(&q.mu)
}

// scheduleLocked queues a session for a worker, if something was received for it, the
// user knows it, and it is not queued already. The lock of its peer is held.
func (q *workQueue) scheduleLocked(c *Conn) {
	if c.queued || c.userClosed || c.records.IsFrozen() || c.stage != stageAnnounced || c.inbox == nil || len(c.inbox.datagrams) == 0 {
		return
	}
	c.queued = true
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.stopped {
		return
	}
	q.conns = append(q.conns, c)
	if len(q.conns)-q.head <= q.waiting {
		q.work.Signal()
	} else if q.workers < q.limit {
		q.workers++
		q.handlers.Go(q.run)
	}
}

// run is a worker.
func (q *workQueue) run() {
	for c := q.next(); c != nil; c = q.next() {
		for range workerTurn {
			datagram := q.take(c)
			if datagram == nil {
				break
			}
			lockorder.AssertNone("a handler")
			q.handler(c, datagram.b)
			datagram.release()
		}
		c.peer.mu.Lock()
		c.queued = false
		q.scheduleLocked(c) // at the end of the queue, for what is left
		c.leaveTotalLocked()
		c.peer.mu.Unlock()
	}
}

// next waits for a session, and returns nil once the queue is stopped.
func (q *workQueue) next() *Conn {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		if q.stopped {
			q.workers--
			return nil
		}
		if q.head < len(q.conns) {
			c := q.conns[q.head]
			q.conns[q.head] = nil
			if q.head++; q.head > len(q.conns)/2 {
				n := copy(q.conns, q.conns[q.head:])
				clear(q.conns[n:])
				q.conns, q.head = q.conns[:n], 0
			}
			return c
		}
		q.waiting++
		q.idle.Broadcast()
		q.work.Wait()
		q.waiting--
	}
}

// take returns the session's next datagram, or nil if there is none for a handler.
func (q *workQueue) take(c *Conn) *buffer {
	if q.isStopped() {
		return nil
	}
	c.peer.mu.Lock()
	defer c.peer.mu.Unlock()
	if c.inbox == nil || c.userClosed || c.records.IsFrozen() {
		return nil
	}
	return c.inbox.pop()
}

func (q *workQueue) isStopped() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.stopped
}

// drain waits until no session is queued and all workers wait, or ctx has ended.
func (q *workQueue) drain(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.idle.Broadcast()
	})
	defer stop()
	q.mu.Lock()
	defer q.mu.Unlock()
	for !q.stopped && (q.head < len(q.conns) || q.waiting < q.workers) {
		if err := ctx.Err(); err != nil {
			return err
		}
		q.idle.Wait()
	}
	return nil
}

// stop lets the workers end, each after the handler that it is in. The queued sessions are
// let go.
func (q *workQueue) stop() {
	q.mu.Lock()
	q.stopped = true
	queued := q.conns[q.head:]
	q.conns, q.head = nil, 0
	q.work.Broadcast()
	q.idle.Broadcast()
	q.mu.Unlock()
	for _, c := range queued {
		c.peer.mu.Lock()
		c.leaveTotalLocked()
		c.peer.mu.Unlock()
	}
}

// leaveTotalLocked gives back the part of Config.QueueTotal of a session that has ended,
// unless a worker of Serve is to take what is left. What Read can still return does not
// count: nobody is bound to read it.
func (c *Conn) leaveTotalLocked() {
	if c.ended != 0 && c.inbox != nil && (!c.queued || c.peer.listener.queue.isStopped()) {
		c.inbox.leaveTotal()
	}
}

// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

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
	conns   fifo[*Conn]
	workers int        // goroutines
	waiting int        // of these, those that wait, or were woken and do not run yet
	waking  bool       // a worker was woken or started, and does not run yet
	work    *sync.Cond // a session was queued, or stopped is set
	idle    *sync.Cond // a worker waits, or stopped is set

	// These change with mu held, and are read without it.
	left    atomic.Int32 // the sessions that were not taken
	stopped atomic.Bool  // no handler is called any more

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
	if q.stopped.Load() {
		return
	}
	q.conns.push(c)
	q.left.Store(int32(q.conns.len))
	q.wakeLocked()
}

// wakeLocked has one more worker run, unless one is about to. That one wakes the next before it
// calls a handler, so that sessions wait for no handler. While handlers do not block, one worker
// handles many sessions in turn, and few are woken.
func (q *workQueue) wakeLocked() {
	switch {
	case q.waking:
	case q.waiting > 0:
		q.waking = true
		q.work.Signal()
	case q.workers < q.limit:
		q.waking = true
		q.workers++
		q.handlers.Go(q.run)
	}
}

// run is a worker.
func (q *workQueue) run() {
	w := worker{queue: q}
	q.mu.Lock()
	q.waking = false
	q.mu.Unlock()
	for c := q.next(&w); c != nil; c = q.next(&w) {
		w.handle(c)
	}
	w.release()
}

// next waits for a session, and returns nil once the queue is stopped.
func (q *workQueue) next(w *worker) *Conn {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		if q.stopped.Load() {
			q.workers--
			return nil
		}
		if c, ok := q.conns.pop(); ok {
			q.left.Store(int32(q.conns.len))
			if q.conns.len > 0 {
				q.wakeLocked()
			}
			return c
		}
		if len(w.holds) > 0 {
			q.mu.Unlock()
			w.release()
			q.mu.Lock()
			continue
		}
		q.waiting++
		q.idle.Broadcast()
		q.work.Wait()
		q.waiting--
		q.waking = false
	}
}

// worker is a goroutine of the queue.
type worker struct {
	queue *workQueue
	holds []hold // of the sockets whose datagrams are collected until the worker waits
}

// handle gives the handler what a session has received.
func (w *worker) handle(c *Conn) {
	p, q := c.peer, w.queue
	p.mu.Lock()
	for range workerTurn {
		datagram := q.takeLocked(c)
		if datagram == nil {
			break
		}
		if len(c.inbox.datagrams) == 0 && q.left.Load() == 0 && len(w.holds) == 0 {
			p.mu.Unlock()
			lockorder.AssertNone("a handler")
			q.handler(c, datagram.b)
			datagram.release()
			p.mu.Lock()
			continue
		}
		w.handleAmongLocked(c, datagram)
	}
	c.queued = false
	q.scheduleLocked(c) // at the end of the queue, for what is left
	c.leaveTotalLocked()
	p.mu.Unlock()
}

// handleAmongLocked calls the handler while more waits, with the lock of the peer released. The
// answers are collected, except those of a session whose handler is slow.
func (w *worker) handleAmongLocked(c *Conn, datagram *buffer) {
	out, slow := &c.peer.listener.sockets[c.socket].out, c.inbox.slow
	c.peer.mu.Unlock()
	if slow {
		w.release()
		out.sendCollected() // what other goroutines have collected
	} else {
		w.hold(out)
	}
	lockorder.AssertNone("a handler")
	began := time.Now()
	w.queue.handler(c, datagram.b)
	took := time.Since(began)
	if slow {
		out.sendCollected()
	}
	datagram.release()
	c.peer.mu.Lock()
	if c.inbox != nil {
		c.inbox.slow = took >= slowHandler
	}
}

// hold has the datagrams of a socket collected.
func (w *worker) hold(out *outbox) {
	i := slices.IndexFunc(w.holds, func(h hold) bool { return h.out == out })
	if i < 0 {
		i = len(w.holds)
		w.holds = append(w.holds, hold{out: out})
	}
	w.holds[i].renew()
}

// release sends the datagrams that were collected.
func (w *worker) release() {
	for i := range w.holds {
		w.holds[i].release()
	}
	w.holds = w.holds[:0]
}

// takeLocked returns the session's next datagram, or nil if there is none for a handler. The
// lock of its peer is held.
func (q *workQueue) takeLocked(c *Conn) *buffer {
	if q.stopped.Load() || c.inbox == nil || c.userClosed || c.records.IsFrozen() {
		return nil
	}
	return c.inbox.pop()
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
	for !q.stopped.Load() && (q.conns.len > 0 || q.waiting < q.workers) {
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
	q.stopped.Store(true)
	queued := q.conns.all()
	q.conns = fifo[*Conn]{}
	q.left.Store(0)
	q.work.Broadcast()
	q.idle.Broadcast()
	q.mu.Unlock()
	for c := range queued {
		c.peer.mu.Lock()
		c.leaveTotalLocked()
		c.peer.mu.Unlock()
	}
}

// leaveTotalLocked gives back the part of Config.QueueTotal of a session that has ended,
// unless a worker of Serve is to take what is left. What Read can still return does not
// count: nobody is bound to read it.
func (c *Conn) leaveTotalLocked() {
	if c.ended != 0 && c.inbox != nil && (!c.queued || c.peer.listener.queue.stopped.Load()) {
		c.inbox.leaveTotal()
	}
}

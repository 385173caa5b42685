// SPDX-License-Identifier: MIT

package pionv2

import (
	"context"
	"net"
	"sync"
)

// runQueue are the sessions that something came for, and the workers of Serve.
type runQueue struct {
	mu sync.Mutex
	// mu guards the following.
	wake     *sync.Cond
	quiet    *sync.Cond // a worker has nothing to do
	runnable []*Conn    // in order; each once, and none that a worker has
	head     int
	idle     int // workers that wait, those too that were woken and are not up yet
	workers  int
	stopped  bool
	handler  func(*Conn, []byte)
	handlers sync.WaitGroup // workers, for Serve to wait for
}

// turn is how many datagrams of one session a worker handles before the next
// session has its turn.
const turn = 16

// Serve calls handler with every datagram that comes, and returns when ctx has ended
// or the listener was closed. It does not close the listener. Sessions need no
// goroutine: up to Config.Workers run the handler, for one session one datagram at a
// time and in their order. A slow handler holds up its own session; when all workers
// are in slow handlers, what comes waits in the sessions' queues, and is dropped and
// counted when these are full.
//
// datagram is valid until handler returns: it is used again then. handler may call
// what it likes of the Conn, Close among it, but not Read. What came before a session
// ended is handled after that, and after OnEnd, unless the session was closed by
// Conn.Close.
//
// The error is ctx's, or wraps net.ErrClosed after Close, or ErrServing if Accept or
// Serve has been called before.
func (l *Listener) Serve(ctx context.Context, handler func(c *Conn, datagram []byte)) error {
	l.mu.Lock()
	switch {
	case l.closed:
		l.mu.Unlock()
		return l.opError("serve", net.ErrClosed)
	case l.accepting || l.serving.Load():
		l.mu.Unlock()
		return l.opError("serve", ErrServing)
	}
	l.workers.handler = handler
	l.serving.Store(true)
	l.mu.Unlock()

	// Sessions that were established before.
	for more := true; more; {
		select {
		case c := <-l.accept:
			c.mu.Lock()
			c.scheduleLocked()
			c.mu.Unlock()
		default:
			more = false
		}
	}
	var err error
	select {
	case <-ctx.Done():
		err = ctx.Err()
		l.stopWorkers()
	case <-l.done:
		err = l.closedError("serve")
	}
	l.workers.handlers.Wait()
	return err
}

// scheduleLocked queues the session for a worker, if something came for it, the user
// knows it, and it is not queued or with a worker.
func (c *Conn) scheduleLocked() {
	if c.queued || c.userDone || !c.known || c.inbox == nil || len(c.inbox.datagrams) == 0 {
		return
	}
	c.queued = true
	q := &c.peer.listener.workers
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.stopped {
		return
	}
	q.runnable = append(q.runnable, c)
	if len(q.runnable)-q.head <= q.idle {
		q.wake.Signal()
	} else if q.workers < c.peer.listener.config.Workers {
		q.workers++
		q.handlers.Go(q.work)
	}
}

// work is a worker.
func (q *runQueue) work() {
	for {
		c := q.next()
		if c == nil {
			return
		}
		for range turn {
			if q.isStopped() {
				break
			}
			buf := c.take()
			if buf == nil {
				break
			}
			q.handler(c, buf.b)
			buf.release()
		}
		c.mu.Lock()
		c.queued = false
		c.scheduleLocked() // at the end, for what is left
		c.mu.Unlock()
	}
}

func (q *runQueue) isStopped() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.stopped
}

// next waits for a session, and is nil when there will be none.
func (q *runQueue) next() *Conn {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		if q.stopped {
			q.workers--
			return nil
		}
		if q.head < len(q.runnable) {
			c := q.runnable[q.head]
			q.runnable[q.head] = nil
			if q.head++; q.head > len(q.runnable)/2 {
				n := copy(q.runnable, q.runnable[q.head:])
				clear(q.runnable[n:])
				q.runnable, q.head = q.runnable[:n], 0
			}
			return c
		}
		q.idle++
		q.quiet.Broadcast()
		q.wake.Wait()
		q.idle--
	}
}

// drain waits until all workers have nothing to do, or ctx has ended.
func (q *runQueue) drain(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.quiet.Broadcast()
	})
	defer stop()
	q.mu.Lock()
	defer q.mu.Unlock()
	for !q.stopped && (q.head < len(q.runnable) || q.idle < q.workers) {
		if err := ctx.Err(); err != nil {
			return err
		}
		q.quiet.Wait()
	}
	return nil
}

// take is the session's next datagram, or nil.
func (c *Conn) take() *buffer {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inbox == nil || len(c.inbox.datagrams) == 0 || c.userDone {
		return nil
	}
	return c.inbox.pop()
}

// unread is whether there is something to read.
func (c *Conn) unread() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.inbox != nil && len(c.inbox.datagrams) > 0
}

// stopWorkers lets workers end, each after the handler that it is in.
func (l *Listener) stopWorkers() {
	q := &l.workers
	q.mu.Lock()
	q.stopped = true
	q.wake.Broadcast()
	q.quiet.Broadcast()
	q.mu.Unlock()
}

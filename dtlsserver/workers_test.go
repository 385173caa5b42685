// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/udp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// queueTest is a work queue with sessions that have never had a handshake.
type queueTest struct {
	listener *Listener
	*workQueue
}

func newQueueTest(limit int, handler func(*Conn, []byte)) queueTest {
	l := &Listener{sockets: newSockets(make([]*udp.Socket, 1))} // nothing is sent
	l.queue.init(limit)
	l.queued.init(DefaultQueueTotal, 1)
	l.queue.handler = handler
	return queueTest{l, &l.queue}
}

// newSession returns a session that the user knows.
func (q queueTest) newSession() *Conn {
	c := (&Peer{listener: q.listener}).newConn()
	c.stage = stageAnnounced
	return c
}

// receive puts datagrams into a session's inbox.
func (q queueTest) receive(c *Conn, datagrams ...string) {
	c.peer.mu.Lock()
	defer c.peer.mu.Unlock()
	for _, d := range datagrams {
		c.inboxLocked().push(&buffer{b: []byte(d)}, 1<<20, 1<<30)
		q.scheduleLocked(c)
	}
}

func (q queueTest) lengths() (queued, workers, waiting int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.conns.len, q.workers, q.waiting
}

// TestOneWorkerServesManySessions: a worker that waits takes the next session.
func TestOneWorkerServesManySessions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var handled []string
		q := newQueueTest(8, func(_ *Conn, datagram []byte) { handled = append(handled, string(datagram)) })
		for range 10 {
			q.receive(q.newSession(), "x")
			synctest.Wait()
		}
		_, workers, waiting := q.lengths()
		assert.Equal(t, 1, workers)
		assert.Equal(t, 1, waiting)
		assert.Len(t, handled, 10)
		q.stop()
		q.handlers.Wait()
	})
}

// TestWorkersAreStartedUpToTheLimit while the others are in their handlers.
func TestWorkersAreStartedUpToTheLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const limit = 3
		resumeServing := make(chan struct{})
		q := newQueueTest(limit, func(*Conn, []byte) { <-resumeServing })
		for n := range limit + 2 {
			q.receive(q.newSession(), "x")
			synctest.Wait()
			queued, workers, _ := q.lengths()
			assert.Equal(t, min(n+1, limit), workers)
			assert.Equal(t, max(0, n+1-limit), queued)
		}
		close(resumeServing)
		synctest.Wait()
		queued, workers, waiting := q.lengths()
		assert.Zero(t, queued)
		assert.Equal(t, limit, workers)
		assert.Equal(t, limit, waiting)
		q.stop()
		q.handlers.Wait()
		_, workers, _ = q.lengths()
		assert.Zero(t, workers)
	})
}

// TestWokenWorkerDoesNotCountTwice: two sessions are queued while one worker waits. They
// are with two workers at once, although the first one may not run yet when the second
// session comes.
func TestWokenWorkerDoesNotCountTwice(t *testing.T) {
	t.Parallel()
	for range 100 {
		synctest.Test(t, func(t *testing.T) {
			var atOnce atomic.Int64
			resumeServing := make(chan struct{})
			q := newQueueTest(2, func(*Conn, []byte) { atOnce.Add(1); <-resumeServing })
			q.receive(q.newSession(), "x")
			resumeServing <- struct{}{}
			synctest.Wait()
			atOnce.Store(0)
			first, second := q.newSession(), q.newSession()
			q.receive(first, "x")
			q.receive(second, "x")
			synctest.Wait()
			assert.EqualValues(t, 2, atOnce.Load())
			close(resumeServing)
			q.stop()
			q.handlers.Wait()
		})
	}
}

// TestSessionGivesOthersTheirTurn after workerTurn datagrams.
func TestSessionGivesOthersTheirTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var handled []*Conn
		start := make(chan struct{})
		q := newQueueTest(1, func(c *Conn, _ []byte) {
			<-start
			handled = append(handled, c)
		})
		busy, other := q.newSession(), q.newSession()
		q.receive(busy, make([]string, 2*workerTurn+1)...)
		q.receive(other, "x")
		close(start)
		synctest.Wait()
		require.Len(t, handled, 2*workerTurn+2)
		assert.Same(t, other, handled[workerTurn])
		for i, c := range handled {
			assert.Equal(t, i == workerTurn, c == other)
		}
		q.stop()
		q.handlers.Wait()
	})
}

// TestSessionIsQueuedOnce, and only if it has something for a handler.
func TestSessionIsQueuedOnce(t *testing.T) {
	t.Parallel()
	q := newQueueTest(0, nil) // no worker takes anything
	queued := func() int { n, _, _ := q.lengths(); return n }
	schedule := func(c *Conn) {
		c.peer.mu.Lock()
		defer c.peer.mu.Unlock()
		q.scheduleLocked(c)
	}
	c := q.newSession()
	schedule(c)
	assert.Zero(t, queued(), "nothing was received")
	c.peer.mu.Lock()
	c.inboxLocked()
	c.peer.mu.Unlock()
	schedule(c)
	assert.Zero(t, queued(), "the inbox is empty")

	unknown := q.newSession()
	unknown.stage = stageOpened
	q.receive(unknown, "x")
	assert.Zero(t, queued(), "the user does not know the session")
	closed := q.newSession()
	closed.userClosed = true
	q.receive(closed, "x")
	assert.Zero(t, queued(), "the user has closed the session")

	q.receive(c, "x", "y")
	q.receive(c, "z")
	assert.Equal(t, 1, queued())
	unknown.stage = stageAnnounced
	schedule(unknown)
	assert.Equal(t, 2, queued())
	q.stop()
	q.receive(q.newSession(), "x")
	assert.Zero(t, queued(), "stop lets them go, and no session is queued after it")
}

// TestStoppedQueueCallsNoHandler: each worker ends after the handler that it is in.
func TestStoppedQueueCallsNoHandler(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		calls, resumeServing := 0, make(chan struct{})
		q := newQueueTest(1, func(*Conn, []byte) { calls++; <-resumeServing })
		q.receive(q.newSession(), "x", "y", "z")
		q.receive(q.newSession(), "x")
		synctest.Wait()
		q.stop()
		close(resumeServing)
		q.handlers.Wait()
		assert.Equal(t, 1, calls)
		assert.NoError(t, q.drain(t.Context()), "there is nothing to wait for")
	})
}

// TestDrainWaitsForHandlers, and for what is queued.
func TestDrainWaitsForHandlers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := newQueueTest(1, func(*Conn, []byte) { time.Sleep(time.Second) })
		assert.NoError(t, q.drain(t.Context()), "there was no worker yet")
		q.receive(q.newSession(), "x", "y")
		q.receive(q.newSession(), "x")
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		assert.ErrorIs(t, q.drain(ctx), context.DeadlineExceeded)
		assert.Equal(t, time.Second/2, time.Since(begin))
		assert.NoError(t, q.drain(t.Context()))
		assert.Equal(t, 3*time.Second, time.Since(begin))
		assert.NoError(t, q.drain(ctx), "nothing is left, so there is nothing to wait for")

		q.receive(q.newSession(), "x")
		waits := make(chan error)
		go func() { waits <- q.drain(context.Background()) }()
		synctest.Wait()
		q.stop()
		assert.NoError(t, <-waits)
		q.handlers.Wait()
	})
}

// TestWorkQueueWithConcurrentCalls has several goroutines receive datagrams for the same
// sessions. No session is with two workers, and each datagram is handled once, in order.
func TestWorkQueueWithConcurrentCalls(t *testing.T) {
	t.Parallel()
	const limit, sessions, receivers = 4, 20, 4
	each := dtlstest.Scaled(500, 5000)
	var atOnce, most, handled atomic.Int64
	handlers := map[*Conn]*struct {
		busy atomic.Bool
		next uint32
	}{}
	q := newQueueTest(limit, func(c *Conn, datagram []byte) {
		n := atOnce.Add(1)
		defer atOnce.Add(-1)
		for seen := most.Load(); n > seen && !most.CompareAndSwap(seen, n); seen = most.Load() {
		}
		h := handlers[c]
		if h.busy.Swap(true) {
			t.Error("two workers have one session")
		}
		defer h.busy.Store(false)
		if got := binary.BigEndian.Uint32(datagram); got != h.next {
			t.Errorf("datagram %d instead of %d", got, h.next)
		}
		h.next++
		handled.Add(1)
	})
	var conns []*Conn
	sent := make([]uint32, sessions) // guarded by the lock of each session's peer
	for range sessions {
		c := q.newSession()
		conns = append(conns, c)
		handlers[c] = &struct {
			busy atomic.Bool
			next uint32
		}{}
	}
	var wg sync.WaitGroup
	for range receivers {
		wg.Go(func() {
			for range each {
				i := rand.IntN(sessions)
				c := conns[i]
				c.peer.mu.Lock()
				c.inboxLocked().push(&buffer{b: binary.BigEndian.AppendUint32(nil, sent[i])}, 1<<20, 1<<30)
				sent[i]++
				q.scheduleLocked(c)
				c.peer.mu.Unlock()
				if rand.IntN(50) == 0 {
					assert.NoError(t, q.drain(t.Context()))
				}
			}
		})
	}
	wg.Wait()
	require.NoError(t, q.drain(t.Context()))
	assert.EqualValues(t, receivers*each, handled.Load())
	assert.LessOrEqual(t, most.Load(), int64(limit))
	queued, workers, waiting := q.lengths()
	assert.Zero(t, queued)
	assert.Equal(t, workers, waiting)
	for i, c := range conns {
		assert.False(t, c.queued)
		assert.Equal(t, sent[i], handlers[c].next)
	}
	q.stop()
	q.handlers.Wait()
}

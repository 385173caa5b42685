// SPDX-License-Identifier: MIT

package pionv2

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-dsm/dsm"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// serveWith has l served, and waits for that to end before the test does.
func serveWith(t *testing.T, l *Listener, handler func(*Conn, []byte)) {
	t.Helper()
	var served sync.WaitGroup
	served.Go(func() { _ = l.Serve(context.Background(), handler) })
	t.Cleanup(func() { _ = l.Close(); served.Wait() })
}

// A handler that closes its session while more has come for it: nothing more is
// handled, and no worker goes on looking for it.
func TestCloseInAHandler(t *testing.T) {
	checkLeaks(t)
	l := listen(t, pskConfig("key"), Config{Workers: 1})
	var calls atomic.Int32
	first, goOn := make(chan struct{}), make(chan struct{})
	serveWith(t, l, func(c *Conn, _ []byte) {
		if calls.Add(1) == 1 {
			close(first)
			<-goOn
			assert.NoError(t, c.Close())
		}
	})
	c := newClient(t, l, nil)
	for range 5 {
		_, err := c.Write([]byte("x"))
		require.NoError(t, err)
	}
	<-first
	close(goOn)
	eventually(t, func() bool { return l.Stats().ClosedByUs == 1 }, "closed")
	require.NoError(t, l.workers.drain(t.Context()))
	assert.EqualValues(t, 1, calls.Load())
}

// Listener.Close beside Conn.Close ends every session nevertheless.
func TestCloseBesideConnClose(t *testing.T) {
	checkLeaks(t)
	const rounds, each = 30, 6
	for range rounds {
		l := listen(t, pskConfig("key"), Config{})
		var conns []*Conn
		for range each {
			newClient(t, l, nil)
			accepted, err := l.Accept()
			require.NoError(t, err)
			c := accepted.(*Conn)
			c.mu.Lock()
			c.records.ReleaseCiphers() // so that it takes a while to seal close_notify
			c.mu.Unlock()
			conns = append(conns, c)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			for _, c := range conns[:each-1] {
				_ = c.Close()
			}
		})
		require.NoError(t, l.Close())
		wg.Wait()
		for _, c := range conns {
			require.Equal(t, dsm.StateNone, c.State())
		}
		require.Zero(t, l.Stats().Established)
	}
}

// Shutdown waits for the last close_notify, whoever sends it.
func TestShutdownWaitsForCloseNotify(t *testing.T) {
	checkLeaks(t)
	l, s, c, _ := established(t, Config{})
	down := make(chan error, 1)
	go func() { down <- l.Shutdown(context.Background()) }()
	eventually(t, func() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.drained != nil }, "waiting")
	l.mu.Lock()
	after := l.endLocked(s, ClosedByUs) // as Conn.Close does, and held up there
	l.mu.Unlock()
	eventually(t, func() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.closed }, "closing")
	select {
	case <-down:
		require.FailNow(t, "it did not wait")
	case <-time.After(20 * time.Millisecond):
	}
	after()
	require.NoError(t, <-down)
	requireEOF(t, c.Conn)
}

// Shutdown has handled what came before its sender closed the session.
func TestShutdownHandlesWhatCame(t *testing.T) {
	checkLeaks(t)
	l := listen(t, pskConfig("key"), Config{Workers: 1})
	var calls atomic.Int32
	first, goOn := make(chan struct{}), make(chan struct{})
	serveWith(t, l, func(*Conn, []byte) {
		if calls.Add(1) == 1 {
			close(first)
			<-goOn
		}
	})
	c := newClient(t, l, nil)
	for range 5 {
		_, err := c.Write([]byte("x"))
		require.NoError(t, err)
	}
	<-first
	require.NoError(t, c.Close())
	eventually(t, func() bool { return l.Stats().ClosedByPeer == 1 }, "closed")

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	assert.ErrorIs(t, l.workers.drain(ctx), context.DeadlineExceeded, "a handler runs")
	down := make(chan error, 1)
	go func() { down <- l.Shutdown(context.Background()) }()
	eventually(t, func() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.stopping }, "stopping")
	close(goOn)
	require.NoError(t, <-down)
	assert.EqualValues(t, 5, calls.Load())
}

// Sessions that are over are let go of, however many come and go.
func TestTheDeadAreNotKept(t *testing.T) {
	checkLeaks(t)
	l := listen(t, pskConfig("key"), Config{Sessions: 1})
	const sessions = 150
	for range sessions {
		newClient(t, l, nil)
		c, err := l.Accept()
		require.NoError(t, err)
		require.NoError(t, c.Close())
	}
	l.busyMu.Lock()
	defer l.busyMu.Unlock()
	assert.Less(t, len(l.busy), sessions*2/3)
}

// What a replaced session has not read is gone when it is closed; its successor, which
// is in one piece of memory with it, does not keep it.
func TestUnreadOfTheReplaced(t *testing.T) {
	checkLeaks(t)
	l, s, c, _ := established(t, Config{})
	for range 10 {
		_, err := c.Write(make([]byte, 1200))
		require.NoError(t, err)
	}
	eventually(t, func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.inbox != nil && len(s.inbox.datagrams) == 10 }, "came")
	c.kill()
	newClient(t, l, c.port())
	_, err := l.Accept()
	require.NoError(t, err)
	buf := make([]byte, 2000)
	n, err := s.Read(buf)
	require.NoError(t, err, "it can still be read")
	assert.Equal(t, 1200, n)
	require.NoError(t, s.Close())
	l.rest(time.Now().Add(time.Hour))
	s.mu.Lock()
	assert.Nil(t, s.inbox)
	s.mu.Unlock()
	_, err = s.Read(buf)
	assert.Equal(t, io.EOF, err)
}

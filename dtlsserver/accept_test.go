// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"context"
	"io"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAcceptConnEndsWithItsContext(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		begin := time.Now()
		c, err := l.AcceptConn(ctx)
		assert.Nil(t, c)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, time.Minute, time.Since(begin))
		var op *net.OpError
		if assert.ErrorAs(t, err, &op) {
			assert.Equal(t, "accept", op.Op)
			assert.Equal(t, l.Addr(), op.Addr)
			assert.True(t, op.Timeout())
		}

		ctx, cancel = context.WithCancel(t.Context())
		waits := make(chan error)
		go func() { _, err := l.AcceptConn(ctx); waits <- err }()
		synctest.Wait()
		cancel()
		assert.ErrorIs(t, <-waits, context.Canceled)
		assert.NotErrorIs(t, err, net.ErrClosed)

		// No session is lost to a call that has ended.
		client, s := l.connect(t)
		assert.Equal(t, client.Addr().String(), s.RemoteAddr().String())
	})
}

func TestAcceptConnReturnsSessionsInOrder(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		var clients []*dtlstest.Client
		for range 3 {
			clients = append(clients, l.dial(t, netip.AddrPort{}))
			synctest.Wait()
		}
		for i, client := range clients {
			c, err := l.AcceptConn(t.Context())
			require.NoError(t, err)
			require.Equal(t, client.Addr().String(), c.RemoteAddr().String(), i)
			require.Same(t, l.Listener, c.Listener())
		}
	})
}

// TestAcceptPassesOverSessionsWithNothingToRead ends two sessions before they are
// accepted. Only the one whose client has left something behind is returned.
func TestAcceptPassesOverSessionsWithNothingToRead(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		silent, talker := l.dial(t, netip.AddrPort{}), l.dial(t, netip.AddrPort{})
		synctest.Wait()
		write(t, talker, "last words")
		require.NoError(t, silent.Close())
		require.NoError(t, talker.Close())
		synctest.Wait()
		require.EqualValues(t, 2, l.Stats().ClosedByPeer)

		c, err := l.Accept()
		require.NoError(t, err)
		assert.Equal(t, talker.Addr().String(), c.RemoteAddr().String())
		assert.Equal(t, "last words", read(t, c.(*dtlsserver.Conn)))
		_, err = c.Read(nil)
		assert.Equal(t, io.EOF, err)

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err = l.AcceptConn(ctx)
		assert.ErrorIs(t, err, context.DeadlineExceeded, "there is no other session")
	})
}

func TestFullAcceptQueueRefusesSession(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{AcceptQueue: 1}, func(t *testing.T, l memory) {
		client := l.dial(t, netip.AddrPort{})
		synctest.Wait()
		require.Equal(t, 1, l.Stats().Established)
		l.dialRefused(t)
		synctest.Wait()
		assert.EqualValues(t, 1, l.Stats().Refused)
		assert.Equal(t, 1, l.Stats().Established)
		echoServer(t, l.Listener)
		dtlstest.Echo(t, client, "the first session is served")
	})
}

func TestAcceptAndServeExcludeEachOther(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := l.AcceptConn(ctx)
		require.ErrorIs(t, err, context.Canceled)
		assert.ErrorIs(t, l.Serve(t.Context(), func(*dtlsserver.Conn, []byte) {}), dtlsserver.ErrServing)
	})
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		handler := func(*dtlsserver.Conn, []byte) {}
		require.ErrorIs(t, l.Serve(ctx, handler), context.Canceled)
		_, err := l.Accept()
		assert.ErrorIs(t, err, dtlsserver.ErrServing)
		_, err = l.AcceptConn(t.Context())
		assert.ErrorIs(t, err, dtlsserver.ErrServing)
		assert.ErrorIs(t, l.Serve(t.Context(), handler), dtlsserver.ErrServing, "once for all")
	})
}

// TestCloseEndsAccept has calls wait that have a context and one that has none.
func TestCloseEndsAccept(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		l.dial(t, netip.AddrPort{}) // in the queue, and not accepted
		_, err := l.AcceptConn(t.Context())
		require.NoError(t, err)
		errs := make(chan error)
		go func() { _, err := l.Accept(); errs <- err }()
		go func() { _, err := l.AcceptConn(t.Context()); errs <- err }()
		synctest.Wait()
		require.NoError(t, l.Close())
		for range 2 {
			assert.ErrorIs(t, <-errs, net.ErrClosed)
		}
	})
	// Nor are sessions returned that are in the queue and have something to read.
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		for range 20 {
			write(t, l.dial(t, netip.AddrPort{}), "x")
		}
		synctest.Wait()
		require.Equal(t, 20, l.Stats().Established)
		require.NoError(t, l.Close())
		for range 10 {
			_, err := l.Accept()
			require.ErrorIs(t, err, net.ErrClosed)
			_, err = l.AcceptConn(t.Context())
			require.ErrorIs(t, err, net.ErrClosed)
		}
	})
}

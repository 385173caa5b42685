// SPDX-License-Identifier: MIT

package pionv2

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/nettest"
)

func TestWrappedFullEvictsLeastRecentlyUsed(t *testing.T) {
	t.Parallel()
	l := wrap(t, dtlstest.PSKConfig("key"), WrapConfig{Sessions: 2})
	conns := dtlstest.ServeEcho[*WrappedConn](t, l)

	first := dialWrapped(t, l, nil)
	second := dialWrapped(t, l, nil)
	dtlstest.Receive(t, conns)
	victim := dtlstest.Receive(t, conns)
	dtlstest.Echo(t, second, "one")
	dtlstest.Echo(t, first, "two") // now the second session is the least recently used

	third := dialWrapped(t, l, nil)
	dtlstest.Receive(t, conns)
	dtlstest.RequireEOFOfPion(t, second)
	dtlstest.Echo(t, first, "three")
	dtlstest.Echo(t, third, "four")
	assert.Zero(t, l.Table().AvailableSlots())
	assert.EqualValues(t, 1, l.Table().Stats().Evicted)

	_, err := victim.Read(make([]byte, 100))
	assert.ErrorIs(t, err, ErrEvicted)
	assert.ErrorIs(t, err, net.ErrClosed)
	_, err = victim.Write([]byte("too late"))
	assert.ErrorIs(t, err, ErrEvicted)
}

func TestWrappedReadAndWriteAreUse(t *testing.T) {
	t.Parallel()
	for name, use := range map[string]func(t *testing.T, client *dtlstest.Client, c *WrappedConn){
		"Read": func(t *testing.T, client *dtlstest.Client, c *WrappedConn) {
			_, err := client.Write([]byte("news"))
			require.NoError(t, err)
			dtlstest.Expect(t, c, "news")
		},
		"Write": func(t *testing.T, _ *dtlstest.Client, c *WrappedConn) {
			_, err := c.Write([]byte("news"))
			require.NoError(t, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := wrap(t, dtlstest.PSKConfig("key"), WrapConfig{Sessions: 2})
			accepted := make(chan *WrappedConn, 3)
			var wg sync.WaitGroup
			defer wg.Wait()
			wg.Go(func() {
				for range cap(accepted) {
					if c, err := l.Accept(); assert.NoError(t, err) {
						accepted <- c.(*WrappedConn)
					}
				}
			})
			firstClient := dialWrapped(t, l, nil)
			first := dtlstest.Receive(t, accepted)
			secondClient := dialWrapped(t, l, nil)
			second := dtlstest.Receive(t, accepted)
			use(t, firstClient, first)
			dialWrapped(t, l, nil)
			dtlstest.Receive(t, accepted)
			dtlstest.RequireEOFOfPion(t, secondClient)
			// Pion sends close_notify before it is closed.
			dtlstest.Eventually(t, func() bool {
				_, err := second.Write([]byte("too late"))
				return errors.Is(err, ErrEvicted)
			}, "the second session is evicted")
			_, err := first.Write([]byte("still here"))
			assert.NoError(t, err)
		})
	}
}

func TestWrappedFullRefusesNewcomer(t *testing.T) {
	t.Parallel()
	var log dtlstest.LogBuffer
	l := wrap(t, dtlstest.PSKConfig("key"), WrapConfig{Sessions: 1, WhenFull: RefuseNewcomer, Logger: log.Logger()})
	conns := dtlstest.ServeEcho[*WrappedConn](t, l)

	first := dialWrapped(t, l, nil)
	dtlstest.Receive(t, conns)
	requireRefused(t, l)
	dtlstest.Echo(t, first, "still here")
	log.WaitFor(t, "session refused")

	require.NoError(t, first.Close())
	dtlstest.Eventually(t, func() bool { return l.Table().AvailableSlots() == 1 }, "the slot is free")
	dtlstest.Echo(t, dialWrapped(t, l, nil), "there is room again")
}

// The same peer comes back from the same port before its old session is closed. What
// happens to the old session from then on has no effect on the new one.
func TestWrappedConnFreesOnlyItsOwnSlot(t *testing.T) {
	t.Parallel()
	l := wrap(t, dtlstest.PSKConfig("key"), WrapConfig{Sessions: 2})
	accepted := make(chan *WrappedConn, 2)
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 2 {
			c, err := l.Accept()
			if !assert.NoError(t, err) {
				return
			}
			accepted <- c.(*WrappedConn)
		}
	})
	defer wg.Wait()

	first := dialWrapped(t, l, dtlstest.OwnAddr())
	from := first.Addr()
	old := dtlstest.Receive(t, accepted)
	require.NoError(t, first.Close())
	_, err := old.Read(make([]byte, 100)) // pion knows that the session has ended
	require.ErrorIs(t, err, io.EOF)

	second := dialWrapped(t, l, from)
	c := dtlstest.Receive(t, accepted)
	assert.Equal(t, old.Peer(), c.Peer())
	assert.Equal(t, 1, l.Table().AvailableSlots())
	_, err = old.Write([]byte("x"))
	assert.ErrorIs(t, err, ErrReplaced)

	assert.NoError(t, old.Close())
	assert.ErrorIs(t, old.Close(), net.ErrClosed)
	assert.Equal(t, 1, l.Table().AvailableSlots(), "the new session keeps its slot")
	held, _ := l.Table().Get(l.Sock(), c.Peer())
	assert.Same(t, c, held.Value)

	_, err = second.Write([]byte("hello"))
	require.NoError(t, err)
	dtlstest.Expect(t, c, "hello")
	assert.NoError(t, c.Close())
	assert.Equal(t, 2, l.Table().AvailableSlots())
}

func TestWrappedConnMethods(t *testing.T) {
	t.Parallel()
	l := wrap(t, dtlstest.PSKConfig("key"), WrapConfig{})
	conns := make(chan *WrappedConn, 1)
	go func() {
		if c, err := l.Accept(); assert.NoError(t, err) {
			conns <- c.(*WrappedConn)
		}
	}()
	client := dialWrapped(t, l, nil)
	c := dtlstest.Receive(t, conns)

	state := c.ConnectionState()
	assert.Equal(t, dtlstest.Identity, string(state.IdentityHint))
	assert.Same(t, c.pion, c.DTLS())
	assert.True(t, 0 <= c.Slot() && c.Slot() < DefaultSessions)
	assert.Equal(t, client.LocalAddr().String(), c.RemoteAddr().String())
	assert.Equal(t, client.LocalAddr().String(), c.Peer().String())
	assert.Equal(t, l.Addr().String(), c.LocalAddr().String())

	require.NoError(t, c.SetReadDeadline(time.Now().Add(-time.Second)))
	_, err := c.Read(make([]byte, 10))
	assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, c.SetWriteDeadline(time.Now().Add(-time.Second)))
	n, err := c.Write([]byte("late"))
	assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
	assert.Zero(t, n)
	require.NoError(t, c.SetDeadline(time.Time{}))

	_, err = client.Write([]byte("too long a datagram"))
	require.NoError(t, err)
	_, err = c.Read(make([]byte, 3))
	assert.ErrorContains(t, err, "buffer is too small")

	require.NoError(t, client.Close())
	_, err = c.Read(make([]byte, 100))
	assert.Equal(t, io.EOF, err)
	_, err = c.Write([]byte("x"))
	assert.ErrorIs(t, err, ErrPeerClosed)
	assert.ErrorIs(t, err, net.ErrClosed)
}

// The tests of a net.Conn in x/net, between a WrappedConn and pion's client, over a
// transport that loses nothing.
func TestWrappedConnIsNetConn(t *testing.T) {
	t.Parallel()
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		pipes := dtlstest.NewListener(dtlstest.Addr("192.0.2.1:5684"))
		inner, err := dtls.NewListener(pipes, dtlstest.PSKConfig("key"))
		if err != nil {
			return nil, nil, nil, err
		}
		l, err := Wrap(inner, WrapConfig{})
		if err != nil {
			return nil, nil, nil, err
		}
		near, far := dtlstest.Pipe(dtlstest.Addr("192.0.2.2:1"), pipes.Addr())
		pipes.Put(far)
		type result struct {
			conn *dtls.Conn
			err  error
		}
		dialed := make(chan result, 1)
		go func() {
			c, err := dtls.Client(near, dtlstest.PSKConfig("key"))
			dialed <- result{c, err}
		}()
		c, err := l.Accept()
		client := <-dialed
		if err = errors.Join(err, client.err); err != nil {
			return nil, nil, nil, err
		}
		stop := func() {
			_ = client.conn.Close()
			_ = c.Close()
			_ = l.Close()
		}
		// The client's errors are pion's own. Only the WrappedConn is under test.
		return c, client.conn, stop, nil
	})
}

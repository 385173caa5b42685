// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestCloseEndsEverything: sessions, those that wait for Accept and handshakes. Then the
// port is free, and every call says that the listener is closed.
func TestCloseEndsEverything(t *testing.T) {
	t.Parallel()
	l, err := openListener("udp", dtlstest.OwnAddr().String(), psk(), dtlsserver.Config{Handshakes: 500, HandshakesPerSource: -1})
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	addr := l.Addr().(*net.UDPAddr)
	var clients []*dtlstest.Client
	for range 10 {
		clients = append(clients, dial(t, l, nil))
	}
	dtlstest.Eventually(t, func() bool { return l.Stats().Established == len(clients) }, "established")
	var sessions []net.Conn
	for range len(clients) - 1 { // one stays in the queue
		s, err := l.Accept()
		require.NoError(t, err)
		sessions = append(sessions, s)
	}
	for n := range 200 {
		stranger := dtlstest.Stranger(t, addr)
		dtlstest.Send(t, stranger, opening(l, dtlstest.AddrPort(stranger.LocalAddr()), dtlstest.RandomOf(byte(n))))
	}
	dtlstest.Eventually(t, func() bool { return l.Stats().HalfOpen == 200 }, "half-open")
	reads := make(chan error, len(sessions))
	for _, s := range sessions {
		go func() { _, err := s.Read(make([]byte, 10)); reads <- err }()
	}
	require.NoError(t, l.Close())
	for range sessions {
		assert.ErrorIs(t, dtlstest.Receive(t, reads), net.ErrClosed)
	}
	again, err := dtlstest.ListenUDP(addr)
	require.NoError(t, err, "the port is free")
	require.NoError(t, again.Close())
	stats := l.Stats()
	assert.Zero(t, stats.Established)
	assert.Zero(t, stats.HalfOpen)
	assert.EqualValues(t, 10, stats.ClosedByUs)
	assert.EqualValues(t, 200, stats.Displaced)
	_, err = l.Accept()
	assert.ErrorIs(t, err, net.ErrClosed)
	assert.ErrorIs(t, l.Close(), net.ErrClosed)
	assert.ErrorIs(t, l.Shutdown(t.Context()), net.ErrClosed)
	for _, c := range clients {
		dtlstest.RequireEOF(t, c)
	}
	assert.NoError(t, sessions[0].Close())
	assert.ErrorIs(t, sessions[0].Close(), net.ErrClosed)
	assert.ErrorIs(t, sessions[0].SetDeadline(time.Now()), net.ErrClosed)
}

// TestCloseIsPrompt: Close waits for pion's handshakes, whose own Close sleeps for up to
// a flight interval, and for nothing else.
func TestCloseIsPrompt(t *testing.T) {
	t.Parallel()
	config := psk()
	config.FlightInterval = time.Second
	cfg := dtlsserver.Config{Handshakes: 500, HandshakesPerSource: -1, HandshakeTimeout: time.Hour}
	inBubbleWith(t, config, cfg, func(t *testing.T, l memory) {
		for range 10 {
			l.dial(t, netip.AddrPort{})
		}
		for n := range 200 {
			l.occupy(t, n)
		}
		synctest.Wait()
		require.Equal(t, 10, l.Stats().Established)
		require.Equal(t, 200, l.Stats().HalfOpen)
		begin := time.Now()
		require.NoError(t, l.Close())
		assert.LessOrEqual(t, time.Since(begin), config.FlightInterval)
	})
}

// TestCloseWaitsForItsGoroutines: a hook holds up one of them.
func TestCloseWaitsForItsGoroutines(t *testing.T) {
	t.Parallel()
	var resumeServing chan struct{}
	cfg := dtlsserver.Config{OnEstablished: func(*dtlsserver.Conn) { <-resumeServing }}
	inBubble(t, cfg, func(t *testing.T, l memory) {
		resumeServing = make(chan struct{})
		l.dial(t, netip.AddrPort{})
		synctest.Wait()
		require.Equal(t, 1, l.Stats().Established)
		closed := make(chan error, 1)
		go func() { closed <- l.Close() }()
		synctest.Wait()
		select {
		case <-closed:
			require.FailNow(t, "Close did not wait")
		default:
		}
		close(resumeServing)
		require.NoError(t, <-closed)
	})
}

// TestCloseEndsSessionsThatOthersClose: Conn.Close in other goroutines keeps
// Listener.Close from no session.
func TestCloseEndsSessionsThatOthersClose(t *testing.T) {
	t.Parallel()
	const rounds, each = 30, 6
	synctest.Test(t, func(t *testing.T) {
		for range rounds {
			l := listenInMemory(t, psk(), dtlsserver.Config{})
			var conns []*dtlsserver.Conn
			for range each {
				_, c := l.connect(t)
				c.ReleaseCiphers() // so that it takes a while to seal close_notify
				conns = append(conns, c)
			}
			var wg sync.WaitGroup
			wg.Go(func() {
				for _, c := range conns[:each-1] {
					_ = c.Close()
				}
			})
			require.NoError(t, l.Close())
			for _, c := range conns {
				require.Equal(t, dsm.StateNone, c.State())
			}
			wg.Wait()
			require.Zero(t, l.Stats().Established)
			require.EqualValues(t, each, l.Stats().ClosedByUs)
		}
	})
}

// TestCloseEndsSessionsInUse has sessions written to while the listener is closed.
func TestCloseEndsSessionsInUse(t *testing.T) {
	t.Parallel()
	network := dtlstest.NewNetwork(1)
	l := memory{listenOn(t, network.Listen(netip.AddrPort{}), psk(), dtlsserver.Config{}), network}
	var conns []*dtlsserver.Conn
	for range 40 {
		_, c := l.connect(t)
		conns = append(conns, c)
	}
	var wg sync.WaitGroup
	var writes atomic.Int32
	for w := range 2 {
		wg.Go(func() {
			for i := w; ; i++ {
				_, err := conns[i%len(conns)].Write([]byte("x"))
				writes.Add(1)
				if errors.Is(err, net.ErrClosed) && l.Stats().Established == 0 {
					return
				}
			}
		})
	}
	dtlstest.Eventually(t, func() bool { return writes.Load() > 200 }, "writes")
	require.NoError(t, l.Close())
	wg.Wait()
	for _, c := range conns {
		assert.Equal(t, dsm.StateNone, c.State())
		_, err := c.Read(nil)
		assert.ErrorIs(t, err, net.ErrClosed)
	}
	assert.Equal(t, l.Table().MaxSlots(), l.Table().AvailableSlots())
}

// TestShutdownWaitsForTheLastSession serves the sessions meanwhile, and admits nobody.
func TestShutdownWaitsForTheLastSession(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		echoServer(t, l.Listener)
		a, b := l.dial(t, netip.AddrPort{}), l.dial(t, netip.AddrPort{})
		dtlstest.Echo(t, a, "x")
		l.occupy(t, 1)
		synctest.Wait()
		require.Equal(t, 1, l.Stats().HalfOpen)
		down := make(chan error, 1)
		go func() { down <- l.Shutdown(context.Background()) }()
		synctest.Wait()
		require.True(t, l.Stopped())
		assert.Zero(t, l.Stats().HalfOpen, "handshakes in progress end at once")
		l.occupy(t, 2)
		synctest.Wait()
		assert.Zero(t, l.Stats().HalfOpen)
		assert.EqualValues(t, 3, l.Stats().Started)
		for _, c := range []*dtlstest.Client{a, b} {
			dtlstest.Echo(t, c, "still served")
			select {
			case <-down:
				require.FailNow(t, "there is a session")
			default:
			}
			require.NoError(t, c.Close())
		}
		assert.NoError(t, <-down)
		assert.True(t, l.IsClosed())
		assert.EqualValues(t, 2, l.Stats().ClosedByPeer)
	})
}

// TestShutdownEndsWithItsContext and closes what is left then.
func TestShutdownEndsWithItsContext(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		echoServer(t, l.Listener)
		client := l.dial(t, netip.AddrPort{})
		dtlstest.Echo(t, client, "x")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		begin := time.Now()
		assert.ErrorIs(t, l.Shutdown(ctx), context.DeadlineExceeded)
		assert.Equal(t, time.Minute, time.Since(begin))
		assert.True(t, l.IsClosed())
		dtlstest.RequireEOF(t, client)
	})
}

func TestShutdownOfIdleListenerReturnsAtOnce(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		begin := time.Now()
		require.NoError(t, l.Shutdown(t.Context()))
		assert.Zero(t, time.Since(begin))
		assert.True(t, l.IsClosed())
		assert.ErrorIs(t, l.Shutdown(t.Context()), net.ErrClosed)
	})
}

// TestCloseEndsShutdown: then Shutdown has nothing to wait for.
func TestCloseEndsShutdown(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		l.connect(t)
		down := make(chan error, 1)
		go func() { down <- l.Shutdown(context.Background()) }()
		synctest.Wait()
		require.NoError(t, l.Close())
		assert.NoError(t, <-down)
	})
}

// TestShutdownWaitsForCloseNotify of the last session, whoever sends it.
func TestShutdownWaitsForCloseNotify(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		client, s := l.connect(t)
		down := make(chan error, 1)
		go func() { down <- l.Shutdown(context.Background()) }()
		synctest.Wait()
		require.True(t, l.IsDraining())
		finish := s.BeginEnd(dtlsserver.ClosedByUs) // as Conn.Close does, and is held up there
		closed := make(chan error, 1)
		go func() { closed <- l.Close() }()
		synctest.Wait()
		require.True(t, l.IsClosed())
		select {
		case <-down:
			require.FailNow(t, "Shutdown did not wait")
		case <-closed:
			require.FailNow(t, "Close did not wait")
		default:
		}
		finish()
		require.NoError(t, <-closed)
		require.NoError(t, <-down)
		dtlstest.RequireEOF(t, client)
	})
}

// TestShutdownHandlesWhatWasReceived before its sender closed the session.
func TestShutdownHandlesWhatWasReceived(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{Workers: 1}, func(t *testing.T, l memory) {
		var calls atomic.Int32
		resumeServing := make(chan struct{})
		serve(t, l.Listener, func(*dtlsserver.Conn, []byte) {
			if calls.Add(1) == 1 {
				<-resumeServing
			}
		})
		client := l.dial(t, netip.AddrPort{})
		write(t, client, "1", "2", "3", "4", "5")
		synctest.Wait()
		require.NoError(t, client.Close())
		synctest.Wait()
		require.EqualValues(t, 1, l.Stats().ClosedByPeer)

		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		assert.ErrorIs(t, l.DrainQueue(ctx), context.DeadlineExceeded, "a handler runs")
		down := make(chan error, 1)
		go func() { down <- l.Shutdown(context.Background()) }()
		synctest.Wait()
		require.True(t, l.Stopped())
		require.False(t, l.IsClosed())
		close(resumeServing)
		require.NoError(t, <-down)
		assert.EqualValues(t, 5, calls.Load())
	})
}

type brokenSocket struct{ net.PacketConn }

var errBroken = errors.New("broken")

func (brokenSocket) ReadFrom([]byte) (int, net.Addr, error) { return 0, nil, errBroken }

// TestBrokenSocketClosesListener: the listener says why it is closed, to Accept and to
// Serve.
func TestBrokenSocketClosesListener(t *testing.T) {
	t.Parallel()
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	var log dtlstest.LogBuffer
	l := listenOn(t, brokenSocket{socket}, psk(), dtlsserver.Config{Logger: log.Logger()})
	_, err = l.Accept()
	assert.ErrorIs(t, err, errBroken)
	assert.ErrorIs(t, err, net.ErrClosed)
	err = l.Serve(t.Context(), echoHandler)
	assert.ErrorIs(t, err, net.ErrClosed)
	dtlstest.Eventually(t, func() bool { return errors.Is(l.Close(), net.ErrClosed) }, "closed by itself")
	// The Close that the listener has called itself goes on.
	dtlstest.Eventually(t, func() bool {
		_, err := socket.WriteTo([]byte{0}, socket.LocalAddr())
		return errors.Is(err, net.ErrClosed)
	}, "the socket is closed")
	l.WaitForGoroutines()
	assert.Contains(t, log.String(), `level=ERROR msg="socket failed"`)
}

// SPDX-License-Identifier: MIT

package pionv2

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-dsm/dsm"
	"github.com/pion/dtls/v2"
	"github.com/pion/transport/v2/test"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/nettest"
)

// patience bounds what a test waits for; nothing waits for all of it but a failure.
const patience = 20 * time.Second

func pskConfig(key string) *dtls.Config {
	return &dtls.Config{
		PSK:             func([]byte) ([]byte, error) { return []byte(key), nil },
		PSKIdentityHint: []byte("device"),
		CipherSuites:    []dtls.CipherSuiteID{dtls.TLS_PSK_WITH_AES_128_GCM_SHA256},
		FlightInterval:  50 * time.Millisecond, // pion's Close waits for it
		ConnectContextMaker: func() (context.Context, func()) {
			return context.WithTimeout(context.Background(), patience)
		},
	}
}

// checkLeaks fails the test if it leaves a goroutine, or takes too long.
func checkLeaks(t *testing.T) {
	stop := test.CheckRoutines(t)
	limit := test.TimeOut(3 * patience)
	t.Cleanup(func() { limit.Stop(); stop() })
}

// newListener wraps a listener on a free port.
func newListener(t *testing.T, dtlsConfig *dtls.Config, config WrapConfig) *Wrapped {
	t.Helper()
	inner, err := dtls.Listen("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}, dtlsConfig)
	require.NoError(t, err)
	l, err := Wrap(inner, config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// server accepts and echoes until l is closed, and gives the conns in their order.
func server[C net.Conn](t *testing.T, l net.Listener) <-chan C {
	conns := make(chan C, 1000)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				assert.ErrorIs(t, err, net.ErrClosed)
				return
			}
			conns <- c.(C)
			wg.Go(func() {
				defer c.Close()
				buf := make([]byte, 2048)
				for {
					n, err := c.Read(buf)
					if err != nil {
						return
					}
					if _, err := c.Write(buf[:n]); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	return conns
}

func dial(t *testing.T, l net.Listener, from *net.UDPAddr) *dtls.Conn {
	t.Helper()
	c, err := tryDial(l, from, "key")
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func tryDial(l net.Listener, from *net.UDPAddr, key string) (*dtls.Conn, error) {
	udp, err := net.DialUDP("udp", from, l.Addr().(*net.UDPAddr))
	if err != nil {
		return nil, err
	}
	config := pskConfig(key)
	if key != "key" { // a server that does not understand says nothing
		config.ConnectContextMaker = func() (context.Context, func()) {
			return context.WithTimeout(context.Background(), 300*time.Millisecond)
		}
	}
	c, err := dtls.Client(slowToClose{udp}, config)
	if err != nil {
		_ = udp.Close()
		return nil, err
	}
	return c, nil
}

func echo(t *testing.T, c *dtls.Conn, text string) {
	t.Helper()
	require.NoError(t, c.SetReadDeadline(time.Now().Add(patience)))
	_, err := c.Write([]byte(text))
	require.NoError(t, err)
	buf := make([]byte, 100)
	n, err := c.Read(buf)
	require.NoError(t, err)
	require.Equal(t, text, string(buf[:n]))
}

// lost counts the close_notify that pion's Close kept back; see the package
// comment. One in a run of the tests is bad luck, more are a defect.
var lost atomic.Int32

// requireEOF waits for the close_notify of the server.
func requireEOF(t *testing.T, c *dtls.Conn) {
	t.Helper()
	require.NoError(t, c.SetReadDeadline(time.Now().Add(patience/4)))
	_, err := c.Read(make([]byte, 100))
	if errors.Is(err, context.DeadlineExceeded) && lost.Add(1) == 1 {
		t.Log("no close_notify: pion lost it")
		return
	}
	require.ErrorIs(t, err, io.EOF)
}

// slowToClose keeps a client's socket open for a moment, for the same reason.
type slowToClose struct{ net.Conn }

func (c slowToClose) Close() error {
	time.Sleep(20 * time.Millisecond)
	return c.Conn.Close()
}

// requireRefused dials until it has seen the close_notify of a refused session.
// Pion's client loses one that comes together with the end of the handshake.
func requireRefused(t *testing.T, l *Wrapped) {
	t.Helper()
	for range 20 {
		c, err := tryDial(l, nil, "key")
		if err != nil {
			continue // it came before the handshake was over
		}
		require.NoError(t, c.SetReadDeadline(time.Now().Add(time.Second)))
		n, err := c.Read(make([]byte, 100))
		require.Zero(t, n)
		_ = c.Close()
		if errors.Is(err, io.EOF) {
			return
		}
	}
	require.FailNow(t, "no refused session was closed")
}

func next(t *testing.T, conns <-chan *WrappedConn) *WrappedConn {
	t.Helper()
	select {
	case c := <-conns:
		return c
	case <-time.After(patience):
		require.FailNow(t, "no session was accepted")
		return nil
	}
}

func TestConfigErrors(t *testing.T) {
	table, err := dsm.New[*WrappedConn](1)
	require.NoError(t, err)
	inner, err := dtls.Listen("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}, pskConfig("key"))
	require.NoError(t, err)
	defer inner.Close()
	for _, config := range []WrapConfig{{Sessions: -1}, {WhenFull: 9}, {Table: table, Sessions: 1}, {Sessions: math.MaxInt32}} {
		l, err := Wrap(inner, config)
		assert.Nil(t, l)
		assert.Error(t, err, "%+v", config)
	}
	_, err = Wrap(nil, WrapConfig{})
	assert.Error(t, err)

	l, err := Wrap(inner, WrapConfig{})
	require.NoError(t, err)
	assert.Equal(t, DefaultSessions, l.Table().MaxSlots())
	assert.NoError(t, l.Close())
}

func TestFullEvictsLeastRecentlyUsed(t *testing.T) {
	checkLeaks(t)
	l := newListener(t, pskConfig("key"), WrapConfig{Sessions: 2})
	conns := server[*WrappedConn](t, l)

	first := dial(t, l, nil)
	second := dial(t, l, nil)
	next(t, conns)
	victim := next(t, conns)
	echo(t, second, "one")
	echo(t, first, "two") // now the second is the older

	third := dial(t, l, nil)
	next(t, conns)
	requireEOF(t, second)
	echo(t, first, "three")
	echo(t, third, "four")
	assert.Zero(t, l.Table().AvailableSlots())
	assert.EqualValues(t, 1, l.Table().Stats().Evicted)

	_, err := victim.Read(make([]byte, 100))
	assert.ErrorIs(t, err, ErrEvicted)
	assert.ErrorIs(t, err, net.ErrClosed)
	_, err = victim.Write([]byte("too late"))
	assert.ErrorIs(t, err, ErrEvicted)
}

func TestWriteIsUse(t *testing.T) {
	checkLeaks(t)
	l := newListener(t, pskConfig("key"), WrapConfig{Sessions: 2})
	conns := server[*WrappedConn](t, l)
	dial(t, l, nil)
	first := next(t, conns)
	second := dial(t, l, nil)
	next(t, conns)
	_, err := first.Write([]byte("news"))
	require.NoError(t, err)
	dial(t, l, nil)
	requireEOF(t, second)
}

func TestFullRefusesNewcomer(t *testing.T) {
	checkLeaks(t)
	var log logBuffer
	l := newListener(t, pskConfig("key"), WrapConfig{Sessions: 1, WhenFull: RefuseNewcomer, Logger: log.logger()})
	conns := server[*WrappedConn](t, l)

	first := dial(t, l, nil)
	next(t, conns)
	requireRefused(t, l)
	echo(t, first, "still here")
	log.waitFor(t, "session refused")

	require.NoError(t, first.Close())
	require.Eventually(t, func() bool { return l.Table().AvailableSlots() == 1 }, patience, time.Millisecond)
	echo(t, dial(t, l, nil), "there is room again")
}

// TestClosedConnFreesItsOwnSlotOnly: the same peer comes back from the same port
// before its old conn is closed. What happens to the old one then is not the new
// one's business.
func TestClosedConnFreesItsOwnSlotOnly(t *testing.T) {
	checkLeaks(t)
	l := newListener(t, pskConfig("key"), WrapConfig{Sessions: 2})
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

	first := dial(t, l, nil)
	from := first.LocalAddr().(*net.UDPAddr)
	old := next(t, accepted)
	require.NoError(t, first.Close())
	_, err := old.Read(make([]byte, 100)) // pion knows that it is over
	require.ErrorIs(t, err, io.EOF)

	second := dial(t, l, from)
	c := next(t, accepted)
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
	buf := make([]byte, 100)
	n, err := c.Read(buf)
	require.NoError(t, err)
	assert.Equal(t, "hello", string(buf[:n]))
	assert.NoError(t, c.Close())
	assert.Equal(t, 2, l.Table().AvailableSlots())
}

func TestFailedHandshakeDoesNotEndAccept(t *testing.T) {
	checkLeaks(t)
	var log logBuffer
	config := pskConfig("key")
	config.ConnectContextMaker = func() (context.Context, func()) {
		return context.WithTimeout(context.Background(), 200*time.Millisecond)
	}
	l := newListener(t, config, WrapConfig{Logger: log.logger()})
	conns := server[*WrappedConn](t, l)

	// A handshake record and then silence: pion's Accept waits for the rest.
	stalled, err := net.Dial("udp", l.Addr().String())
	require.NoError(t, err)
	defer stalled.Close()
	_, err = stalled.Write([]byte{22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0})
	require.NoError(t, err)
	log.waitFor(t, "context deadline exceeded")

	_, err = tryDial(l, nil, "another key")
	require.Error(t, err)

	echo(t, dial(t, l, nil), "hello")
	next(t, conns)
	assert.Contains(t, log.String(), "DTLS handshake failed")
}

func TestListenersShareATable(t *testing.T) {
	checkLeaks(t)
	table, err := dsm.New[*WrappedConn](2)
	require.NoError(t, err)
	one := newListener(t, pskConfig("key"), WrapConfig{Table: table})
	two := newListener(t, pskConfig("key"), WrapConfig{Table: table})
	oneConns, twoConns := server[*WrappedConn](t, one), server[*WrappedConn](t, two)

	a, b := dial(t, one, nil), dial(t, one, nil)
	next(t, oneConns)
	next(t, oneConns)
	requireRefused(t, two) // it has none of its own to evict

	require.NoError(t, a.Close())
	require.Eventually(t, func() bool { return table.AvailableSlots() == 1 }, patience, time.Millisecond)
	c := dial(t, two, nil)
	next(t, twoConns)
	d := dial(t, two, nil)
	requireEOF(t, c)
	echo(t, b, "the other listener's")
	echo(t, d, "newest")

	require.NoError(t, two.Close())
	assert.Equal(t, 1, table.AvailableSlots(), "only its own sessions are ended")
	echo(t, b, "still here")
}

func TestClose(t *testing.T) {
	checkLeaks(t)
	l := newListener(t, pskConfig("key"), WrapConfig{})
	accepted := make(chan *WrappedConn, 1)
	readErr, acceptErr := make(chan error, 1), make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		accepted <- c.(*WrappedConn)
		go func() {
			_, err := c.Read(make([]byte, 100))
			readErr <- err
		}()
		_, err = l.Accept()
		acceptErr <- err
	}()
	client := dial(t, l, nil)
	c := next(t, accepted)

	require.NoError(t, l.Close())
	socket, err := net.ListenUDP("udp", l.Addr().(*net.UDPAddr))
	require.NoError(t, err, "the port is free")
	require.NoError(t, socket.Close())

	requireEOF(t, client)
	assert.ErrorIs(t, <-readErr, net.ErrClosed)
	assert.ErrorIs(t, <-acceptErr, net.ErrClosed)
	_, err = l.Accept()
	assert.ErrorIs(t, err, net.ErrClosed)
	assert.ErrorIs(t, l.Close(), net.ErrClosed)
	assert.Equal(t, DefaultSessions, l.Table().AvailableSlots())
	assert.NoError(t, c.Close(), "its owner closes it for the first time")
	assert.Equal(t, "udp", l.Addr().Network())
}

// TestCloseDuringHandshake: the handshake is waited for, so that the port is free
// and nothing is left behind.
func TestCloseDuringHandshake(t *testing.T) {
	checkLeaks(t)
	config := pskConfig("key")
	handshaking := make(chan struct{}, 1)
	config.ConnectContextMaker = func() (context.Context, func()) {
		handshaking <- struct{}{}
		return context.WithTimeout(context.Background(), 300*time.Millisecond)
	}
	l := newListener(t, config, WrapConfig{})
	server[*WrappedConn](t, l)
	stalled, err := net.Dial("udp", l.Addr().String())
	require.NoError(t, err)
	defer stalled.Close()
	_, err = stalled.Write([]byte{22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0})
	require.NoError(t, err)
	<-handshaking

	require.NoError(t, l.Close())
	socket, err := net.ListenUDP("udp", l.Addr().(*net.UDPAddr))
	require.NoError(t, err, "the port is free")
	require.NoError(t, socket.Close())
}

func TestConnMethods(t *testing.T) {
	checkLeaks(t)
	l := newListener(t, pskConfig("key"), WrapConfig{})
	conns := make(chan *WrappedConn, 1)
	go func() {
		if c, err := l.Accept(); assert.NoError(t, err) {
			conns <- c.(*WrappedConn)
		}
	}()
	client := dial(t, l, nil)
	c := next(t, conns)

	state := c.ConnectionState()
	assert.Equal(t, "device", string(state.IdentityHint))
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

// TestInnerListenerFails: an error of the socket is Accept's.
func TestInnerListenerFails(t *testing.T) {
	broken := errors.New("broken")
	l, err := Wrap(&fakeListener{err: broken}, WrapConfig{})
	require.NoError(t, err)
	_, err = l.Accept()
	assert.ErrorIs(t, err, broken)

	one, two := net.Pipe()
	defer two.Close()
	l, err = Wrap(&fakeListener{conn: one}, WrapConfig{})
	require.NoError(t, err)
	_, err = l.Accept()
	assert.ErrorContains(t, err, "net.pipe")
}

// TestPeerWithoutEndpoint: such a session cannot be kept, and is ended.
func TestPeerWithoutEndpoint(t *testing.T) {
	checkLeaks(t)
	var log logBuffer
	pipes := &pipeListener{addr: pipeAddr("nowhere"), conns: make(chan net.Conn, 1), done: make(chan struct{})}
	inner, err := dtls.NewListener(pipes, pskConfig("key"))
	require.NoError(t, err)
	l, err := Wrap(inner, WrapConfig{Logger: log.logger()})
	require.NoError(t, err)
	server[*WrappedConn](t, l)
	near, far := newPacketPipe(pipeAddr("client"), pipeAddr("nowhere"))
	pipes.conns <- far
	// The session is ended at once, perhaps before the client knows of it.
	if client, err := dtls.Client(near, pskConfig("key")); err == nil {
		defer client.Close()
	}
	log.waitFor(t, errNoEndpoint.Error())
	assert.Equal(t, DefaultSessions, l.Table().AvailableSlots())
}

// TestManyClients: three times as many as slots, all talking, all coming and going.
func TestManyClients(t *testing.T) {
	checkLeaks(t)
	const slots, clients, rounds = 4, 12, 4
	l := newListener(t, pskConfig("key"), WrapConfig{Sessions: slots})
	for range 3 { // several handshakes at a time
		server[*WrappedConn](t, l)
	}
	var echoed atomic.Int32
	done := make(chan struct{})
	var watcher sync.WaitGroup
	watcher.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				free := l.Table().AvailableSlots()
				assert.True(t, 0 <= free && free <= slots)
				for session := range l.Table().All() {
					_ = session.Value.RemoteAddr()
				}
			}
		}
	})
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			for round := range rounds {
				c, err := tryDial(l, nil, "key")
				if err != nil {
					continue // evicted as its handshake ended
				}
				_ = c.SetReadDeadline(time.Now().Add(time.Second))
				text := fmt.Sprintf("client %d, round %d", i, round)
				buf := make([]byte, 100)
				if _, err := c.Write([]byte(text)); err == nil {
					if n, err := c.Read(buf); err == nil {
						assert.Equal(t, text, string(buf[:n]))
						echoed.Add(1)
					} else if !errors.Is(err, context.DeadlineExceeded) { // pion lost a close_notify
						assert.ErrorIs(t, err, io.EOF, "evicted")
					}
				}
				_ = c.Close()
			}
		})
	}
	wg.Wait()
	close(done)
	watcher.Wait()
	stats := l.Table().Stats()
	assert.LessOrEqual(t, stats.Stored, uint64(clients*rounds))
	assert.Positive(t, stats.Evicted)
	assert.Greater(t, echoed.Load(), int32(clients), "most are served")
	require.Eventually(t, func() bool { return l.Table().AvailableSlots() == slots }, patience, time.Millisecond)
}

// TestNetConn runs x/net's tests of a net.Conn, over a transport that loses
// nothing, between a Conn and pion's client.
func TestNetConn(t *testing.T) {
	checkLeaks(t)
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		pipes := &pipeListener{addr: pipeAddr("192.0.2.1:5684"), conns: make(chan net.Conn, 1), done: make(chan struct{})}
		inner, err := dtls.NewListener(pipes, pskConfig("key"))
		if err != nil {
			return nil, nil, nil, err
		}
		l, err := Wrap(inner, WrapConfig{})
		if err != nil {
			return nil, nil, nil, err
		}
		near, far := newPacketPipe(pipeAddr("192.0.2.2:1"), pipes.addr)
		pipes.conns <- far
		type result struct {
			conn *dtls.Conn
			err  error
		}
		dialed := make(chan result, 1)
		go func() {
			c, err := dtls.Client(near, pskConfig("key"))
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
		// The client's errors are pion's own; only the Conn is under test.
		return c, client.conn, stop, nil
	})
}

type fakeListener struct {
	conn net.Conn
	err  error
}

func (l *fakeListener) Accept() (net.Conn, error) { return l.conn, l.err }
func (l *fakeListener) Close() error              { return nil }
func (l *fakeListener) Addr() net.Addr            { return pipeAddr("fake") }

// logBuffer keeps what is logged.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func (b *logBuffer) waitFor(t *testing.T, text string) {
	t.Helper()
	require.Eventually(t, func() bool { return strings.Contains(b.String(), text) }, patience, time.Millisecond, text)
}

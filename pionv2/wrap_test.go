// SPDX-License-Identifier: MIT

package pionv2

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// wrap bounds a listener of pion's on a free port of loopback, and closes it when the
// test ends.
func wrap(t *testing.T, dtlsConfig *dtls.Config, config WrapConfig) *Wrapped {
	t.Helper()
	inner, err := dtls.Listen("udp", dtlstest.OwnAddr(), dtlsConfig)
	require.NoError(t, err)
	l, err := Wrap(inner, config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// dialWrapped has a client connect to l, from a free port if from is nil.
func dialWrapped(t *testing.T, l *Wrapped, from *net.UDPAddr) *dtlstest.Client {
	t.Helper()
	return dtlstest.Dial(t, l.Addr(), from, dtlstest.PSKConfig("key"))
}

// requireRefused dials until it has seen the close_notify of a refused session. Pion's
// client loses a close_notify that is received together with the end of the handshake.
func requireRefused(t *testing.T, l *Wrapped) {
	t.Helper()
	for range 20 {
		c, err := dtlstest.TryDial(l.Addr(), nil, dtlstest.PSKConfig("key"))
		if err != nil {
			continue // close_notify came before the end of the handshake
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

// beginHandshake sends the first byte of a handshake message and then falls silent, so
// that a call of Accept waits for the rest.
func beginHandshake(t *testing.T, l *Wrapped) {
	t.Helper()
	dtlstest.Send(t, dtlstest.Stranger(t, l.Addr()), dtlstest.Plaintext(record.TypeHandshake, 0, 0))
}

func TestFailedHandshakeDoesNotEndAccept(t *testing.T) {
	t.Parallel()
	var log dtlstest.LogBuffer
	config := dtlstest.WithTimeout(dtlstest.PSKConfig("key"), 200*time.Millisecond)
	l := wrap(t, config, WrapConfig{Logger: log.Logger()})
	conns := dtlstest.ServeEcho[*WrappedConn](t, l)

	beginHandshake(t, l)
	log.WaitFor(t, "context deadline exceeded")

	// The server does not understand the client's Finished and sends nothing.
	_, err := dtlstest.TryDial(l.Addr(), nil, dtlstest.WithTimeout(dtlstest.PSKConfig("another key"), 300*time.Millisecond))
	require.Error(t, err)

	dtlstest.Echo(t, dialPatiently(t, l), "hello")
	dtlstest.Receive(t, conns)
	assert.Contains(t, log.String(), "DTLS handshake failed")
}

// dialPatiently dials until a handshake has succeeded: the server of the test gives each
// handshake little time, which a busy machine may exceed.
func dialPatiently(t *testing.T, l *Wrapped) *dtlstest.Client {
	t.Helper()
	var c *dtlstest.Client
	dtlstest.Eventually(t, func() bool {
		var err error
		c, err = dtlstest.TryDial(l.Addr(), nil, dtlstest.WithTimeout(dtlstest.PSKConfig("key"), time.Second))
		return err == nil
	}, "a client is served")
	t.Cleanup(c.Kill)
	return c
}

func TestWrappedListenersShareTable(t *testing.T) {
	t.Parallel()
	table, err := dsm.New[*WrappedConn](2)
	require.NoError(t, err)
	one := wrap(t, dtlstest.PSKConfig("key"), WrapConfig{Table: table})
	two := wrap(t, dtlstest.PSKConfig("key"), WrapConfig{Table: table})
	oneConns, twoConns := dtlstest.ServeEcho[*WrappedConn](t, one), dtlstest.ServeEcho[*WrappedConn](t, two)

	a, b := dialWrapped(t, one, nil), dialWrapped(t, one, nil)
	dtlstest.Receive(t, oneConns)
	dtlstest.Receive(t, oneConns)
	requireRefused(t, two) // it has no session of its own to evict

	require.NoError(t, a.Close())
	dtlstest.Eventually(t, func() bool { return table.AvailableSlots() == 1 }, "a slot is free")
	c := dialWrapped(t, two, nil)
	dtlstest.Receive(t, twoConns)
	d := dialWrapped(t, two, nil)
	dtlstest.RequireEOFOfPion(t, c)
	dtlstest.Echo(t, b, "the other listener's")
	dtlstest.Echo(t, d, "newest")

	require.NoError(t, two.Close())
	assert.Equal(t, 1, table.AvailableSlots(), "only its own sessions are ended")
	dtlstest.Echo(t, b, "still here")
}

func TestWrappedCloseEndsEverything(t *testing.T) {
	t.Parallel()
	l := wrap(t, dtlstest.PSKConfig("key"), WrapConfig{})
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
	client := dialWrapped(t, l, nil)
	c := dtlstest.Receive(t, accepted)

	require.NoError(t, l.Close())
	requirePortIsFree(t, l)

	dtlstest.RequireEOFOfPion(t, client)
	assert.ErrorIs(t, dtlstest.Receive(t, readErr), net.ErrClosed)
	assert.ErrorIs(t, dtlstest.Receive(t, acceptErr), net.ErrClosed)
	_, err := l.Accept()
	assert.ErrorIs(t, err, net.ErrClosed)
	assert.ErrorIs(t, l.Close(), net.ErrClosed)
	assert.Equal(t, DefaultSessions, l.Table().AvailableSlots())
	assert.NoError(t, c.Close(), "its owner closes it for the first time")
	assert.Equal(t, "udp", l.Addr().Network())
}

func requirePortIsFree(t *testing.T, l *Wrapped) {
	t.Helper()
	socket, err := dtlstest.ListenUDP(l.Addr().(*net.UDPAddr))
	require.NoError(t, err, "the port is free")
	require.NoError(t, socket.Close())
}

// Close waits for a handshake in progress, so that the port is free and no goroutine is
// left.
func TestWrappedCloseWaitsForHandshake(t *testing.T) {
	t.Parallel()
	config := dtlstest.PSKConfig("key")
	handshaking := make(chan struct{}, 1)
	config.ConnectContextMaker = func() (context.Context, func()) {
		handshaking <- struct{}{}
		return context.WithTimeout(context.Background(), 300*time.Millisecond)
	}
	l := wrap(t, config, WrapConfig{})
	dtlstest.ServeEcho[*WrappedConn](t, l)
	beginHandshake(t, l)
	dtlstest.Receive(t, handshaking)

	require.NoError(t, l.Close())
	requirePortIsFree(t, l)
}

func TestErrorOfInnerListenerIsOfAccept(t *testing.T) {
	t.Parallel()
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

// fakeListener is a listener whose Accept always returns the same.
type fakeListener struct {
	conn net.Conn
	err  error
}

func (l *fakeListener) Accept() (net.Conn, error) { return l.conn, l.err }
func (l *fakeListener) Close() error              { return nil }
func (l *fakeListener) Addr() net.Addr            { return dtlstest.Addr("fake") }

// The session of a peer without an IP address and port cannot be stored, and is ended.
func TestPeerWithoutEndpointIsRefused(t *testing.T) {
	t.Parallel()
	var log dtlstest.LogBuffer
	pipes := dtlstest.NewListener(dtlstest.Addr("nowhere"))
	inner, err := dtls.NewListener(pipes, dtlstest.PSKConfig("key"))
	require.NoError(t, err)
	l, err := Wrap(inner, WrapConfig{Logger: log.Logger()})
	require.NoError(t, err)
	dtlstest.ServeEcho[*WrappedConn](t, l)
	near, far := dtlstest.Pipe(dtlstest.Addr("client"), pipes.Addr())
	pipes.Put(far)
	// The session is ended at once, perhaps before the client knows of it.
	if client, err := dtlstest.Handshake(near, dtlstest.PSKConfig("key")); err == nil {
		defer client.Close()
	}
	log.WaitFor(t, errNoEndpoint.Error())
	assert.Equal(t, DefaultSessions, l.Table().AvailableSlots())
}

// Three times as many clients as slots connect, talk and leave at the same time.
func TestMoreClientsThanSlots(t *testing.T) {
	t.Parallel()
	const slots, clients, rounds = 4, 12, 4
	l := wrap(t, dtlstest.PSKConfig("key"), WrapConfig{Sessions: slots})
	for range 3 { // several handshakes at a time
		dtlstest.ServeEcho[*WrappedConn](t, l)
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
	var wg, first sync.WaitGroup
	first.Add(clients) // all are there before any of them leaves
	for i := range clients {
		wg.Go(func() {
			for round := range rounds {
				// A client waits in vain where pion has lost the close_notify.
				c, err := dtlstest.TryDial(l.Addr(), nil, dtlstest.WithTimeout(dtlstest.PSKConfig("key"), 3*time.Second))
				if err == nil { // else evicted as its handshake ended
					if echoUnlessEvicted(t, c, fmt.Sprintf("client %d, round %d", i, round)) {
						echoed.Add(1)
					}
				}
				if round == 0 {
					first.Done()
					first.Wait()
				}
				if err == nil {
					_ = c.Close()
				}
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
	dtlstest.Eventually(t, func() bool { return l.Table().AvailableSlots() == slots }, "all slots are free")
	dtlstest.Eventually(t, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.conns) == 0
	}, "the listener forgets its sessions")
}

// echoUnlessEvicted reports whether a text was echoed. It fails the test if the session has
// not been evicted either.
func echoUnlessEvicted(t *testing.T, c *dtlstest.Client, text string) bool {
	_ = c.SetReadDeadline(time.Now().Add(time.Second))
	if _, err := c.Write([]byte(text)); err != nil {
		return false
	}
	buf := make([]byte, 100)
	n, err := c.Read(buf)
	switch {
	case err == nil:
		assert.Equal(t, text, string(buf[:n]))
		return true
	case !errors.Is(err, context.DeadlineExceeded): // pion has lost a close_notify
		assert.ErrorIs(t, err, io.EOF, "evicted")
	}
	return false
}

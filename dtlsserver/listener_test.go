// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestListenerServesSeveralClients(t *testing.T) {
	t.Parallel()
	l := listen(t, psk(), dtlsserver.Config{})
	conns := echoServer(t, l)
	for n := range 5 {
		client := dial(t, l, nil)
		for i := range 20 {
			dtlstest.Echo(t, client, fmt.Sprint(n, i))
		}
		require.NoError(t, client.Close())
	}
	for range 5 {
		dtlstest.Receive(t, conns)
	}
	dtlstest.Eventually(t, func() bool { return l.Stats().ClosedByPeer == 5 }, "closed")
	stats := l.Stats()
	assert.EqualValues(t, 5, stats.Completed)
	assert.Zero(t, stats.Established)
}

// TestSocketsShareOneOrderOfUse opens several sockets on one port, for more cores: one
// table, one Sock, one order.
func TestSocketsShareOneOrderOfUse(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("SO_REUSEPORT spreads peers on Linux")
	}
	t.Parallel()
	l := listen(t, psk(), dtlsserver.Config{Sessions: 20, Sockets: 3, ReadBuffer: 1 << 20, WriteBuffer: 1 << 20})
	requireOneOrderOfUse(t, l, 21)
}

// requireOneOrderOfUse has clients connect, one more than there is room for. They use
// more than one socket, and of all sessions the first one is evicted.
func requireOneOrderOfUse(t *testing.T, l *dtlsserver.Listener, clients int) {
	t.Helper()
	conns := echoServer(t, l)
	used := map[int]bool{}
	var first *dtlsserver.Conn
	for range clients {
		client := dial(t, l, nil)
		dtlstest.Echo(t, client, "x")
		s := dtlstest.Receive(t, conns)
		used[s.Socket()] = true
		if first == nil {
			first = s
		}
	}
	assert.Greater(t, len(used), 1)
	assert.EqualValues(t, 1, l.Stats().Evicted)
	assert.Equal(t, dtlsserver.Evicted, first.EndReason())
	assert.Equal(t, clients-1, l.Stats().Established)
}

// TestNewListenerRefuses has a case for each error. The sockets stay open: they are the
// caller's.
func TestNewListenerRefuses(t *testing.T) {
	t.Parallel()
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer socket.Close()
	other, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer other.Close()
	one := []net.PacketConn{socket}
	for _, c := range []struct {
		sockets []net.PacketConn
		cfg     dtlsserver.Config
		want    string
	}{
		{nil, dtlsserver.Config{}, "without a socket"},
		{[]net.PacketConn{}, dtlsserver.Config{}, "without a socket"},
		{[]net.PacketConn{nil}, dtlsserver.Config{}, "nil socket"},
		{[]net.PacketConn{socket, nil}, dtlsserver.Config{}, "nil socket"},
		{[]net.PacketConn{socket, other}, dtlsserver.Config{}, "several addresses"},
		{make([]net.PacketConn, dtlsserver.MaxSockets+1), dtlsserver.Config{}, "more than 256 sockets"},
		{one, dtlsserver.Config{Sockets: 1}, "are for Listen"},
		{one, dtlsserver.Config{ReadBuffer: 1}, "are for Listen"},
		{one, dtlsserver.Config{WriteBuffer: 1}, "are for Listen"},
		{one, dtlsserver.Config{Control: func(string, string, syscall.RawConn) error { return nil }}, "are for Listen"},
		{one, dtlsserver.Config{Sessions: -1}, "Config.Sessions"},
	} {
		_, err := openListenerOn(c.sockets, psk(), c.cfg)
		if assert.ErrorContains(t, err, c.want) {
			assert.True(t, strings.HasPrefix(err.Error(), "dsm: "), "%v", err)
		}
	}
	l := listenOn(t, socket, psk(), dtlsserver.Config{})
	echoServer(t, l)
	assert.Equal(t, socket.LocalAddr(), l.Addr())
	dtlstest.Echo(t, dial(t, l, nil), "the socket works")
	require.NoError(t, l.Close())
	_, err = socket.WriteTo([]byte{0}, socket.LocalAddr())
	assert.ErrorIs(t, err, net.ErrClosed, "and is the listener's now")
}

// peers returns the peers of sessions, in their order.
func peers(l *dtlsserver.Listener) []netip.AddrPort {
	var peers []netip.AddrPort
	for c := range l.Sessions() {
		peers = append(peers, c.Peer())
	}
	return peers
}

func TestSessionsAreInOrderOfUse(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		assert.Empty(t, peers(l.Listener))
		var clients []*dtlstest.Client
		var want []netip.AddrPort
		for range 40 {
			client, s := l.connect(t)
			clients, want = append(clients, client), append(want, s.Peer())
		}
		assert.Equal(t, want, peers(l.Listener))
		assert.Equal(t, want, peers(l.Listener), "to be returned is no use")
		for _, n := range []int{7, 0, 39} {
			write(t, clients[n], "use")
			synctest.Wait()
		}
		used := []netip.AddrPort{want[7], want[0], want[39]}
		want = append(append(append([]netip.AddrPort{}, want[1:7]...), want[8:39]...), used...)
		assert.Equal(t, want, peers(l.Listener))
	})
}

// TestSessionsAreTheListenersOwn in a table that it shares, and established: handshakes
// are not among them, and a handshake beside a session does not hide that.
func TestSessionsAreTheListenersOwn(t *testing.T) {
	t.Parallel()
	table, err := dsm.New[*dtlsserver.Peer](100)
	require.NoError(t, err)
	inBubble(t, dtlsserver.Config{Table: table, Sessions: 10}, func(t *testing.T, one memory) {
		two := listenInMemory(t, psk(), dtlsserver.Config{Table: table, Sessions: 10})
		var ofOne, ofTwo []netip.AddrPort
		for range 3 {
			client, s := one.connect(t)
			ofOne = append(ofOne, s.Peer())
			_, s = two.connect(t)
			ofTwo = append(ofTwo, s.Peer())
			client.Send(t, opening(one.Listener, ofOne[len(ofOne)-1], dtlstest.RandomOf(1))) // a handshake beside the session
		}
		one.occupy(t, 1)
		two.occupy(t, 2)
		synctest.Wait()
		require.Equal(t, 4, one.Stats().HalfOpen)
		assert.ElementsMatch(t, ofOne, peers(one.Listener))
		assert.Equal(t, ofTwo, peers(two.Listener))
		for c := range one.Sessions() {
			assert.Same(t, one.Listener, c.Listener())
		}
		require.NoError(t, one.Close())
		assert.Empty(t, peers(one.Listener))
		assert.Equal(t, ofTwo, peers(two.Listener))
	})
}

// TestSessionsCanBeEndedInTheLoop: each one is returned once, the loop may call anything,
// and it may be left.
func TestSessionsCanBeEndedInTheLoop(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		const sessions = 50
		var conns []*dtlsserver.Conn
		for range sessions {
			_, c := l.connect(t)
			conns = append(conns, c)
		}
		n := 0
		for c := range l.Sessions() {
			require.Same(t, conns[n], c)
			if n++; n == 5 {
				break
			}
		}
		n = 0
		for c := range l.Sessions() {
			require.Same(t, conns[n], c)
			require.NoError(t, c.Close())
			for other := range l.Sessions() {
				if n < sessions-1 {
					require.Same(t, conns[n+1], other)
				}
				break
			}
			n++
			require.Equal(t, sessions-n, l.Stats().Established)
		}
		assert.Equal(t, sessions, n)
		assert.Empty(t, peers(l.Listener))
	})
}

// TestSessionsThatEndBeforeTheirTurnAreNotReturned ends all later ones in the first
// turn, and uses a session: that may be returned or not, but no more than once.
func TestSessionsThatEndBeforeTheirTurnAreNotReturned(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		var conns []*dtlsserver.Conn
		for range 40 {
			_, c := l.connect(t)
			conns = append(conns, c)
		}
		n := 0
		for c := range l.Sessions() {
			require.Same(t, conns[0], c)
			for _, other := range conns[1:] {
				require.NoError(t, other.Close())
			}
			n++
		}
		assert.Equal(t, 1, n)
		_, other := l.connect(t)
		returned := map[*dtlsserver.Conn]int{}
		for c := range l.Sessions() {
			returned[c]++
			for _, used := range []*dtlsserver.Conn{conns[0], other} {
				_, err := used.Write(nil)
				require.NoError(t, err)
			}
		}
		assert.Equal(t, 1, returned[conns[0]])
		assert.LessOrEqual(t, returned[other], 1)
	})
}

// TestReplacedSessionIsNotReturned: its successor is.
func TestReplacedSessionIsNotReturned(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		client, old := l.connect(t)
		l.connect(t)
		client.Kill()
		l.dial(t, old.Peer())
		fresh, err := l.AcceptConn(t.Context())
		require.NoError(t, err)
		n := 0
		for c := range l.Sessions() {
			require.NotSame(t, old, c)
			if c == fresh {
				n++
			}
		}
		assert.Equal(t, 1, n)
	})
}

// TestSessionsWhileOthersComeAndGo runs loops beside clients that connect and sessions
// that end, for the race detector.
func TestSessionsWhileOthersComeAndGo(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{Sessions: 5}, func(t *testing.T, l memory) {
		echoServer(t, l.Listener)
		loops := make(chan int)
		stop := make(chan struct{})
		go func() {
			n := 0
			for {
				seen := map[*dtlsserver.Conn]bool{}
				for c := range l.Sessions() {
					assert.False(t, seen[c], "twice")
					seen[c] = true
					_, _ = c.Write(nil)
				}
				assert.LessOrEqual(t, len(seen), 10)
				n++
				select {
				case <-stop:
					loops <- n
					return
				case <-time.After(time.Millisecond):
				}
			}
		}()
		for range 20 {
			client := l.dial(t, netip.AddrPort{})
			time.Sleep(time.Millisecond)
			client.Kill()
		}
		close(stop)
		assert.Greater(t, <-loops, 1)
		assert.EqualValues(t, 15, l.Stats().Evicted)
	})
}

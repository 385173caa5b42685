// SPDX-License-Identifier: MIT

package pionv2

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/pion/dtls/v2"
	"github.com/pion/transport/v2/deadline"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// network is a server's socket in memory, to which datagrams can come from any
// address.
type network struct {
	in     chan letter
	closed chan struct{}
	once   sync.Once

	mu sync.Mutex
	// mu guards the following.
	clients map[netip.AddrPort]*networkClient
	sent    int // datagrams to nobody: what a flood's victims would get
}

type letter struct {
	from netip.AddrPort
	b    []byte
}

func newNetwork() *network {
	return &network{in: make(chan letter, 64), closed: make(chan struct{}), clients: map[netip.AddrPort]*networkClient{}}
}

// deliver waits for room: a real socket would drop, and the test sends no more than
// is read.
func (n *network) deliver(from netip.AddrPort, b []byte) {
	select {
	case n.in <- letter{from, b}:
	case <-n.closed:
	}
}

func (n *network) ReadFrom(p []byte) (int, net.Addr, error) {
	select {
	case l := <-n.in:
		return copy(p, l.b), net.UDPAddrFromAddrPort(l.from), nil
	case <-n.closed:
		return 0, nil, net.ErrClosed
	}
}

func (n *network) WriteTo(p []byte, to net.Addr) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c := n.clients[to.(*net.UDPAddr).AddrPort()]; c != nil {
		select {
		case c.in <- bytes.Clone(p):
		default:
		}
	} else {
		n.sent++
	}
	return len(p), nil
}

func (n *network) Close() error {
	n.once.Do(func() { close(n.closed) })
	return nil
}

func (n *network) LocalAddr() net.Addr {
	return &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 5684}
}
func (n *network) SetDeadline(time.Time) error      { return os.ErrNoDeadline }
func (n *network) SetReadDeadline(time.Time) error  { return os.ErrNoDeadline }
func (n *network) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }

// networkClient is a client's transport.
type networkClient struct {
	net  *network
	addr netip.AddrPort
	in   chan []byte
	dl   *deadline.Deadline
}

func (n *network) dial(addr netip.AddrPort) *networkClient {
	c := &networkClient{n, addr, make(chan []byte, 64), deadline.New()}
	n.mu.Lock()
	n.clients[addr] = c
	n.mu.Unlock()
	return c
}

func (c *networkClient) Read(p []byte) (int, error) {
	select {
	case b := <-c.in:
		return copy(p, b), nil
	case <-c.dl.Done():
		return 0, os.ErrDeadlineExceeded
	case <-c.net.closed:
		return 0, net.ErrClosed
	}
}

func (c *networkClient) Write(p []byte) (int, error) {
	c.net.deliver(c.addr, bytes.Clone(p))
	return len(p), nil
}

func (c *networkClient) Close() error                      { return nil }
func (c *networkClient) LocalAddr() net.Addr               { return net.UDPAddrFromAddrPort(c.addr) }
func (c *networkClient) RemoteAddr() net.Addr              { return c.net.LocalAddr() }
func (c *networkClient) SetDeadline(t time.Time) error     { c.dl.Set(t); return nil }
func (c *networkClient) SetReadDeadline(t time.Time) error { c.dl.Set(t); return nil }
func (c *networkClient) SetWriteDeadline(time.Time) error  { return nil }

// addrPort is the i-th address of a /8.
func addrPort(net byte, i int, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{net, byte(i >> 16), byte(i >> 8), byte(i)}), port)
}

// Spec 4: ClientHellos from as many addresses as there are of them hold no more
// memory than the cap on half-open handshakes allows; established sessions lose
// nothing, and honest clients still get in.
func TestSpoofedClientHellos(t *testing.T) {
	checkLeaks(t)
	strangers := 100_000
	if raceEnabled || testing.Short() {
		strangers = 3_000
	}
	const handshakes = 64
	n := newNetwork()
	l, err := NewListener(n, pskConfig("key"), Config{Sessions: 100, Handshakes: handshakes})
	require.NoError(t, err)
	serveWith(t, l, func(c *Conn, datagram []byte) { _, _ = c.Write(datagram) })

	client := func(i int) *dtls.Conn {
		addr := addrPort(198, i, 5000)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		c, err := dtls.ClientWithContext(ctx, n.dial(addr), pskConfig("key"))
		require.NoError(t, err)
		return c
	}
	var clients []*dtls.Conn
	for i := range 10 {
		clients = append(clients, client(i))
	}
	defer func() {
		for _, c := range clients {
			_ = c.Close()
		}
	}()

	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc + m.StackInuse)
	}
	before, most, routines := heap(), int64(0), 0
	spoofed := hello(3)
	for i := range strangers {
		from := addrPort(10, i, 5684)
		n.deliver(from, spoofed)
		if i%(strangers/20) == 0 {
			echo(t, clients[i%len(clients)], "still here")
			clients = append(clients, client(100+len(clients))) // an honest newcomer
			require.LessOrEqual(t, l.Stats().HalfOpen, handshakes)
			most, routines = max(most, heap()-before), max(routines, runtime.NumGoroutine())
		}
	}
	for _, c := range clients {
		echo(t, c, "and in the end")
	}
	stats := l.Stats()
	assert.Equal(t, len(clients), stats.Established)
	assert.Zero(t, stats.Evicted)
	assert.EqualValues(t, len(clients), stats.Completed)
	// Each half-open handshake is pion's 37 KB and four goroutines; the clients are in
	// this process, too.
	assert.Less(t, most, int64((handshakes+len(clients))*100<<10))
	assert.Less(t, routines, 5*handshakes+10*len(clients)+50)
	t.Logf("%d strangers, at most %d KB and %d goroutines more, %d half-open, %d displaced", strangers, most>>10, routines, stats.HalfOpen, stats.Displaced)
}

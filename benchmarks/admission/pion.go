// SPDX-License-Identifier: MIT

package admission

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/pion/transport/v2/packetio"
)

// pionBacklog is how many connections wait for Accept in pion's UDP listener.
const pionBacklog = 128

// pionUDP does what package udp of pion/transport v2.2.10 does over a real socket, so
// that dtls.NewListener on it is dtls.Listen on a network in memory. A datagram of an
// unknown address that begins with a handshake record makes a connection, which waits in
// a backlog of 128 for Accept; if that is full the datagram is dropped. A connection
// keeps what it has received in a packetio.Buffer, and is known until it is closed.
type pionUDP struct {
	socket  net.PacketConn
	backlog chan *pionConn
	closed  chan struct{}
	once    sync.Once
	done    chan struct{} // the reader has ended

	mu sync.Mutex
	// mu guards the following.
	conns map[netip.AddrPort]*pionConn
}

func newPionUDP(socket net.PacketConn) *pionUDP {
	l := &pionUDP{
		socket: socket, backlog: make(chan *pionConn, pionBacklog),
		closed: make(chan struct{}), done: make(chan struct{}), conns: map[netip.AddrPort]*pionConn{},
	}
	go l.read()
	return l
}

func (l *pionUDP) read() {
	defer close(l.done)
	buf := make([]byte, 8192) // pion's receiveMTU
	for {
		n, addr, err := l.socket.ReadFrom(buf)
		if err != nil {
			return
		}
		if c := l.connOf(dtlstest.AddrPort(addr), buf[:n]); c != nil {
			_, _ = c.received.Write(buf[:n])
		}
	}
}

// connOf returns the connection of an address, which may be new, or nil.
func (l *pionUDP) connOf(from netip.AddrPort, datagram []byte) *pionConn {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.conns[from]; c != nil {
		return c
	}
	if r, _, fault := record.Next(datagram); fault != record.NoFault || r.Type != record.TypeHandshake {
		return nil
	}
	c := &pionConn{listener: l, from: from, received: packetio.NewBuffer()}
	select {
	case l.backlog <- c:
		l.conns[from] = c
		return c
	default:
		return nil
	}
}

// Accept implements net.Listener.
func (l *pionUDP) Accept() (net.Conn, error) {
	select {
	case c := <-l.backlog:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. Unlike pion's it also closes the socket.
func (l *pionUDP) Close() error {
	l.once.Do(func() { close(l.closed); _ = l.socket.Close() })
	<-l.done
	return nil
}

// Addr implements net.Listener.
func (l *pionUDP) Addr() net.Addr { return l.socket.LocalAddr() }

// waiting returns how many connections wait for Accept, and how many there are.
func (l *pionUDP) waiting() (backlog, conns int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.backlog), len(l.conns)
}

// pionConn is a connection of a pionUDP.
type pionConn struct {
	listener *pionUDP
	from     netip.AddrPort
	received *packetio.Buffer
}

func (c *pionConn) Read(p []byte) (int, error) { return c.received.Read(p) }

func (c *pionConn) Write(p []byte) (int, error) {
	return c.listener.socket.WriteTo(p, c.RemoteAddr())
}

func (c *pionConn) Close() error {
	c.listener.mu.Lock()
	delete(c.listener.conns, c.from)
	c.listener.mu.Unlock()
	return c.received.Close()
}

func (c *pionConn) LocalAddr() net.Addr  { return c.listener.Addr() }
func (c *pionConn) RemoteAddr() net.Addr { return net.UDPAddrFromAddrPort(c.from) }

func (c *pionConn) SetDeadline(t time.Time) error      { return c.SetReadDeadline(t) }
func (c *pionConn) SetReadDeadline(t time.Time) error  { return c.received.SetReadDeadline(t) }
func (c *pionConn) SetWriteDeadline(t time.Time) error { return nil } // the socket never waits

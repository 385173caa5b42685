// SPDX-License-Identifier: MIT

package dtlstest

import (
	"net"
	"net/netip"
	"sync"
)

// Addr is an address that is no endpoint, such as that of a pipe.
type Addr string

// Network implements net.Addr.
func (Addr) Network() string { return "pipe" }

// String implements net.Addr.
func (a Addr) String() string { return string(a) }

// Listener is a net.Listener that gives the connections that a test puts into it.
type Listener struct {
	addr   net.Addr
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

// NewListener returns a Listener with room for 100 connections that nobody has
// accepted.
func NewListener(addr net.Addr) *Listener {
	return &Listener{addr: addr, conns: make(chan net.Conn, 100), closed: make(chan struct{})}
}

// Put has Accept return conn.
func (l *Listener) Put(conn net.Conn) { l.conns <- conn }

// Accept returns the next connection, or net.ErrClosed after Close.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept. It closes no connection.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr returns the address.
func (l *Listener) Addr() net.Addr { return l.addr }

// Pipe returns the two ends of a transport that loses nothing, with the addresses that
// a test gives them. Neither end has a bound on what was not read. Their Close is that
// of a Transport.
func Pipe(client, server net.Addr) (clientEnd, serverEnd net.Conn) {
	n := NewNetwork(0)
	a := netip.AddrPortFrom(defaultClient, firstEphemeralPort)
	s := n.Listen(defaultServer)
	s.Connect(a)
	return &pipeEnd{NewTransport(n.Dial(a, defaultServer)), client, server}, &pipeEnd{NewTransport(s), server, client}
}

// pipeEnd is a socket that states other addresses.
type pipeEnd struct {
	net.Conn
	local, remote net.Addr
}

func (p *pipeEnd) LocalAddr() net.Addr  { return p.local }
func (p *pipeEnd) RemoteAddr() net.Addr { return p.remote }

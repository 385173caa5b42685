// SPDX-License-Identifier: MIT

package pionv2

import (
	"net"
	"time"

	"github.com/pion/transport/v2/packetio"
)

// pipeAddr is an address of a packet pipe.
type pipeAddr string

func (pipeAddr) Network() string  { return "pipe" }
func (a pipeAddr) String() string { return string(a) }

// pipeConn is an end of an in-memory transport that keeps datagrams, and their
// order, and drops what no longer fits.
type pipeConn struct {
	local, remote net.Addr
	in, out       *packetio.Buffer
}

func newPacketPipe(near, far net.Addr) (net.Conn, net.Conn) {
	a, b := packetio.NewBuffer(), packetio.NewBuffer()
	return &pipeConn{near, far, a, b}, &pipeConn{far, near, b, a}
}

func (c *pipeConn) Read(p []byte) (int, error)        { return c.in.Read(p) }
func (c *pipeConn) Write(p []byte) (int, error)       { _, _ = c.out.Write(p); return len(p), nil }
func (c *pipeConn) Close() error                      { return c.in.Close() }
func (c *pipeConn) LocalAddr() net.Addr               { return c.local }
func (c *pipeConn) RemoteAddr() net.Addr              { return c.remote }
func (c *pipeConn) SetDeadline(t time.Time) error     { return c.in.SetReadDeadline(t) }
func (c *pipeConn) SetReadDeadline(t time.Time) error { return c.in.SetReadDeadline(t) }
func (c *pipeConn) SetWriteDeadline(time.Time) error  { return nil }

// pipeListener gives the conns that it is sent.
type pipeListener struct {
	addr  net.Addr
	conns chan net.Conn
	done  chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { close(l.done); return nil }
func (l *pipeListener) Addr() net.Addr { return l.addr }

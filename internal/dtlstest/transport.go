// SPDX-License-Identifier: MIT

package dtlstest

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-dsm/dsm/internal/record"
)

// Transport is the way of one of pion's Conns to its peer, usually a client's. pion v2
// takes it as a net.Conn, pion v3 as a net.PacketConn. SetIn and SetOut set hooks for
// its datagrams.
//
// Its Close waits for close_notify, 100 ms at most: pion sometimes closes its transport
// just before it sends close_notify, which then would never be sent.
type Transport struct {
	net.Conn
	hooks
	protected  atomic.Bool // a protected record was sent
	alerted    chan struct{}
	alertOnce  sync.Once
	killed     chan struct{}
	killOnce   sync.Once
	closeErr   error
	closedOnce sync.Once
}

// maxCloseWait bounds the wait for close_notify.
const maxCloseWait = 100 * time.Millisecond

// NewTransport returns a Transport over a connected socket.
func NewTransport(conn net.Conn) *Transport {
	return &Transport{Conn: conn, alerted: make(chan struct{}), killed: make(chan struct{})}
}

// Read reads the next datagram that the hook lets pass.
func (c *Transport) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		if n > 0 && record.Type(p[0]) == record.TypeAlert {
			c.noteAlert()
		}
		if err != nil || passes(&c.in, p[:n]) {
			return n, err
		}
	}
}

// ReadFrom is Read; all datagrams come from the peer.
func (c *Transport) ReadFrom(p []byte) (int, net.Addr, error) {
	n, err := c.Read(p)
	return n, c.RemoteAddr(), err
}

// Write sends the datagram if the hook lets it pass.
func (c *Transport) Write(p []byte) (int, error) {
	for _, r := range Records(p) {
		if r.Epoch > 0 {
			c.protected.Store(true)
		}
		if r.Type == record.TypeAlert {
			defer c.noteAlert()
		}
	}
	if c.out.Load() != nil {
		sent := append([]byte(nil), p...) // a hook may change it
		if !passes(&c.out, sent) {
			return len(p), nil
		}
		_, err := c.Conn.Write(sent)
		return len(p), err
	}
	return c.Conn.Write(p)
}

// WriteTo is Write; there is one peer only.
func (c *Transport) WriteTo(p []byte, _ net.Addr) (int, error) { return c.Write(p) }

func (c *Transport) noteAlert() { c.alertOnce.Do(func() { close(c.alerted) }) }

// Close closes the socket when close_notify was sent or an alert was received. A Conn
// that has sent no protected record has no close_notify to send.
func (c *Transport) Close() error {
	c.closedOnce.Do(func() {
		if c.protected.Load() {
			limit := time.NewTimer(maxCloseWait)
			defer limit.Stop()
			select {
			case <-c.alerted:
			case <-c.killed:
			case <-limit.C:
			}
		}
		c.closeErr = c.Conn.Close()
	})
	return c.closeErr
}

// Kill closes the socket at once, so that close_notify is not sent.
func (c *Transport) Kill() {
	c.killOnce.Do(func() {
		close(c.killed)
		_ = c.Conn.Close()
	})
}

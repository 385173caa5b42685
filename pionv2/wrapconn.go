// SPDX-License-Identifier: MIT

package pionv2

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/go-dsm/dsm"
	"github.com/pion/dtls/v2"
)

// WrappedConn is an established session that holds a slot, until it is closed, evicted
// or replaced. Data that is read or written marks it as used.
//
// It is safe for concurrent use; whoever accepted it closes it. After the peer's
// close_notify Read gives io.EOF, but the slot is held until Close.
type WrappedConn struct {
	// Set in admit, never changed.
	listener *Wrapped
	pion     *dtls.Conn
	peer     netip.AddrPort

	mu sync.Mutex
	// mu guards the following. It is held from before the table knows the
	// session until handle is set, for others find the WrappedConn there at once.
	handle   dsm.Handle[*WrappedConn]
	ended    error // why the session was ended from this side; nil: it was not
	userDone bool  // Close was called

	endOnce sync.Once
	endErr  error // of pion's Close; after endOnce
}

// takeSlot stores the session, and makes room for it if the policy says so. The
// sessions that it returns had to go, and are to be ended for the reasons given.
func (c *WrappedConn) takeSlot() (ended map[*WrappedConn]error, err error) {
	l := c.listener
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended != nil {
		return nil, net.ErrClosed // by the listener's Close
	}
	ended = map[*WrappedConn]error{}
	for {
		var (
			session  = dsm.Session[*WrappedConn]{Peer: c.peer, Value: c}
			previous dsm.State
			evicted  dsm.Session[*WrappedConn]
			none     dsm.Handle[*WrappedConn]
		)
		if l.policy == RefuseNewcomer {
			c.handle, previous = l.table.Hold(l.sock, &session, dsm.StateEstablished, true)
		} else {
			c.handle, previous, evicted = l.table.Admit(l.sock, &session, dsm.StateEstablished, true)
		}
		switch {
		case previous == dsm.StateNone:
			return ended, nil
		case c.handle == none: // the policy is to refuse, or all slots are other listeners'
			return ended, errNoRoom
		case previous == dsm.NoSpace:
			ended[evicted.Value] = ErrEvicted
			return ended, nil
		}
		// The handle is that of the peer's session before this one, which pion
		// knows to be over and nobody has closed yet.
		if c.handle.Free() {
			ended[session.Value] = ErrReplaced
		}
		c.handle = none
	}
}

// use marks the session as used now.
func (c *WrappedConn) use() {
	c.mu.Lock()
	handle := c.handle
	c.mu.Unlock()
	handle.Use()
}

// stop frees the session's slot, its own only. The first cause stands.
func (c *WrappedConn) stop(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended == nil {
		c.ended = cause
	}
	c.handle.Free()
}

// end is stop, and closes pion's conn, which sends close_notify. It returns when
// that is over; pion can take a second, so it is never called under a lock.
func (c *WrappedConn) end(cause error) error {
	c.stop(cause)
	c.endOnce.Do(func() {
		c.endErr = c.pion.Close()
		c.listener.log.Debug("session ended", "peer", c.peer)
		c.listener.forget(c)
	})
	return c.endErr
}

// Close frees the session's slot, sends close_notify and ends the session. It can
// take a second (dtls.Config.FlightInterval). A second Close gives an error that
// wraps net.ErrClosed.
func (c *WrappedConn) Close() error {
	c.mu.Lock()
	again := c.userDone
	c.userDone = true
	c.mu.Unlock()
	if again {
		return c.opError("close", net.ErrClosed)
	}
	return c.end(net.ErrClosed)
}

// Read reads one datagram. Where it does not fit into p, it is lost and pion's
// error says so. Errors wrap io.EOF after the peer's close_notify, net.ErrClosed
// after the session was ended from this side (ErrEvicted and ErrReplaced say why),
// and os.ErrDeadlineExceeded past the deadline.
func (c *WrappedConn) Read(p []byte) (int, error) {
	n, err := c.pion.Read(p)
	if err != nil {
		return n, c.translate("read", err)
	}
	c.use()
	return n, nil
}

// Write sends p as one datagram. Errors are as those of Read, but that after the
// peer's close_notify it is ErrPeerClosed. A Write that fails can count as use.
func (c *WrappedConn) Write(p []byte) (int, error) {
	c.use() // before the peer can answer, or its next use could seem the older
	if _, err := c.pion.Write(p); err != nil {
		return 0, c.translate("write", err)
	}
	return len(p), nil
}

// translate gives pion's errors the meaning that callers test for.
func (c *WrappedConn) translate(op string, err error) error {
	c.mu.Lock()
	ended := c.ended
	c.mu.Unlock()
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return c.opError(op, os.ErrDeadlineExceeded)
	case ended != nil:
		return c.opError(op, ended)
	case errors.Is(err, io.EOF):
		return io.EOF
	case errors.Is(err, dtls.ErrConnClosed):
		return c.opError(op, ErrPeerClosed)
	}
	return c.opError(op, err)
}

func (c *WrappedConn) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: c.LocalAddr().Network(), Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

// Peer returns the remote endpoint as the table knows it.
func (c *WrappedConn) Peer() netip.AddrPort { return c.peer }

// Slot returns the number of the session's slot, from 0 to MaxSlots()-1 of the
// table; it is another session's once this one was closed, evicted or replaced.
func (c *WrappedConn) Slot() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.handle.Slot()
}

// DTLS returns pion's conn, for what WrappedConn does not offer. Data that is read or
// written there does not mark the session as used, and closing it there leaves the
// slot held.
func (c *WrappedConn) DTLS() *dtls.Conn { return c.pion }

// ConnectionState returns pion's state of the session: the identity hint, the
// peer's certificates and more.
func (c *WrappedConn) ConnectionState() dtls.State { return c.pion.ConnectionState() }

// LocalAddr returns the local address.
func (c *WrappedConn) LocalAddr() net.Addr { return c.pion.LocalAddr() }

// RemoteAddr returns the peer's address.
func (c *WrappedConn) RemoteAddr() net.Addr { return c.pion.RemoteAddr() }

// SetDeadline sets both deadlines; the zero time means none.
func (c *WrappedConn) SetDeadline(t time.Time) error { return c.pion.SetDeadline(t) }

// SetReadDeadline sets the deadline of Read; the zero time means none.
func (c *WrappedConn) SetReadDeadline(t time.Time) error { return c.pion.SetReadDeadline(t) }

// SetWriteDeadline sets the deadline of Write; the zero time means none.
func (c *WrappedConn) SetWriteDeadline(t time.Time) error { return c.pion.SetWriteDeadline(t) }

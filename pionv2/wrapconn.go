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

// WrappedConn is an established session of a Wrapped. It has a slot until it is closed,
// evicted or replaced. A Read or Write of data marks it as used.
//
// It is safe for concurrent use, and whoever accepted it closes it. After the peer's
// close_notify Read returns io.EOF, and the session keeps its slot until Close.
type WrappedConn struct {
	// Set in Wrapped.admit, never changed.
	listener *Wrapped
	pion     *dtls.Conn
	peer     netip.AddrPort

	mu sync.Mutex
	// mu guards the following. It is held from before the session is stored in the
	// table until handle is set, because others find the WrappedConn in the table at
	// once.
	handle     dsm.Handle[*WrappedConn]
	endCause   error // why the session was ended from this side; nil: it was not
	userClosed bool  // Close was called

	endOnce sync.Once
	endErr  error // of pion's Close; set in endOnce
}

// takeSlot stores the session in the table, and makes room for it if the policy allows
// that. ended are the sessions that have lost their slots, each with its cause. The caller
// ends them, also after an error.
func (c *WrappedConn) takeSlot() (ended map[*WrappedConn]error, err error) {
	l := c.listener
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.endCause != nil {
		return nil, net.ErrClosed // by the listener's Close
	}
	ended = map[*WrappedConn]error{}
	for {
		var (
			session  = dsm.Session[*WrappedConn]{Peer: c.peer, Value: c}
			previous dsm.State
			evicted  dsm.Session[*WrappedConn]
			noHandle dsm.Handle[*WrappedConn]
		)
		if l.policy == RefuseNewcomer {
			c.handle, previous = l.table.Hold(l.sock, &session, dsm.StateEstablished, true)
		} else {
			c.handle, previous, evicted = l.table.Admit(l.sock, &session, dsm.StateEstablished, true)
		}
		switch {
		case previous == dsm.StateNone:
			return ended, nil
		case c.handle == noHandle: // the policy is to refuse, or other listeners have all slots
			return ended, errNoRoom
		case previous == dsm.NoSpace:
			ended[evicted.Value] = ErrEvicted
			return ended, nil
		}
		// The handle is that of the peer's previous session. Pion knows that it has
		// ended, and its owner has not closed it yet.
		if c.handle.Free() {
			ended[session.Value] = ErrReplaced
		}
		c.handle = noHandle
	}
}

// use marks the session as used now.
func (c *WrappedConn) use() {
	c.mu.Lock()
	handle := c.handle
	c.mu.Unlock()
	handle.Use()
}

// stop frees the session's slot. The first cause stands.
func (c *WrappedConn) stop(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.endCause == nil {
		c.endCause = cause
	}
	c.handle.Free()
}

// end frees the session's slot and closes pion's conn, which sends close_notify. Pion can
// take a second for that, so end is never called with a lock held.
func (c *WrappedConn) end(cause error) error {
	c.stop(cause)
	c.endOnce.Do(func() {
		c.endErr = c.pion.Close()
		c.listener.log.Debug("session ended", "peer", c.peer)
		c.listener.forget(c)
	})
	return c.endErr
}

// Close frees the session's slot, sends close_notify and ends the session. It can take
// dtls.Config.FlightInterval, a second by default. A second Close returns an error that
// wraps net.ErrClosed.
func (c *WrappedConn) Close() error {
	c.mu.Lock()
	again := c.userClosed
	c.userClosed = true
	c.mu.Unlock()
	if again {
		return c.opError("close", net.ErrClosed)
	}
	return c.end(net.ErrClosed)
}

// Read reads one datagram. A datagram that does not fit into p is lost, and the error is
// pion's. Errors wrap
//   - io.EOF after the peer's close_notify,
//   - net.ErrClosed after the session was ended from this side; ErrEvicted and
//     ErrReplaced say why,
//   - os.ErrDeadlineExceeded past the read deadline.
func (c *WrappedConn) Read(p []byte) (int, error) {
	n, err := c.pion.Read(p)
	if err != nil {
		return n, c.translate("read", err)
	}
	c.use()
	return n, nil
}

// Write sends p as one datagram. Its errors are those of Read, with ErrPeerClosed in the
// place of io.EOF and the write deadline in the place of the read deadline. A Write that
// fails can mark the session as used.
func (c *WrappedConn) Write(p []byte) (int, error) {
	c.use() // before the peer can answer, or this use could seem the later one
	if _, err := c.pion.Write(p); err != nil {
		return 0, c.translate("write", err)
	}
	return len(p), nil
}

// translate returns the error that callers test for in the place of pion's.
func (c *WrappedConn) translate(op string, err error) error {
	c.mu.Lock()
	cause := c.endCause
	c.mu.Unlock()
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return c.opError(op, os.ErrDeadlineExceeded)
	case cause != nil:
		return c.opError(op, cause)
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

// Peer returns the remote endpoint, as it is in the table.
func (c *WrappedConn) Peer() netip.AddrPort { return c.peer }

// Slot returns the number of the session's slot, from 0 to MaxSlots()-1 of the table. Once
// the session has ended another session can have the slot.
func (c *WrappedConn) Slot() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.handle.Slot()
}

// DTLS returns pion's conn, for what WrappedConn does not offer. Its Read and Write do not
// mark the session as used. Its Close does not free the slot.
func (c *WrappedConn) DTLS() *dtls.Conn { return c.pion }

// ConnectionState returns pion's state of the session, such as the PSK identity (in
// IdentityHint) and the peer's certificates.
func (c *WrappedConn) ConnectionState() dtls.State { return c.pion.ConnectionState() }

// LocalAddr returns the local address.
func (c *WrappedConn) LocalAddr() net.Addr { return c.pion.LocalAddr() }

// RemoteAddr returns the peer's address.
func (c *WrappedConn) RemoteAddr() net.Addr { return c.pion.RemoteAddr() }

// SetDeadline sets the deadlines of Read and Write. The zero time means none.
func (c *WrappedConn) SetDeadline(t time.Time) error { return c.pion.SetDeadline(t) }

// SetReadDeadline sets the deadline of Read. The zero time means none.
func (c *WrappedConn) SetReadDeadline(t time.Time) error { return c.pion.SetReadDeadline(t) }

// SetWriteDeadline sets the deadline of Write. The zero time means none.
func (c *WrappedConn) SetWriteDeadline(t time.Time) error { return c.pion.SetWriteDeadline(t) }

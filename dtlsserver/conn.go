// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/internal/udp"
)

// Conn is an established session of a Listener, until it is closed, evicted, expired
// or replaced. It is safe for concurrent use. It keeps message boundaries: a Write
// sends one record in one datagram, and a Read returns the content of one record.
//
// While nothing is read, written or received a Conn has no goroutine and takes some
// hundred bytes.
type Conn struct {
	// Set in Listener.newSession and Listener.establish, before another goroutine can reach the Conn, and never
	// changed.
	peer     *Peer
	identity compactIdentity

	// Peer.mu guards the following.
	records    record.Session
	lastUsed   time.Duration // since Listener.began
	source     *udp.Source   // the local address that the peer last sent to; nil: the system chooses
	flight     finalFlight
	began      uint32 // when it was established here, in ageUnits since Listener.began
	inbox      *inbox // nil until something is received or somebody reads
	extras     *connExtras
	quota      *identityEntry // nil: the session does not count in Listener.identities
	socket     uint8          // index in Listener.sockets
	ended      Reason         // 0: the session is established
	aborted    bool           // a fatal alert of the peer has ended it
	userClosed bool           // Close was called
	stage      stage          // how far it has come
	dirty      dirtiness      // what the journal is still to be told
	releaser   releaser       // who has the Conn, to release its ciphers
	queued     bool           // in the work queue, or with a worker
}

// stage is how far a session has come.
type stage uint8

const (
	stagePlaced      stage = iota // in its slot; the replies of openHeldLocked were not sent
	stageOpened                   // they were: see markOpened
	stageInterrupted              // of a server that has crashed: its first record ends it
	stageAnnounced                // OnEstablished or OnRestored was called
)

var _ net.Conn = (*Conn)(nil)

// Read reads one datagram. If b is too short for it b is filled, the rest is lost, and
// the error wraps io.ErrShortBuffer. Read returns what was received before the end of
// the session first, except after Close. Errors wrap
//   - io.EOF after the peer has closed or replaced the session,
//   - net.ErrClosed after it was ended from this side; ErrEvicted, ErrExpired,
//     ErrExhausted, ErrIdentityReplaced, ErrIdentityFull and ErrWithdrawn say why,
//   - os.ErrDeadlineExceeded while the session is established and the read deadline
//     has passed.
func (c *Conn) Read(b []byte) (int, error) {
	c.peer.mu.Lock()
	box := c.inboxLocked()
	for !c.userClosed && c.ended == 0 && !box.readExpired && (len(box.datagrams) == 0 || c.records.IsFrozen()) {
		box.readers++ // so that the sweeper leaves the inbox
		box.changed.Wait()
		box.readers--
	}
	datagram, err := c.nextLocked(box)
	c.peer.mu.Unlock()
	if err != nil {
		return 0, c.opError("read", err)
	}
	n := copy(b, datagram.b)
	short := n < len(datagram.b)
	datagram.release()
	if short {
		return n, c.opError("read", io.ErrShortBuffer)
	}
	return n, nil
}

// nextLocked returns the next datagram, or the error that Read has now.
func (c *Conn) nextLocked(box *inbox) (*buffer, error) {
	switch {
	case c.userClosed:
		return nil, c.ended.writeError() // of the two errors the one that wraps net.ErrClosed
	case c.ended == 0 && box.readExpired:
		return nil, os.ErrDeadlineExceeded
	case len(box.datagrams) > 0 && !c.records.IsFrozen(): // otherwise they go with the session
		return box.pop(), nil
	default:
		return nil, c.ended.readError()
	}
}

// Write sends b as one datagram in one record. If b does not fit into a record, or into
// the datagram size of the configuration, the error says how much does. Write does not wait for
// the peer. While the listener handles several datagrams, what is written waits for up to about a
// millisecond, so that answers leave together: a process that ends without Close can lose them.
// Errors wrap net.ErrClosed after the end of the session, of which ErrPeerClosed,
// ErrReplaced and the errors that Read gives say why, and os.ErrDeadlineExceeded past the
// write deadline.
func (c *Conn) Write(b []byte) (int, error) {
	p, l := c.peer, c.peer.listener
	now := time.Now()
	p.mu.Lock()
	if err := c.writableLocked(b, now); err != nil {
		p.mu.Unlock()
		return 0, c.opError("write", err)
	}
	// Use is marked before the peer can answer, or this use could seem the later one.
	c.markUsedLocked(now)
	buf := newBuffer(len(b) + c.records.Overhead())
	sealed, err := c.records.Seal(buf.room[:0], record.TypeApplicationData, b)
	var to route
	if err == nil {
		to = c.answerRouteLocked(len(sealed))
	}
	p.mu.Unlock()
	if err == nil {
		to.send(sealed)
	}
	buf.release()
	switch {
	case errors.Is(err, record.ErrExhausted):
		l.end(c, Exhausted)
		return 0, c.opError("write", ErrExhausted)
	case err != nil:
		return 0, c.opError("write", err)
	}
	return len(b), nil
}

// writableLocked returns the error that a Write of b has, or nil.
func (c *Conn) writableLocked(b []byte, now time.Time) error {
	if c.ended != 0 {
		return c.ended.writeError()
	}
	if c.records.IsFrozen() {
		return ErrDetached
	}
	if c.inbox != nil && c.inbox.writeExpired(now) {
		return os.ErrDeadlineExceeded
	}
	maximum := c.records.MaxPayload()
	if size := c.peer.listener.maxDatagram; size > 0 {
		maximum = min(maximum, max(0, size-c.records.Overhead()))
	}
	if len(b) > maximum {
		return fmt.Errorf("%d bytes, and at most %d fit into a datagram", len(b), maximum)
	}
	return nil
}

// Close ends the session, sends close_notify and frees its slot. What was received and
// not read is lost. Close never waits, and may be called from a handler or a hook. A
// second Close returns an error that wraps net.ErrClosed.
func (c *Conn) Close() error {
	c.peer.mu.Lock()
	again := c.userClosed
	c.userClosed = true
	if c.inbox != nil {
		c.inbox.clear()
		c.inbox.setReadDeadline(time.Time{}) // no timer runs any more
		c.inbox.changed.Broadcast()
		if c.inbox.unused() {
			c.inbox = nil // of a replaced session the sweeper may know nothing any more
		}
	}
	c.peer.mu.Unlock()
	if again {
		return c.opError("close", net.ErrClosed)
	}
	c.peer.listener.end(c, ClosedByUs)
	return nil
}

// HandshakeContext returns nil: the handshake of every Conn is done. It is there for
// callers that expect it of a DTLS connection.
func (c *Conn) HandshakeContext(context.Context) error { return nil }

// EndReason returns why the session has ended, and 0 while it is established.
func (c *Conn) EndReason() Reason {
	c.peer.mu.Lock()
	defer c.peer.mu.Unlock()
	return c.ended
}

// State returns dsm.StateEstablished, and dsm.StateNone once the session has ended.
func (c *Conn) State() dsm.State {
	if c.EndReason() != 0 {
		return dsm.StateNone
	}
	return dsm.StateEstablished
}

// Peer returns the remote endpoint. It changes when a session with a connection ID moves: see
// Config.AddressChange.
func (c *Conn) Peer() netip.AddrPort {
	c.peer.mu.Lock()
	defer c.peer.mu.Unlock()
	return c.peer.addr
}

// ageUnit is the unit of Conn.began: so 32 bits are enough for eight years.
const ageUnit = time.Second / 16

// Established returns when the session was established, or taken over, by this listener, to a
// sixteenth of a second.
func (c *Conn) Established() time.Time {
	c.peer.mu.Lock()
	defer c.peer.mu.Unlock()
	return c.peer.listener.began.Add(time.Duration(c.began) * ageUnit)
}

// LastUsed returns when the peer has last sent an authentic record, or the server has last
// sent one to it.
func (c *Conn) LastUsed() time.Time {
	c.peer.mu.Lock()
	defer c.peer.mu.Unlock()
	return c.peer.listener.began.Add(c.lastUsed)
}

// Slot returns the number of the session's slot, from 0. Once the session has ended
// another session can have it.
func (c *Conn) Slot() int { return c.peer.Slot() }

// Listener returns the listener that the session belongs to.
func (c *Conn) Listener() *Listener { return c.peer.listener }

// LocalAddr returns the address of the listener's socket.
func (c *Conn) LocalAddr() net.Addr { return c.peer.listener.sockets[0].LocalAddr() }

// RemoteAddr returns the address of Peer, a *net.UDPAddr.
func (c *Conn) RemoteAddr() net.Addr { return net.UDPAddrFromAddrPort(c.Peer()) }

// SetDeadline sets the read and the write deadline. The zero time means none. After
// Close the error wraps net.ErrClosed.
func (c *Conn) SetDeadline(at time.Time) error {
	if err := c.SetReadDeadline(at); err != nil {
		return err
	}
	return c.SetWriteDeadline(at)
}

// SetReadDeadline makes Reads fail from a time on, those that wait too. The zero time
// means none. After Close the error wraps net.ErrClosed.
func (c *Conn) SetReadDeadline(at time.Time) error {
	return c.setDeadline(func(box *inbox) { box.setReadDeadline(at) })
}

// SetWriteDeadline makes Writes fail from a time on. The zero time means none. After
// Close the error wraps net.ErrClosed.
func (c *Conn) SetWriteDeadline(at time.Time) error {
	return c.setDeadline(func(box *inbox) { box.writeDeadline = at })
}

func (c *Conn) setDeadline(set func(*inbox)) error {
	c.peer.mu.Lock()
	closed := c.userClosed
	if !closed && c.ended == 0 { // otherwise no deadline counts, and a timer would keep the Conn in memory
		set(c.inboxLocked())
	}
	c.peer.mu.Unlock()
	if closed {
		return c.opError("set", net.ErrClosed)
	}
	return nil
}

func (c *Conn) opError(op string, err error) error {
	if err == io.EOF {
		return err // callers compare it
	}
	return &net.OpError{Op: op, Net: "udp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

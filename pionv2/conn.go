// SPDX-License-Identifier: MIT

package pionv2

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/internal/udp"
	"github.com/pion/dtls/v2"
	"github.com/pion/transport/v2/deadline"
)

// Reason says why a session is over.
type Reason uint8

// The reasons.
const (
	ClosedByUs   Reason = iota + 1 // Conn.Close, or the listener's
	ClosedByPeer                   // its close_notify, or a fatal alert of it
	Evicted                        // to make room for a newcomer, or for Config.MinAvailable
	Expired                        // Config.IdleTimeout
	Replaced                       // the same peer has established another session
	Refused                        // there was no room when it was established, or Accept's queue was full
	Exhausted                      // no sequence number was left (RFC 6347 section 4.1.0)
)

var reasons = [...]string{"", "closed by us", "closed by the peer", "evicted", "expired", "replaced", "refused", "out of sequence numbers"}

// String returns the reason in words.
func (r Reason) String() string {
	if int(r) < len(reasons) && r > 0 {
		return reasons[r]
	}
	return fmt.Sprintf("Reason(%d)", uint8(r))
}

// ErrExpired is what Read and Write of a Conn wrap after Config.IdleTimeout. It
// wraps net.ErrClosed.
var ErrExpired = fmt.Errorf("pionv2: session expired: %w", net.ErrClosed)

// errFor is what Read and Write say after the session is over.
func (r Reason) errFor(write bool) error {
	switch r {
	case ClosedByPeer:
		if write {
			return ErrPeerClosed
		}
		return io.EOF
	case Replaced:
		if write {
			return ErrReplaced
		}
		return io.EOF
	case Evicted:
		return ErrEvicted
	case Expired:
		return ErrExpired
	default:
		return net.ErrClosed
	}
}

// notifies is whether the peer is sent close_notify. A client that has replaced its
// session would take it for the new one's.
func (r Reason) notifies() bool { return r != Replaced }

// Conn is an established session of a Listener, until it is closed, evicted,
// expired or replaced. It is safe for concurrent use. A message is a datagram: a
// Write is one record, and so is what a Read gives.
//
// While nothing is read, written or received a Conn has no goroutine and holds some
// hundred bytes.
type Conn struct {
	// Set in Listener.takeOver, never changed.
	peer     *Peer
	identity identity
	records  record.Session // guarded by mu, but for its ClientRandom

	mu sync.Mutex
	// mu guards the following.
	aborted  bool          // a fatal alert came
	ended    Reason        // 0: it is not over
	userDone bool          // Close was called
	known    bool          // OnEstablished was called
	busy     bool          // in Listener.busy: there may be something to drop
	socket   uint8         // a number in Listener.sockets
	queued   bool          // in Listener.workers' queue, or with a worker: see serve.go
	lastUsed time.Duration // since Listener.began
	source   *udp.Source   // the address that the peer last sent to; nil: the kernel chooses
	flight   flight        // our last one
	inbox    *inbox        // nil until something came or somebody reads
}

// flight is our last flight, to send it again: ChangeCipherSpec and Finished.
type flight struct {
	plain    uint64 // the next sequence number of epoch 0; 0: the client has shown that the flight came
	finished [finishedSize]byte
}

// finishedSize is a Finished with its header, in bytes (RFC 5246 section 7.4.9, RFC
// 6347 section 4.2.2).
const finishedSize = 12 + 12

// keep takes the flight from what pion sent.
func (f *flight) keep(t *transport, records *record.Session) {
	for rest := t.flight; len(rest) > 0; {
		r, after, fault := record.Next(rest)
		if fault != record.NoFault {
			return
		}
		if rest = after; r.Epoch > 0 {
			finished, err := records.OpenOwn(r)
			if err == nil && copy(f.finished[:], finished) == finishedSize {
				f.plain = t.plain
			}
			return
		}
	}
}

// inbox is what came for a session and was not read yet.
type inbox struct {
	datagrams []*buffer // oldest first
	bytes     int
	// wake has room for one: who waits in Read looks again.
	wake          chan struct{}
	readers       int // that use it
	readDeadline  *deadline.Deadline
	writeDeadline time.Time
}

// buffer is room for a datagram's payload.
type buffer struct {
	b    []byte // what is in it
	room []byte
}

const smallBuffer = 2048

// buffers are of smallBuffer; larger ones are rare, and not kept.
var buffers = sync.Pool{New: func() any { return &buffer{room: make([]byte, smallBuffer)} }}

func getBuffer(size int) *buffer {
	if size > smallBuffer {
		return &buffer{room: make([]byte, size)}
	}
	return buffers.Get().(*buffer)
}

func (b *buffer) release() {
	if len(b.room) == smallBuffer {
		b.b = nil
		buffers.Put(b)
	}
}

// path is where the session's datagrams go.
func (c *Conn) path() path {
	p := path{socket: c.peer.listener.sockets[c.socket], number: c.socket, peer: c.peer.addr}
	if c.source != nil {
		p.source = *c.source
	}
	return p
}

// setSource notes the address that the peer sent to. It hardly ever changes, and
// mostly there is none.
func (c *Conn) setSource(source udp.Source) {
	switch {
	case source == udp.Source{}:
		c.source = nil
	case c.source == nil || *c.source != source:
		kept := source // so that only this case allocates
		c.source = &kept
	}
}

// inboxLocked makes the inbox that a Conn does without while it is idle.
func (c *Conn) inboxLocked() *inbox {
	if c.inbox == nil {
		c.inbox = &inbox{wake: make(chan struct{}, 1)}
	}
	return c.inbox
}

func (b *inbox) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// usedLocked marks an authentic use.
func (c *Conn) usedLocked(now time.Time) {
	c.lastUsed = now.Sub(c.peer.listener.began)
	c.peer.handle.Use()
}

// busyLocked has the ciphers dropped when the session falls silent.
func (c *Conn) busyLocked() {
	if !c.busy {
		c.busy = true
		c.peer.listener.addBusy(c)
	}
}

// receive takes a record of a later epoch, and says if it ends the session. An error
// says that it is not the session's, which is as it was then. Peer.mu is held.
func (c *Conn) receive(from path, r record.Record, now time.Time) (ends Reason, err error) {
	l := c.peer.listener
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended != 0 || c.userDone {
		return 0, record.ErrEpoch
	}
	buf := getBuffer(len(r.Raw))
	if buf.b, err = c.records.Open(buf.room[:0], r); err != nil {
		buf.release()
		if !c.busy {
			c.records.ReleaseCiphers() // a forged record does not make a session larger
		}
		return 0, err
	}
	c.busyLocked()
	c.setSource(from.source)
	c.usedLocked(now)
	switch r.Type {
	case record.TypeApplicationData:
		c.flight = flight{} // the client has seen our Finished
		box := c.inboxLocked()
		if len(box.datagrams) >= l.config.QueueDatagrams || box.bytes+len(buf.b) > l.config.QueueBytes {
			l.counters.queueFull.Add(1)
			break // the newest is dropped
		}
		box.datagrams = append(box.datagrams, buf)
		box.bytes += len(buf.b)
		if l.serving.Load() {
			c.scheduleLocked()
		} else {
			box.signal()
		}
		return 0, nil
	case record.TypeAlert:
		alert, ok := record.ParseAlert(buf.b)
		buf.release()
		if ok && alert.EndsSession() {
			c.aborted = alert.Level == record.LevelFatal
			return ClosedByPeer, nil
		}
		l.counters.ignored.Add(1)
		return 0, nil
	case record.TypeHandshake:
		h, _, ok := record.NextHandshake(buf.b)
		switch {
		case ok && h.Type == record.MessageFinished && c.flight.plain != 0:
			c.repeatFlightLocked()
		case ok && h.Type == record.MessageClientHello:
			// Renegotiation. A client that is not told waits for ever (RFC 5746 section 4.5).
			c.sendAlertLocked(record.Alert{Level: record.LevelWarning, Description: record.NoRenegotiation})
		default:
			l.counters.ignored.Add(1)
		}
	default:
		l.counters.ignored.Add(1)
	}
	buf.release()
	return 0, nil
}

// sendAlertLocked seals an alert and sends it, if it can.
func (c *Conn) sendAlertLocked(a record.Alert) {
	if sealed, err := c.records.Seal(nil, record.TypeAlert, a.Payload()); err == nil {
		c.path().send(sealed)
	}
}

// repeatFlightLocked sends our ChangeCipherSpec and Finished again, as new records:
// repeated as they were they could be too old for the client's replay window.
func (c *Conn) repeatFlightLocked() {
	out := make([]byte, record.HeaderSize, 256)
	record.PutHeader(out, record.TypeChangeCipherSpec, 0, c.flight.plain, 1)
	c.flight.plain++
	out = append(out, 1)
	if out, err := c.records.Seal(out, record.TypeHandshake, c.flight.finished[:]); err == nil {
		c.path().send(out)
	}
}

// Read reads one datagram. If p is too small for it p is filled, the rest is lost,
// and the error wraps io.ErrShortBuffer. Errors wrap io.EOF after the peer's
// close_notify or when the peer has replaced the session, net.ErrClosed after it was
// ended from this side (ErrEvicted and ErrExpired say why), and
// os.ErrDeadlineExceeded past the deadline. What came before the end is read first,
// but after Close.
func (c *Conn) Read(p []byte) (int, error) {
	c.mu.Lock()
	for {
		box := c.inboxLocked()
		past := box.readDeadline
		if past != nil {
			select {
			case <-past.Done():
				c.mu.Unlock()
				return 0, c.opError("read", os.ErrDeadlineExceeded)
			default:
			}
		}
		if len(box.datagrams) > 0 && !c.userDone {
			buf := box.pop()
			if len(box.datagrams) > 0 {
				box.signal() // for the next reader
			}
			c.mu.Unlock()
			n := copy(p, buf.b)
			short := n < len(buf.b)
			buf.release()
			if short {
				return n, c.opError("read", io.ErrShortBuffer)
			}
			return n, nil
		}
		if c.ended != 0 {
			box.signal() // so does the next reader see it
			err := c.ended.errFor(false)
			c.mu.Unlock()
			return 0, c.opError("read", err)
		}
		box.readers++ // so that rest leaves it
		c.mu.Unlock()
		if past == nil {
			<-box.wake
		} else {
			select {
			case <-box.wake:
			case <-past.Done():
			}
		}
		c.mu.Lock()
		box.readers--
		if box.readDeadline != past {
			box.signal() // for the other readers to see the deadline, too
		}
	}
}

func (b *inbox) pop() *buffer {
	buf := b.datagrams[0]
	b.bytes -= len(buf.b)
	n := copy(b.datagrams, b.datagrams[1:])
	b.datagrams[n] = nil
	b.datagrams = b.datagrams[:n]
	return buf
}

// Write sends p as one datagram, in one record. What does not fit into a record or
// the path (dtls.Config.MTU, if that is set) is an error that says how much does.
// It waits for nothing. Errors are as those of Read, but that after the peer's
// close_notify it is ErrPeerClosed, and after the session was replaced ErrReplaced.
func (c *Conn) Write(p []byte) (int, error) {
	l := c.peer.listener
	now := time.Now()
	c.mu.Lock()
	switch {
	case c.ended != 0:
		err := c.ended.errFor(true)
		c.mu.Unlock()
		return 0, c.opError("write", err)
	case c.inbox != nil && !c.inbox.writeDeadline.IsZero() && !now.Before(c.inbox.writeDeadline):
		c.mu.Unlock()
		return 0, c.opError("write", os.ErrDeadlineExceeded)
	}
	if maximum := l.maxPayload(c.records.Overhead()); len(p) > maximum {
		c.mu.Unlock()
		return 0, c.opError("write", fmt.Errorf("%d bytes, and at most %d fit into a datagram", len(p), maximum))
	}
	c.usedLocked(now) // before the peer can answer, or its next use could seem the older
	c.busyLocked()
	buf := getBuffer(len(p) + c.records.Overhead())
	sealed, err := c.records.Seal(buf.room[:0], record.TypeApplicationData, p)
	to := c.path()
	c.mu.Unlock()
	if err == nil {
		to.send(sealed)
	}
	buf.release()
	switch {
	case errors.Is(err, record.ErrExhausted):
		l.end(c, Exhausted)
		return 0, c.opError("write", fmt.Errorf("%w: %w", net.ErrClosed, err))
	case err != nil:
		return 0, c.opError("write", err)
	}
	return len(p), nil
}

// Close ends the session, sends close_notify and frees its slot. It waits for
// nothing, and may be called from a handler or a hook. A second Close gives an
// error that wraps net.ErrClosed.
func (c *Conn) Close() error {
	c.mu.Lock()
	again := c.userDone
	c.userDone = true
	if box := c.inbox; box != nil { // nobody can read it any more
		for len(box.datagrams) > 0 {
			box.pop().release()
		}
	}
	c.mu.Unlock()
	if again {
		return c.opError("close", net.ErrClosed)
	}
	c.peer.listener.end(c, ClosedByUs)
	return nil
}

// endLocked ends the session: of its keys, and of its readers.
func (c *Conn) endLocked(why Reason) (notify []byte) {
	c.ended = why
	if why.notifies() {
		notify, _ = c.records.Seal(nil, record.TypeAlert, record.Alert{Level: record.LevelWarning, Description: record.CloseNotify}.Payload())
	}
	c.records.ReleaseCiphers()
	c.flight = flight{}
	if c.inbox != nil {
		c.inbox.signal()
	}
	return notify
}

func (c *Conn) opError(op string, err error) error {
	if err == io.EOF {
		return err // readers compare it
	}
	return &net.OpError{Op: op, Net: "udp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

// Peer is the remote endpoint.
func (c *Conn) Peer() netip.AddrPort { return c.peer.addr }

// State is dsm.StateEstablished, and dsm.StateNone once the session is over.
func (c *Conn) State() dsm.State {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended != 0 {
		return dsm.StateNone
	}
	return dsm.StateEstablished
}

// Slot is the number of the session's slot, from 0. Once the session is over
// another one can have it.
func (c *Conn) Slot() int { return c.peer.Slot() }

// Listener is what the session is of.
func (c *Conn) Listener() *Listener { return c.peer.listener }

// ConnectionState returns what the handshake left: who the peer is, and what
// ExportKeyingMaterial needs (RFC 5705).
func (c *Conn) ConnectionState() dtls.State {
	s, err := state(c.secrets(), &c.identity)
	if err != nil {
		panic("pionv2: pion does not take back its own state: " + err.Error())
	}
	if k := c.kept(); k != nil {
		s.SessionID = []byte(k.id)
	}
	return *s
}

// secrets are the session's.
func (c *Conn) secrets() record.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.records.Config()
}

// LocalAddr returns the address of the listener's socket.
func (c *Conn) LocalAddr() net.Addr { return c.peer.listener.Addr() }

// RemoteAddr returns the peer's address, a *net.UDPAddr.
func (c *Conn) RemoteAddr() net.Addr { return net.UDPAddrFromAddrPort(c.peer.addr) }

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(at time.Time) error {
	if err := c.SetReadDeadline(at); err != nil {
		return err
	}
	return c.SetWriteDeadline(at)
}

// SetReadDeadline ends Reads at a time, those under way too. Zero: never.
func (c *Conn) SetReadDeadline(at time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.userDone {
		return c.opError("set", net.ErrClosed)
	}
	box := c.inboxLocked()
	if box.readDeadline == nil {
		box.readDeadline = deadline.New()
		box.signal() // who waits without one
	}
	box.readDeadline.Set(at)
	return nil
}

// SetWriteDeadline has Writes fail from a time on. Zero: never.
func (c *Conn) SetWriteDeadline(at time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.userDone {
		return c.opError("set", net.ErrClosed)
	}
	c.inboxLocked().writeDeadline = at
	return nil
}

var _ net.Conn = (*Conn)(nil)

// SPDX-License-Identifier: MIT

package pionv2

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/internal/udp"
	"github.com/pion/dtls/v2"
)

// ErrServing is what Accept gives while Serve has been called, and Serve after
// Accept: a listener's sessions go one way or the other.
var ErrServing = errors.New("pionv2: Accept and Serve exclude each other")

// Listener is a DTLS server's socket with a table of its sessions: see Listen. It is
// safe for concurrent use.
type Listener struct {
	// Set in prepare, never changed.
	sockets []*udp.Socket
	config  Config
	dtls    dtls.Config
	table   *dsm.Table[*Peer]
	sock    dsm.Sock
	scope   string // of the sessions that may be resumed here
	log     *slog.Logger
	began   time.Time     // what Conn.lastUsed counts from
	done    chan struct{} // closed by Close
	accept  chan *Conn

	counters counters
	serving  atomic.Bool
	workers  runQueue

	mu sync.Mutex
	// mu guards the following.
	stopping    bool // no more handshakes begin
	closed      bool
	accepting   bool  // Accept was called
	err         error // why it was closed, if a socket failed
	established int
	runs        int           // handshakes whose goroutines have not ended, counted in halfOpen or not
	drained     chan struct{} // closed when no session is left; made by Shutdown
	halfOpen    list.List     // every running handshake, oldest first
	unproven    list.List     // those whose client has not returned its cookie, oldest first
	sources     map[netip.Prefix]*source

	busyMu sync.Mutex
	// busyMu guards the following.
	busy []*Conn // those whose records may have ciphers to drop
	dead int     // of these, that are over

	// running counts the listener's goroutines. It is added to under mu while
	// closed is not set.
	running sync.WaitGroup
	// notifying counts the close_notify that are on their way to a socket. It is
	// added to under mu, while the session is one.
	notifying sync.WaitGroup
}

// Listen opens a UDP socket, and returns the listener of the DTLS sessions on it.
// network is "udp", "udp4" or "udp6". config is pion's, for the handshakes; the error
// names what it cannot have, and its ConnectContextMaker is not used (see
// Config.HandshakeTimeout). cfg says how many sessions there are and what becomes of
// them.
func Listen(network, address string, config *dtls.Config, cfg Config) (*Listener, error) {
	l, err := prepare(config, cfg)
	if err != nil {
		return nil, err
	}
	l.sockets, err = udp.Listen(network, address, udp.Config{
		ReadBuffer: cfg.ReadBuffer, WriteBuffer: cfg.WriteBuffer, Sockets: cfg.Sockets,
	})
	if err != nil {
		return nil, err
	}
	l.start()
	return l, nil
}

// NewListener is Listen with a socket of the user's own, which the Listener closes.
// Its WriteTo should not wait, as a UDP socket's hardly ever does: the listener's
// reader can be what waits for it, and so can Close; and it must not call anything of
// the listener or its Conns. Config.Sockets, ReadBuffer and WriteBuffer must be
// zero.
func NewListener(conn net.PacketConn, config *dtls.Config, cfg Config) (*Listener, error) {
	switch {
	case conn == nil:
		return nil, errors.New("pionv2: NewListener of a nil conn")
	case cfg.Sockets != 0 || cfg.ReadBuffer != 0 || cfg.WriteBuffer != 0:
		return nil, errors.New("pionv2: Config.Sockets, ReadBuffer and WriteBuffer are for Listen")
	}
	l, err := prepare(config, cfg)
	if err != nil {
		return nil, err
	}
	l.sockets = []*udp.Socket{udp.New(conn)}
	l.start()
	return l, nil
}

func prepare(config *dtls.Config, cfg Config) (*Listener, error) {
	if err := checkDTLS(config); err != nil {
		return nil, err
	}
	cfg, err := cfg.fill()
	if err != nil {
		return nil, err
	}
	l := &Listener{
		config: cfg, dtls: *config, table: cfg.Table, sock: dsm.NewSock(), log: cfg.Logger,
		began: time.Now(), done: make(chan struct{}), accept: make(chan *Conn, cfg.AcceptQueue), sources: map[netip.Prefix]*source{},
	}
	if cfg.Resumption != nil {
		l.scope = scope(config, cfg.ResumptionScope)
	}
	l.workers.wake, l.workers.quiet = sync.NewCond(&l.workers.mu), sync.NewCond(&l.workers.mu)
	return l, nil
}

func (l *Listener) start() {
	for i := range l.sockets {
		l.running.Go(func() { l.read(uint8(i)) })
	}
	l.running.Go(l.housekeep)
}

const (
	readBatch = 32                                   // datagrams in a system call
	readRoom  = 1<<14 + 2048 + record.HeaderSize + 1 // bytes: the longest record, and one more to know a longer one
)

// read takes what comes to a socket. It never waits for anybody.
func (l *Listener) read(number uint8) {
	socket := l.sockets[number]
	batch := make([]udp.Datagram, readBatch)
	for i := range batch {
		batch[i].Buf = make([]byte, 0, readRoom)
	}
	for {
		n, err := socket.Read(batch)
		if err != nil {
			l.mu.Lock()
			failed := !l.closed
			if failed {
				l.err = err
			}
			l.mu.Unlock()
			if failed {
				l.log.Error("socket failed", "listener", l.Addr(), "error", err)
				go func() { _ = l.Close() }() // which waits for us
			}
			return
		}
		now := time.Now()
		for _, d := range batch[:n] {
			if d.Truncated || !d.Peer.IsValid() {
				l.counters.malformed.Add(1)
				continue
			}
			l.receive(path{socket, number, d.Peer, d.Source}, d.Buf, now)
		}
		// Those who were woken have their turn before the next system call, which then
		// finds more to read; and no queue fills up because there is always more.
		runtime.Gosched()
	}
}

// receive takes a datagram.
func (l *Listener) receive(from path, datagram []byte, now time.Time) {
	if session, state := l.table.Get(l.sock, from.peer); state != dsm.StateNone {
		session.Value.receive(from, datagram, now)
		return
	}
	l.greet(from, datagram)
}

// install puts a session where its handshake was, makes room for it if there are too
// many, and tells the user.
func (l *Listener) install(h *handshake, c *Conn) error {
	l.mu.Lock()
	if h.over {
		l.mu.Unlock()
		return errors.New("pionv2: displaced, or the listener is closing")
	}
	l.forgetLocked(h)
	p := h.peer
	p.mu.Lock()
	old := p.conn
	p.mu.Unlock()
	var after []func()
	refused := false
	if old != nil {
		after = append(after, l.endLocked(old, Replaced))
	} else if l.established >= l.config.Sessions {
		victim := l.victimLocked()
		if refused = victim == nil; !refused {
			after = append(after, l.endLocked(victim, Evicted))
		}
	}
	p.mu.Lock()
	if !refused {
		// The slot is ours, half-open or established; if somebody took it out of the
		// table, there may be none any more.
		session := dsm.Session[*Peer]{Peer: p.addr, Value: p}
		handle, previous := l.table.Hold(l.sock, &session, dsm.StateEstablished, true)
		if refused = previous == dsm.NoSpace || session.Value != p; !refused {
			p.handle = handle
		}
	}
	p.conn, p.handshake = c, nil
	l.established++
	now := time.Now()
	c.mu.Lock()
	c.lastUsed = now.Sub(l.began)
	c.busyLocked() // there are ciphers, from the handshake
	c.mu.Unlock()
	var ends Reason
	for _, held := range h.held {
		r, _, _ := record.Next(held.raw)
		why, err := c.receive(held.from, r, now)
		if err != nil {
			l.counters.forged.Add(1)
		}
		ends = max(ends, why)
	}
	h.held = nil
	p.mu.Unlock()
	l.counters.completed.Add(1)
	if c.Resumed() {
		l.counters.resumed.Add(1)
	}
	if refused {
		after = append(after, l.endLocked(c, Refused))
	}
	l.mu.Unlock()
	for _, f := range after {
		f()
	}
	if refused {
		l.log.Info("session refused", "peer", p.addr, "cause", "no room")
		return nil
	}
	l.announce(c)
	if ends != 0 {
		l.end(c, ends)
	}
	return nil
}

// announce tells the user of a session.
func (l *Listener) announce(c *Conn) {
	l.log.Debug("session established", "peer", c.Peer())
	if l.config.OnEstablished != nil {
		l.config.OnEstablished(c)
	}
	c.mu.Lock()
	c.known = true
	ended := c.ended
	c.mu.Unlock()
	if ended != 0 {
		// Meanwhile; whoever ended it left it to us to say so.
		l.tellEnd(c, ended)
	}
	if l.serving.Load() {
		c.mu.Lock()
		c.scheduleLocked() // what came before Serve was called
		c.mu.Unlock()
		return
	}
	select {
	case l.accept <- c:
	default:
		l.end(c, Refused)
		return
	}
	if l.serving.Load() { // since a moment ago, and it may not see the queue again
		c.mu.Lock()
		c.scheduleLocked()
		c.mu.Unlock()
	}
}

// victimLocked is the session that the policy gives up, if there is one.
func (l *Listener) victimLocked() *Conn {
	if l.config.WhenFull == RefuseNewcomer {
		return nil
	}
	session, ok := l.table.LRU(l.sock)
	if !ok {
		return nil
	}
	victim := session.Value.Conn()
	if victim == nil || l.config.WhenFull == EvictStale && victim.idle(time.Now()) <= l.config.StaleAfter {
		return nil
	}
	return victim
}

// end ends a session, once; the first reason stands.
func (l *Listener) end(c *Conn, why Reason) {
	l.mu.Lock()
	after := l.endLocked(c, why)
	l.mu.Unlock()
	after()
}

// endLocked ends a session and frees its slot. What it returns is to be called when
// no lock is held.
func (l *Listener) endLocked(c *Conn, why Reason) func() {
	p := c.peer
	p.mu.Lock()
	defer p.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended != 0 {
		return func() {}
	}
	notify := c.endLocked(why)
	if p.conn == c {
		p.conn = nil
		l.established--
		// A replaced session's slot is its successor's. Otherwise, if a handshake
		// runs beside it, it is half-open from now on.
		if why != Replaced {
			p.handle.Free()
			if h := p.handshake; h != nil {
				session := dsm.Session[*Peer]{Peer: p.addr, Value: p}
				var previous dsm.State
				if p.handle, previous = l.table.Hold(l.sock, &session, dsm.StateHandshake, false); previous != dsm.StateNone {
					// In a shared table another listener was faster.
					l.counters.displaced.Add(1)
					l.forgetLocked(h)
					p.handshake = nil
					h.transport.mute()
					h.cancel()
				}
			}
		}
		if l.established == 0 && l.drained != nil {
			close(l.drained)
			l.drained = nil
		}
	}
	l.count(why)
	known, aborted, busy, to := c.known, c.aborted, c.busy, c.path()
	if notify != nil {
		l.notifying.Add(1)
	}
	return func() {
		if notify != nil {
			to.send(notify)
			l.notifying.Done()
		}
		if busy {
			l.bury()
		}
		if aborted {
			c.forget()
		}
		if known {
			l.tellEnd(c, why)
		}
	}
}

func (l *Listener) count(why Reason) {
	switch why {
	case ClosedByPeer:
		l.counters.closedByPeer.Add(1)
	case Evicted:
		l.counters.evicted.Add(1)
	case Expired:
		l.counters.expired.Add(1)
	case Replaced:
		l.counters.replaced.Add(1)
	case Refused:
		l.counters.refused.Add(1)
	default:
		l.counters.closedByUs.Add(1)
	}
}

func (l *Listener) tellEnd(c *Conn, why Reason) {
	level := slog.LevelDebug
	if why == Evicted || why == Refused {
		level = slog.LevelInfo
	}
	l.log.Log(context.Background(), level, "session ended", "peer", c.Peer(), "reason", why)
	if l.config.OnEnd != nil {
		l.config.OnEnd(c, why)
	}
}

// Accept waits for the next established session; the net.Conn is a *Conn. Its errors
// are final: net.ErrClosed after Close, ErrServing after Serve.
func (l *Listener) Accept() (net.Conn, error) {
	l.mu.Lock()
	serving := l.serving.Load()
	l.accepting = l.accepting || !serving
	l.mu.Unlock()
	if serving {
		return nil, l.opError("accept", ErrServing)
	}
	for {
		select {
		case <-l.done:
			return nil, l.closedError("accept")
		default:
		}
		select {
		case c := <-l.accept:
			if c.State() == dsm.StateNone && !c.unread() {
				continue // over before anybody saw it
			}
			return c, nil
		case <-l.done:
			return nil, l.closedError("accept")
		}
	}
}

// Addr returns the local address, a *net.UDPAddr.
func (l *Listener) Addr() net.Addr { return l.sockets[0].LocalAddr() }

// Table returns the table: to look at its sessions and half-open handshakes. Do not
// take any out of it: it would live on, and be found no more. Conn.Close ends one.
func (l *Listener) Table() *dsm.Table[*Peer] { return l.table }

// Sock returns what stands for this listener in the table.
func (l *Listener) Sock() dsm.Sock { return l.sock }

// Shutdown stops admitting, waits until the last session is closed and Serve's handler
// has had what came of it, or ctx has ended, and closes the listener. Half-open
// handshakes are given up at once. The error is ctx's if it ended first. A handler
// that calls it is waited for until then.
func (l *Listener) Shutdown(ctx context.Context) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return l.opError("shutdown", net.ErrClosed)
	}
	l.stopLocked()
	drained := l.drained
	if drained == nil {
		drained = make(chan struct{})
		if l.established == 0 {
			close(drained)
		} else {
			l.drained = drained
		}
	}
	l.mu.Unlock()
	var err error
	select {
	case <-drained:
		// What the last sessions have sent before their end is still handled.
		err = l.workers.drain(ctx)
	case <-l.done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if closeErr := l.Close(); err == nil && !errors.Is(closeErr, net.ErrClosed) {
		err = closeErr
	}
	return err
}

// stopLocked gives up all handshakes; none begins any more.
func (l *Listener) stopLocked() {
	l.stopping = true
	for l.halfOpen.Len() > 0 {
		l.displaceLocked(l.halfOpen.Front().Value.(*handshake), true)
	}
}

// Close ends every session with close_notify and every handshake, and returns when
// the port is free and no goroutine of the listener is left, but for the workers of
// Serve, which end once their handlers have returned. So it must not be called from a
// hook, which runs on one of them; from a handler of Serve it may. A second Close gives an error that
// wraps net.ErrClosed, at once.
func (l *Listener) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return l.opError("close", net.ErrClosed)
	}
	l.closed = true
	l.stopLocked()
	l.mu.Unlock()
	for more := true; more; {
		after := func() {}
		l.mu.Lock()
		session, ok := l.table.LRU(l.sock)
		if more = ok; more {
			after = l.endLocked(session.Value.Conn(), ClosedByUs)
		}
		l.mu.Unlock()
		after()
	}
	l.notifying.Wait() // for those that others have ended
	l.stopWorkers()
	close(l.done)
	var err error
	for _, socket := range l.sockets {
		err = errors.Join(err, socket.Close())
	}
	l.running.Wait()
	return err
}

// maxPayload is how many bytes a Write can have.
func (l *Listener) maxPayload(overhead int) int {
	if l.dtls.MTU > 0 {
		return min(max(0, l.dtls.MTU-overhead), record.MaxPlaintext)
	}
	return record.MaxPlaintext
}

// closedError is what calls give after the listener was closed.
func (l *Listener) closedError(op string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return l.opError(op, fmt.Errorf("%w: %w", net.ErrClosed, l.err))
	}
	return l.opError(op, net.ErrClosed)
}

func (l *Listener) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: "udp", Addr: l.Addr(), Err: err}
}

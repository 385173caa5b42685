// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/internal/handshake"
	"github.com/go-dsm/dsm/internal/lockorder"
	"github.com/go-dsm/dsm/internal/logtext"
	"github.com/go-dsm/dsm/internal/udp"
)

// Listener is a DTLS server's socket, or several sockets of one port, with its sessions
// in a table. An adapter of pion opens it: see pionv2.Listen. It is safe for concurrent
// use, and whoever opened it closes it.
type Listener struct {
	// Set in start, never changed.
	sockets     []*socket
	config      Config
	handshaker  handshake.Handshaker
	maxDatagram int // bytes; 0: what a record holds
	// drawsCookies: first ClientHellos are answered here, and pion sees none of them.
	drawsCookies bool
	table        *dsm.Table[*Peer]
	sock         dsm.Sock
	ids          connectionIDs
	scope        string // of the sessions that may be resumed or restored here
	log          *slog.Logger
	began        time.Time // what Conn.lastUsed counts from
	journal      *journalKeeper
	accept       chan *Conn

	// Each of these has its own lock, or none.
	counters   counters
	events     events
	life       lifecycle
	psk        pskCalls
	admission  admission
	cookies    cookies
	backlog    backlog
	identities identities
	hellos     recentHellos
	stale      staleCookies
	sweeper    sweeper[*Conn]
	warm       warmSessions
	queued     queueTotal
	queue      workQueue
	serving    atomic.Bool   // Serve was called; set with the lifecycle's lock held
	served     chan struct{} // closed when it was

	authorization callbacks[*AuthRequest, any] // of Config.Authorize

	// Before the first datagram is read:
	opening  bool    // Config.Restore is being called
	restored []*Conn // by Restore and from the journal, to be delivered

	recovered RestoreStats // of the journal; set in start

	// handover is held by Save, and shared by the Detach of sessions in the journal: not both
	// may give away a session.
	handover sync.RWMutex

	// notifying counts the close_notify alerts on their way to a socket. It is raised
	// before the session's slot is freed.
	notifying sync.WaitGroup
}

// Listen opens UDP sockets, and returns the listener of the DTLS sessions on them. It
// is for the adapters of this module, which supply the Handshaker. network is "udp",
// "udp4" or "udp6".
func Listen(network, address string, handshaker handshake.Handshaker, config Config) (*Listener, error) {
	filled, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	sockets, err := udp.Listen(network, address, udp.Config{
		ReadBuffer: config.ReadBuffer, WriteBuffer: config.WriteBuffer, Sockets: config.Sockets, Control: config.Control,
	})
	if err != nil {
		return nil, err
	}
	l, err := start(sockets, handshaker, filled)
	if err != nil {
		for _, socket := range sockets {
			_ = socket.Close()
		}
	}
	return l, err
}

// NewListener is Listen with sockets that exist already, all bound to the same address,
// which the Listener closes. It is for the adapters of this module.
//
// WriteTo of a socket should not wait, as that of a UDP socket hardly ever does: the
// goroutine that reads the socket may call it, and Close waits for that goroutine.
// WriteTo must not call a method of the listener or of its Conns, and must not panic: what others
// send may wait for it.
func NewListener(conns []net.PacketConn, handshaker handshake.Handshaker, config Config) (*Listener, error) {
	switch {
	case len(conns) == 0:
		return nil, errors.New("dsm: NewListener without a socket")
	case len(conns) > maxSockets:
		return nil, fmt.Errorf("dsm: NewListener with more than %d sockets", maxSockets)
	case config.Sockets != 0 || config.ReadBuffer != 0 || config.WriteBuffer != 0 || config.Control != nil:
		return nil, errors.New("dsm: Config.Sockets, ReadBuffer, WriteBuffer and Control are for Listen")
	}
	for _, conn := range conns {
		if conn == nil {
			return nil, errors.New("dsm: NewListener with a nil socket")
		}
		if fmt.Sprint(conn.LocalAddr()) != fmt.Sprint(conns[0].LocalAddr()) {
			return nil, errors.New("dsm: NewListener with sockets of several addresses")
		}
	}
	filled, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	sockets := make([]*udp.Socket, len(conns))
	for i, conn := range conns {
		sockets[i] = udp.New(conn)
	}
	return start(sockets, handshaker, filled)
}

// start returns a listener with its goroutines. config has its defaults.
func start(sockets []*udp.Socket, handshaker handshake.Handshaker, config Config) (*Listener, error) {
	l := &Listener{
		sockets: newSockets(sockets), config: config, handshaker: handshaker, maxDatagram: handshaker.MaxDatagram(),
		table: config.Table, sock: dsm.NewSock(), log: config.Logger, began: time.Now(), accept: make(chan *Conn, config.AcceptQueue),
	}
	l.scope = scopeOf(config.ResumptionScope, handshaker.PolicyID())
	l.drawsCookies = handshaker.StatelessCookie()
	l.cookies.init()
	l.counters.init()
	l.events.init()
	l.noteLevel()
	if handshaker.ConnectionIDs() && !config.NoConnectionIDs {
		l.ids = newConnectionIDs(config.ServerID)
	}
	l.life.done, l.served = make(chan struct{}), make(chan struct{})
	l.psk.init(&config)
	l.authorization.init("Config.Authorize", config.Handshakes, config.Authorize)
	l.admission.init(&config, l.backlog.isCrowded)
	l.backlog.init(config.Handshakes)
	l.identities.init(&config)
	l.queue.init(config.Workers)
	l.queued.init(config.QueueTotal, config.Sessions)
	if err := l.restoreSessions(); err != nil {
		return nil, err
	}
	for i := range sockets {
		l.startReader(uint8(i))
	}
	l.life.running.Go(l.runClock)
	l.life.running.Go(l.runTeller)
	return l, nil
}

// restoreSessions restores the earlier sessions.
func (l *Listener) restoreSessions() error {
	if l.config.Journal != nil {
		if err := l.openJournal(); err != nil {
			l.abandon()
			return fmt.Errorf("dsm: Config.Journal: %w", err)
		}
	}
	if l.config.Restore != nil {
		l.opening = true
		lockorder.AssertNone("Config.Restore")
		err := l.config.Restore(l)
		l.opening = false
		if err != nil {
			l.abandon()
			return fmt.Errorf("dsm: Config.Restore: %w", err)
		}
	}
	if l.journal != nil {
		if err := l.recoverJournal(); err != nil {
			l.abandon()
			return fmt.Errorf("dsm: Config.Journal: %w", err)
		}
	}
	if restored := l.restored; len(restored) > 0 {
		l.restored = nil
		l.life.running.Go(func() { l.deliverRestored(restored) })
		if l.config.Resumption != nil {
			l.life.running.Go(func() { l.storeRestored(restored) })
		}
	}
	return nil
}

// startReader starts the goroutine that reads a socket.
func (l *Listener) startReader(number uint8) {
	l.life.running.Add(1)
	l.life.readers.Go(func() {
		defer l.life.running.Done()
		saves := l.life.countSaves()
		err := l.read(number)
		if errors.Is(err, os.ErrDeadlineExceeded) && l.life.pauseReader(number, saves, l.startReader) {
			return
		}
		if l.life.fail(err) {
			l.log.Error("socket failed", "listener", l.Addr(), "error", logtext.Error(err))
			go func() { _ = l.Close() }() // which waits for this goroutine
		}
	})
}

// Addr returns the local address, a *net.UDPAddr unless NewListener was given something
// else.
func (l *Listener) Addr() net.Addr { return l.sockets[0].LocalAddr() }

// Sock returns what stands for this listener in Config.Table.
func (l *Listener) Sock() dsm.Sock { return l.sock }

// Sessions returns the established sessions, least recently used first. Being returned
// does not count as use. The loop may call anything, such as Conn.Close. A session that is used,
// established or ended while the loop runs may be returned or not; no session is
// returned twice. The loop passes over the sessions of other listeners in Config.Table.
func (l *Listener) Sessions() iter.Seq[*Conn] {
	return func(yield func(*Conn) bool) {
		for session, state := range l.table.All() {
			if state != dsm.StateEstablished || session.Value.listener != l {
				continue
			}
			if c := session.Value.Conn(); c != nil && !yield(c) {
				return
			}
		}
	}
}

// Shutdown stops admitting clients, and ends the handshakes in progress. It waits until
// the last session has ended and Serve's handler has got every received datagram, or
// until ctx has ended. Then it closes the listener. The error is that of ctx if it has
// ended first. If a handler calls Shutdown, Shutdown waits for that handler until ctx has
// ended.
func (l *Listener) Shutdown(ctx context.Context) error {
	if l.life.isClosed() {
		return l.opError("shutdown", net.ErrClosed)
	}
	l.admission.stop()
	var err error
	select {
	case <-l.admission.waitDrained():
		// What the last sessions have received before their end is still handled.
		err = l.queue.drain(ctx)
	case <-l.life.done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if closeErr := l.Close(); err == nil && !errors.Is(closeErr, net.ErrClosed) {
		err = closeErr
	}
	return err
}

// Close ends every session with close_notify, and every handshake. It returns when the
// port is free and no goroutine of the listener is left, except the workers of Serve,
// which end when their handlers have returned. So Close may be called from a handler of
// Serve; from a hook, which runs on one of those goroutines, it must not. A second Close
// returns an error that wraps net.ErrClosed at once.
func (l *Listener) Close() error {
	if !l.life.close() {
		return l.opError("close", net.ErrClosed)
	}
	l.endAll()
	l.journal.retire()
	return l.shut()
}

// endAll ends every session and every handshake.
func (l *Listener) endAll() {
	l.admission.stop()
	for c := l.leastRecentlyUsed(); c != nil; c = l.leastRecentlyUsed() {
		l.end(c, ClosedByUs)
	}
	l.notifying.Wait() // for what others have ended
}

// shut ends the goroutines and closes the sockets. No session is left.
func (l *Listener) shut() error {
	l.queue.stop()
	close(l.life.done)
	var err error
	for _, socket := range l.sockets {
		socket.out.close()
		err = errors.Join(err, socket.Close())
	}
	l.life.running.Wait()
	return err
}

// abandon is Close of a listener that was not opened. The sockets are the caller's.
func (l *Listener) abandon() {
	l.life.close()
	l.endAll()
	l.queue.stop()
	close(l.life.done)
	l.life.running.Wait()
	if k := l.journal; k != nil {
		_ = k.log.Close(false) // what it has is the next listener's
	}
}

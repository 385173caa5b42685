// SPDX-License-Identifier: MIT

package pionv2

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/internal/logtext"
	"github.com/pion/dtls/v2"
)

var (
	errNoRoom     = errors.New("pionv2: no slot is free")
	errNoEndpoint = errors.New("pionv2: the peer has no IP address and port")
)

// Wrapped is a pion listener whose sessions have slots in a table. Wrap makes one. It is
// safe for concurrent use, and whoever made it closes it.
type Wrapped struct {
	// Set in Wrap, never changed.
	inner  net.Listener
	table  *dsm.Table[*WrappedConn]
	sock   dsm.Sock
	policy Policy
	log    *slog.Logger

	mu sync.Mutex
	// mu guards the following.
	closed bool
	conns  map[*WrappedConn]struct{} // sessions whose pion conn is not closed yet, with a slot or without one

	// running counts conns and the calls of Accept in progress. It is raised only with
	// mu held and while closed is not set.
	running sync.WaitGroup
}

// Wrap bounds the sessions of a listener by a table. inner is a listener as dtls.Listen or
// dtls.NewListener returns it. The Wrapped closes it, and nobody else may use it any more.
//
// An error says what is wrong with config. Then inner is still open and the caller's.
func Wrap(inner net.Listener, config WrapConfig) (*Wrapped, error) {
	if inner == nil {
		return nil, errors.New("pionv2: Wrap of a nil listener")
	}
	table, err := config.table()
	if err != nil {
		return nil, err
	}
	log := config.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Wrapped{inner: inner, table: table, sock: dsm.NewSock(), policy: config.WhenFull, log: log, conns: make(map[*WrappedConn]struct{})}, nil
}

// Table returns the table, for its counts and to look at its sessions. WrappedConn.Close
// ends a session. A session that is removed from the table is not closed.
func (l *Wrapped) Table() *dsm.Table[*WrappedConn] { return l.table }

// Sock returns what stands for this listener in the table.
func (l *Wrapped) Sock() dsm.Sock { return l.sock }

// Addr returns the local address.
func (l *Wrapped) Addr() net.Addr { return l.inner.Addr() }

// Accept waits for the next session that is established and has a slot. The net.Conn is a
// *WrappedConn. A failed handshake is logged and is no error. An error is final: it wraps
// net.ErrClosed after Close.
//
// Pion runs its handshakes within calls of Accept, one in each call at a time. Several
// goroutines can call Accept to run several handshakes at the same time.
func (l *Wrapped) Accept() (net.Conn, error) {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil, l.opError("accept", net.ErrClosed)
	}
	l.running.Add(1)
	l.mu.Unlock()
	defer l.running.Done()

	for {
		inner, err := l.inner.Accept()
		if err != nil && l.isClosed() {
			return nil, l.opError("accept", net.ErrClosed)
		}
		if err != nil {
			// After a failed handshake pion returns a nil *dtls.Conn, and a net.Conn
			// with a nil *dtls.Conn in it is not nil. All other errors are the
			// socket's.
			var failed *dtls.HandshakeError
			if inner != nil || errors.As(err, &failed) {
				l.log.Warn("DTLS handshake failed", "listener", l.Addr(), "error", logtext.Error(err))
				continue
			}
			return nil, fmt.Errorf("pionv2: accept: %w", err)
		}
		pion, ok := inner.(*dtls.Conn)
		if !ok {
			_ = inner.Close()
			return nil, fmt.Errorf("pionv2: accept: the inner listener gave a %T, want *dtls.Conn", inner)
		}
		conn, err := l.admit(pion)
		switch {
		case err == nil:
			return conn, nil
		case errors.Is(err, net.ErrClosed):
			return nil, l.opError("accept", net.ErrClosed)
		}
		l.log.Info("session refused", "peer", pion.RemoteAddr(), "error", logtext.Error(err))
	}
}

// admit gives a new session a slot, or ends it and returns the cause.
func (l *Wrapped) admit(pion *dtls.Conn) (*WrappedConn, error) {
	peer, ok := dsm.PeerOf(pion.RemoteAddr())
	c := &WrappedConn{listener: l, pion: pion, peer: peer}
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		_ = pion.Close()
		return nil, net.ErrClosed
	}
	l.conns[c] = struct{}{}
	l.running.Add(1)
	l.mu.Unlock()

	err := errNoEndpoint
	if ok {
		var ended map[*WrappedConn]error
		ended, err = c.takeSlot()
		for other, cause := range ended {
			l.log.Info("session makes room", "peer", other.peer, "for", peer, "cause", cause)
			other.stop(cause)
			go other.end(cause)
		}
	}
	if err != nil {
		go c.end(net.ErrClosed)
		return nil, err
	}
	l.log.Debug("session established", "peer", peer, "free", l.table.AvailableSlots())
	return c, nil
}

// forget removes a session whose pion conn is closed.
func (l *Wrapped) forget(c *WrappedConn) {
	l.mu.Lock()
	delete(l.conns, c)
	l.mu.Unlock()
	l.running.Done()
}

// Close closes the inner listener and ends every session of it with close_notify. It
// returns when the port is free and no goroutine of the listener, of its sessions or of
// Accept is left. A session of pion takes up to dtls.Config.FlightInterval (a second by
// default) to end. Nothing can stop a handshake in progress, so Close waits for its end,
// at most for its timeout (30 s, unless dtls.Config.ConnectContextMaker sets another one).
// A transport that pion has left open keeps the port bound: see docs/pion-v2.md.
//
// The table is not closed, because other listeners may share it. A second Close returns an
// error that wraps net.ErrClosed.
func (l *Wrapped) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return l.opError("close", net.ErrClosed)
	}
	l.closed = true
	conns := slices.Collect(maps.Keys(l.conns))
	l.mu.Unlock()

	err := l.inner.Close()
	for _, c := range conns {
		go c.end(net.ErrClosed)
	}
	l.running.Wait()
	return err
}

func (l *Wrapped) isClosed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

func (l *Wrapped) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: l.Addr().Network(), Source: nil, Addr: l.Addr(), Err: err}
}

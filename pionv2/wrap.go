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
	"github.com/pion/dtls/v2"
)

var (
	// ErrEvicted is what Read and Write of a WrappedConn wrap after its session had to
	// make room. It wraps net.ErrClosed.
	ErrEvicted = fmt.Errorf("pionv2: session evicted: %w", net.ErrClosed)
	// ErrReplaced is what they wrap after the same peer established another
	// session. It wraps net.ErrClosed.
	ErrReplaced = fmt.Errorf("pionv2: session replaced: %w", net.ErrClosed)

	// ErrPeerClosed is what Write wraps after the peer's close_notify. It wraps
	// net.ErrClosed.
	ErrPeerClosed = fmt.Errorf("pionv2: session closed by the peer: %w", net.ErrClosed)

	errNoRoom     = errors.New("pionv2: no slot is free")
	errNoEndpoint = errors.New("pionv2: the peer has no IP address and port")
)

// Wrapped is a pion listener under a table: see Wrap. It is safe for concurrent
// use.
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
	conns  map[*WrappedConn]struct{} // those whose pion conn is not closed yet, with a slot or without

	// open counts conns, and the calls of Accept under way. It is added to only
	// under mu and while closed is not set.
	open sync.WaitGroup
}

// Wrap puts a listener, as dtls.Listen or dtls.NewListener make it, under a table.
// The Listener owns inner from then on: do not use it any more.
//
// An error says what is wrong with config; inner is left open then.
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

// Table returns the table: for its counts, and to look at its sessions. To end
// one, call its WrappedConn.Close: to take it out of the table closes nothing.
func (l *Wrapped) Table() *dsm.Table[*WrappedConn] { return l.table }

// Sock returns what stands for this listener in the table.
func (l *Wrapped) Sock() dsm.Sock { return l.sock }

// Addr returns the local address.
func (l *Wrapped) Addr() net.Addr { return l.inner.Addr() }

// Accept waits for the next session that is established and has a slot; the
// net.Conn is a *WrappedConn. Failed handshakes are logged and are not its errors: an
// error means that the listener is of no more use. It wraps net.ErrClosed after
// Close.
//
// A call runs one of pion's handshakes at a time; call it from several goroutines
// to run more.
func (l *Wrapped) Accept() (net.Conn, error) {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil, l.opError("accept", net.ErrClosed)
	}
	l.open.Add(1)
	l.mu.Unlock()
	defer l.open.Done()

	for {
		inner, err := l.inner.Accept()
		if err != nil && l.isClosed() {
			return nil, l.opError("accept", net.ErrClosed)
		}
		if err != nil {
			// After a failed handshake pion gives a nil *dtls.Conn, which as a
			// net.Conn is not nil; other errors are those of the socket.
			var failed *dtls.HandshakeError
			if inner != nil || errors.As(err, &failed) {
				l.log.Warn("DTLS handshake failed", "listener", l.Addr(), "error", err)
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
		l.log.Info("session refused", "peer", pion.RemoteAddr(), "error", err)
	}
}

// admit gives a new session its slot, or ends it and says why.
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
	l.open.Add(1)
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

// forget is the end of a conn.
func (l *Wrapped) forget(c *WrappedConn) {
	l.mu.Lock()
	delete(l.conns, c)
	l.mu.Unlock()
	l.open.Done()
}

// Close ends the inner listener and every session, with close_notify, and returns
// when all is over: the port is free, and no goroutine of the listener, its
// sessions or of Accept is left. Pion's sessions take up to a second to end
// (dtls.Config.FlightInterval); a handshake under way is waited for, as nothing
// can stop it, at most for its timeout (30 s, unless dtls.Config.ConnectContextMaker
// says less). Transports that pion has lost keep the port, see the package comment.
//
// The table stays, for other listeners may share it. A second Close gives an error
// that wraps net.ErrClosed.
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
	l.open.Wait()
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

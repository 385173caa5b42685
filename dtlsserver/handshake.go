// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"context"
	"errors"

	"github.com/go-dsm/dsm/internal/handshake"
	"github.com/go-dsm/dsm/internal/logtext"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/resume"
)

// startLocked starts a handshake for a peer that has a slot, with the first record of its
// ClientHello. The peer is locked, and so is the admission, whose ticket it returns.
func (l *Listener) startLocked(p *Peer, from route, r record.Record) *ticket {
	ctx, cancel := context.WithTimeout(context.Background(), l.config.HandshakeTimeout)
	h := &pending{peer: p, route: from, cancel: cancel, handshake: l.handshaker.New(l.parameters(from))}
	h.ticket.owner = h
	l.counters.countDropped(h.handshake.HandleRecord(r))
	p.pending = h
	l.counters.started.Add(1)
	l.life.running.Go(func() { l.run(ctx, h) })
	return &h.ticket
}

// parameters returns what a handshake with a peer gets from the listener.
func (l *Listener) parameters(from route) handshake.Parameters {
	return handshake.Parameters{
		Send: from.send,
		PSK: func(ctx context.Context, serverName string, identity []byte) ([]byte, error) {
			return l.pskOf(ctx, from.peer, serverName, identity)
		},
		Count: l.counters.countDropped,
		Limits: handshake.Limits{
			ClientHello: l.config.MaxClientHello, PSKIdentity: l.config.MaxPSKIdentity,
			CertificateChain: l.config.MaxCertificateChain, Certificates: l.config.MaxCertificates,
		},
	}
}

// run does a handshake and establishes its session.
func (l *Listener) run(ctx context.Context, h *pending) {
	c, err := l.handshake(ctx, h)
	if err != nil {
		l.fail(h, err, errors.Is(ctx.Err(), context.DeadlineExceeded))
	}
	h.handshake.Close()
	h.cancel()
	l.admission.finished()
	if err == nil {
		c.storeOnce() // which can take a while
	}
}

// handshake does a handshake, and returns its session once that is established. Its
// goroutine waits here, so this function has little on its stack.
func (l *Listener) handshake(ctx context.Context, h *pending) (*Conn, error) {
	session, err := l.begin(ctx, h)
	if err != nil {
		return nil, err
	}
	result, err := h.handshake.Run(ctx, session)
	if err != nil {
		return nil, err
	}
	return l.complete(h, result)
}

// begin waits for the client's ClientHello, and returns the session that it may resume, if
// there is one.
//
//go:noinline
func (l *Listener) begin(ctx context.Context, h *pending) (session *resume.Session, err error) {
	if h.hello, err = h.handshake.Hello(ctx); err != nil {
		return nil, err
	}
	if h.peer.hasSessionOf(h.hello.Random) {
		return nil, errLateHello
	}
	return l.lookUp(ctx, h), nil
}

// complete establishes the session of a handshake that is done.
//
//go:noinline
func (l *Listener) complete(h *pending, result *handshake.Result) (*Conn, error) {
	c := l.newSession(h, result)
	return c, l.establish(h, c)
}

// errLateHello is the error of a handshake whose ClientHello came in fragments and is the
// one with which the peer's session began. A late duplicate in one record starts no
// handshake.
var errLateHello = errors.New("the ClientHello is a late duplicate")

// fail ends a handshake that has made no session. late says that its time is over. The error
// does not say that: a callback's can wrap a DeadlineExceeded of its own.
func (l *Listener) fail(h *pending, err error, late bool) {
	if !l.drop(h) {
		return // its end is counted
	}
	if late && errors.Is(err, context.DeadlineExceeded) {
		l.counters.timedOut.Add(1)
	} else {
		l.counters.failed.Add(1)
	}
	l.log.Info("DTLS handshake failed", "peer", h.peer.addr, "error", logtext.Error(err))
}

// abort ends an abbreviated handshake whose client has sent an authentic fatal alert,
// and makes its session impossible to resume.
func (l *Listener) abort(h *pending) {
	if !l.drop(h) {
		return
	}
	l.counters.failed.Add(1)
	h.stop()
	h.peer.mu.Lock()
	session, id := h.resuming, h.sessionID
	h.peer.mu.Unlock()
	if session != nil {
		l.life.spawn(func() { l.revoke(id, session) })
	}
}

// drop takes a handshake away from its peer, and ends its ticket. It reports false if
// somebody else has taken it away.
//
// The peer comes first. A handshake whose ticket has ended fails by itself, and then
// run would be the one that takes it away and counts its end, not the caller.
func (l *Listener) drop(h *pending) bool {
	h.peer.mu.Lock()
	ours := h.peer.removePendingLocked(h)
	h.peer.mu.Unlock()
	l.admission.end(&h.ticket)
	return ours
}

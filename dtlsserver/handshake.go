// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"context"
	"errors"
	"hash/maphash"

	"github.com/go-dsm/dsm/internal/handshake"
	"github.com/go-dsm/dsm/internal/logtext"
	"github.com/go-dsm/dsm/resume"
)

// handshake does a handshake, and establishes its session. Its goroutine waits here, so
// this function has little on its stack.
func (l *Listener) handshake(ctx context.Context, h *pending) error {
	session, err := l.begin(ctx, h)
	if err != nil {
		return err
	}
	result, err := h.handshake.Run(ctx, session)
	if err != nil {
		return err
	}
	return l.complete(ctx, h, result)
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
	session = l.lookUp(ctx, h)
	known := session != nil && l.admission.name(&h.ticket, maphash.Bytes(keySeed, h.hello.SessionID)|1)
	cause := l.admission.classify(&h.ticket, known)
	if cause != admitted {
		return nil, l.postpone(h, cause)
	}
	h.flight = firstFlight{}
	return session, nil
}

// postpone ends a handshake whose client has named a session that cannot be resumed, and for
// which there is no room as a newcomer's. Its first flight waits in the backlog. The
// client was not asked for a cookie yet, so it repeats that flight.
func (l *Listener) postpone(h *pending, cause refusal) error {
	h.peer.mu.Lock()
	ours := h.peer.removePendingLocked(h)
	h.peer.mu.Unlock()
	if ours {
		l.counters.displaced.Add(1)
		l.counters.countRefusal(cause)
		h.flight.sessionUnknown = true
		l.updateBacklog(h.flight, cause)
	}
	return errDisplaced
}

// complete stores the session of a handshake that is done, and establishes it. The client
// learns of a full handshake's end from establish, so it can resume the session at once.
//
//go:noinline
func (l *Listener) complete(ctx context.Context, h *pending, result *handshake.Result) error {
	c := l.newSession(h, result)
	c.storeFirst(ctx)
	return l.establish(h, c)
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
		h.rememberCookie()
	} else {
		l.counters.failed.Add(1)
	}
	l.log.Info("DTLS handshake failed", "peer", h.route.peer, "error", logtext.Error(err))
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

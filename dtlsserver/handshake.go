// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"context"
	"errors"
	"hash/maphash"
	"log/slog"
	"time"

	"github.com/go-dsm/dsm/internal/handshake"
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
	ours := false
	cause := l.admission.classify(&h.ticket, known, func() { ours = l.take(h, resultDisplaced) })
	if cause != admitted {
		if ours {
			l.postpone(h, cause)
		}
		return nil, errDisplaced
	}
	h.flight = firstFlight{}
	return session, nil
}

// postpone puts the first flight of a handshake into the backlog that has ended because its
// client has named a session that cannot be resumed, and there is no room for the client as a
// newcomer. The client was not asked for a cookie yet, so it repeats that flight.
func (l *Listener) postpone(h *pending, cause refusal) {
	l.refuse(h.route, cause)
	h.flight.sessionUnknown = true
	l.updateBacklog(h.flight, cause)
}

// complete has the session of a handshake that is done authorized, stores it, and establishes
// it. Until it is authorized nothing is kept of it, and nobody is evicted for it. The client
// learns of a full handshake's end from establish, so it can resume the session at once.
//
//go:noinline
func (l *Listener) complete(ctx context.Context, h *pending, result *handshake.Result) error {
	c := l.newSession(h, result)
	key := c.IdentityKey()
	if err := l.authorizeNew(ctx, c, key); err != nil {
		return err
	}
	c.storeFirst(ctx)
	return l.establish(h, c, key)
}

// errLateHello is the error of a handshake whose ClientHello came in fragments and is the
// one with which the peer's session began. A late duplicate in one record starts no
// handshake.
var errLateHello = errors.New("the ClientHello is a late duplicate")

// fail ends a handshake that has made no session. late says that its time is over. The error
// does not say that: a callback's can wrap a DeadlineExceeded of its own.
func (l *Listener) fail(h *pending, err error, late bool) {
	result := resultOf(err, late)
	if !l.drop(h, result) {
		return // its end is counted
	}
	if result == resultTimedOut {
		h.rememberCookie()
	}
	l.tellFailed(h, result, err)
	var notAuthorized *notAuthorizedError
	if errors.As(err, &notAuthorized) {
		notAuthorized.tell(h)
	}
}

func (l *Listener) tellFailed(h *pending, result word, err error) {
	l.tell(event{what: result.event(), level: slog.LevelInfo, text: "DTLS handshake failed", peer: h.route.peer, err: err, refuses: true})
}

// resultOf returns the result of a handshake that has failed.
func resultOf(err error, late bool) word {
	var notAuthorized *notAuthorizedError
	if errors.As(err, &notAuthorized) { // its cause is the application's, which can wrap anything
		result, _ := notAuthorized.result()
		return result
	}
	switch {
	case errors.Is(err, handshake.ErrNoKey):
		return resultUnknownPSKIdentity
	case late && errors.Is(err, context.DeadlineExceeded):
		return resultTimedOut
	default:
		return resultFailed
	}
}

// abort ends an abbreviated handshake whose client has sent an authentic fatal alert,
// and makes its session impossible to resume.
func (l *Listener) abort(h *pending) {
	if !l.drop(h, resultFailed) {
		return
	}
	l.tellFailed(h, resultFailed, errAborted)
	h.stop()
	h.peer.mu.Lock()
	session, id := h.resuming, h.sessionID
	h.peer.mu.Unlock()
	if session != nil {
		l.life.spawn(func() { l.revoke(id, session) })
	}
}

// errAborted is the error of a handshake whose client has sent a fatal alert in it.
var errAborted = errors.New("the client has sent an authentic fatal alert")

// drop takes a handshake away from its peer, counts its result, and ends its ticket. It
// reports false if somebody else has taken it away.
//
// The peer comes first. A handshake whose ticket has ended fails by itself, and then
// run would be the one that takes it away and counts its end, not the caller.
func (l *Listener) drop(h *pending, result word) bool {
	ours := l.take(h, result)
	l.admission.end(&h.ticket)
	return ours
}

// take takes a handshake away from its peer, and counts its result. It reports false if
// somebody else has taken it away.
func (l *Listener) take(h *pending, result word) bool {
	h.peer.mu.Lock()
	defer h.peer.mu.Unlock()
	ours := h.peer.removePendingLocked(h)
	switch {
	case ours && result == resultDisplaced:
		l.countDisplaced(h)
	case ours:
		l.counters.add(result)
	}
	return ours
}

// countDisplaced counts a handshake that has ended for another one. Locks may be held.
func (l *Listener) countDisplaced(h *pending) {
	l.counters.add(resultDisplaced)
	l.events.note(event{what: resultDisplaced.event(), level: slog.LevelInfo, text: "DTLS handshake displaced", peer: h.route.peer, refuses: true}, time.Now())
}

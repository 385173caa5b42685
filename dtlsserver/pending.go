// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"bytes"
	"context"
	"time"

	"github.com/go-dsm/dsm/internal/handshake"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/resume"
)

// pending is a handshake in progress.
type pending struct {
	// Set in Listener.startLocked, never changed.
	peer      *Peer
	route     route
	handshake handshake.Handshake
	cancel    context.CancelFunc // of Run's context
	started   time.Time
	flight    firstFlight // its datagram is kept while Config.Resumption is asked for the session that it names
	// withdrawals is how many there were when it began: see identities.joinLocked.
	withdrawals uint64

	// hello is the client's first ClientHello, once it was received. Only the handshake's
	// goroutine uses it.
	hello record.ClientHello

	ticket ticket // guarded by the admission's lock

	// The following is guarded by Peer.mu.
	next      *pending // the peer's handshake that began before this one
	validated bool     // the client has validated its address
	// cookieAfter is the time from started until the client returned the cookie, with another
	// ClientHello than this one: about the client's round trip. 0: it has not.
	cookieAfter time.Duration
	held        []heldRecord // protected records that came before the session
	heldBytes   int
	resuming    *resume.Session // the session that Run may resume; nil: none
	sessionID   []byte          // of resuming
}

type heldRecord struct {
	from route
	raw  []byte
}

// holdLocked keeps a protected record until the session is established, and reports
// whether there was room for it.
func (h *pending) holdLocked(from route, r record.Record) bool {
	if len(h.held) == heldRecords || h.heldBytes+len(r.Raw) > heldBytes {
		return false
	}
	h.held = append(h.held, heldRecord{from, bytes.Clone(r.Raw)})
	h.heldBytes += len(r.Raw)
	return true
}

// newlyValidatedLocked reports, once, that the client has validated its address.
// Listener.noteValidated is to be called after unlock.
func (h *pending) newlyValidatedLocked() bool {
	if h.validated || !h.handshake.AddressValidated() {
		return false
	}
	h.validated = true
	return true
}

// stop makes the handshake send nothing more, and lets it end. The client gets no alert:
// a real client retransmits its ClientHello.
func (h *pending) stop() {
	h.handshake.Abort()
	h.cancel()
}

// displaced ends the handshake to make room for another one. The admission's lock is held.
func (h *pending) displaced() {
	h.peer.listener.take(h, resultDisplaced)
	h.stop()
	h.rememberCookie()
}

// rememberCookie remembers the cookie of a handshake that has ended without its client's
// knowledge.
func (h *pending) rememberCookie() {
	p, cookie := h.peer, h.handshake.Cookie()
	if cookie == nil {
		return
	}
	p.mu.Lock()
	validated := h.validated
	p.mu.Unlock()
	p.listener.stale.add(h.route.peer, cookie)
	if validated {
		p.listener.stale.addLastFlight(h.route.peer, record.HandshakeFailure)
	}
}

// offer is what the handshakes of a peer say of a record.
type offer struct {
	verdict   handshake.Verdict
	validated []*pending // whose client has validated its address by it
	aborted   *pending   // whose client has ended it
	abandoned *pending   // whose client has to begin anew, if the cookie that it got is one of this listener's
	another   *pending   // whose cookie the record has, which is not of that handshake
}

// offerLocked gives a record to all handshakes of the peer. A record does not say which
// one it belongs to, and a fragment of a second ClientHello does not even show its cookie.
// What the other handshakes make of it has no effect.
func (p *Peer) offerLocked(from route, r record.Record) offer {
	o := offer{verdict: handshake.NewClientHello}
	for h := p.pending; h != nil; h = h.next {
		verdict := h.handshake.HandleRecord(r)
		if verdict == handshake.ForSession {
			verdict = handshake.Accepted
			if !h.holdLocked(from, r) {
				verdict = handshake.NoSpace
			}
		}
		switch verdict {
		case handshake.FatalAlert:
			o.aborted = h
		case handshake.ForeignCookie:
			o.abandoned = h
		case handshake.AnotherHello:
			o.another = h
			if h.cookieAfter == 0 {
				h.cookieAfter = time.Since(h.started)
			}
		}
		if h.newlyValidatedLocked() {
			o.validated = append(o.validated, h)
		}
		o.verdict = handshake.Better(o.verdict, verdict)
	}
	return o
}

// noteValidated notes that the client of a handshake has validated its address. No lock may be
// held.
func (l *Listener) noteValidated(h *pending) {
	took := l.admission.validate(&h.ticket)
	if took == 0 {
		return
	}
	l.counters.roundTrips.observe(took)
	l.endOldestValidated(h.peer)
}

// endOldestValidated ends the oldest of several handshakes of a peer with a validated address:
// each one shows that the client has begun anew. No lock may be held.
func (l *Listener) endOldestValidated(p *Peer) {
	var oldest *pending
	count := 0
	p.mu.Lock()
	for h := p.pending; h != nil; h = h.next { // newest first
		if h.validated {
			oldest = h
			count++
		}
	}
	p.mu.Unlock()
	if count > maxValidated {
		l.admission.displace(&oldest.ticket)
	}
}

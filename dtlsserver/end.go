// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"log/slog"
	"time"

	"github.com/go-dsm/dsm/internal/lockorder"
	"github.com/go-dsm/dsm/internal/record"
)

// ending is the rest of a session's end: what must be done with no lock held.
type ending struct {
	conn   *Conn // nil: nothing
	reason Reason

	notify    bool // the peer is to be sent close_notify, and markOpened does not do so
	swept     bool // the sweeper is to be told
	announced bool // OnEnd is to be called
	revoke    bool // the session must not be resumed
}

// end ends a session, once: the first reason stands. No lock may be held.
func (l *Listener) end(c *Conn, why Reason) {
	e := l.beginEnd(c, why)
	l.finishEnd(e)
}

// endUnlessFrozen is end, unless somebody else is to have the session. It reports whether the
// session has ended. A frozen session that ends here could not tell its peer.
func (l *Listener) endUnlessFrozen(c *Conn, why Reason) bool {
	c.peer.mu.Lock()
	if c.records.IsFrozen() {
		c.peer.mu.Unlock()
		return false
	}
	e := l.endLocked(c, why)
	c.peer.mu.Unlock()
	l.finishEnd(e)
	return true
}

// beginEndOfIdentity is beginEnd of a session whose identity is ended. While the session is frozen
// somebody else is about to have it, so it ends here only if that fails: see endThawedLocked.
func (l *Listener) beginEndOfIdentity(c *Conn, why Reason) ending {
	c.peer.mu.Lock()
	defer c.peer.mu.Unlock()
	if c.ended == 0 && c.records.IsFrozen() {
		c.extrasLocked().endsThawed = why
		return ending{}
	}
	return l.endLocked(c, why)
}

// endThawedLocked ends a session that was to end while it was frozen, if it is not frozen any more.
func (l *Listener) endThawedLocked(c *Conn) ending {
	if c.extras == nil || c.extras.endsThawed == 0 || c.records.IsFrozen() {
		return ending{}
	}
	return l.endLocked(c, c.extras.endsThawed)
}

// beginEnd ends a session and frees its slot. finishEnd must follow.
func (l *Listener) beginEnd(c *Conn, why Reason) ending {
	c.peer.mu.Lock()
	defer c.peer.mu.Unlock()
	return l.endLocked(c, why)
}

func (l *Listener) endLocked(c *Conn, why Reason) ending {
	if c.ended != 0 {
		return ending{}
	}
	c.ended = why
	e := ending{conn: c, reason: why, notify: why.notifies() && c.stage >= stageOpened, swept: c.releaser == bySweeper, announced: c.stage == stageAnnounced, revoke: c.aborted}
	l.journal.noteEndLocked(c)
	c.leaveWarmLocked() // which would keep the Conn in memory
	if why.notifies() {
		l.notifying.Add(1) // before the slot is free; sendCloseNotify is done with it
	} else {
		c.records.ReleaseCiphers()
	}
	c.flight = finalFlight{}
	c.leaveTotalLocked()
	if c.inbox != nil {
		c.inbox.setReadDeadline(time.Time{}) // no timer is left
		c.inbox.changed.Broadcast()
	}
	if c.extras != nil && c.extras.done != nil {
		close(c.extras.done)
	}
	l.countEndLocked(c)
	l.identities.leaveLocked(c)
	if p := c.peer; p.conn == c {
		p.conn = nil
		l.admission.established.Add(-1)
		if why != Replaced { // a replaced session's slot is its successor's
			p.leaveSlotLocked()
		}
	}
	return e
}

// countEndLocked counts a session that ends.
func (l *Listener) countEndLocked(c *Conn) {
	now := time.Since(l.began)
	l.counters.ended[c.ended].Add(1)
	l.counters.sessionAges.observe(now - time.Duration(c.began)*ageUnit)
	l.counters.sessionIdles.observe(now - c.lastUsed)
}

// leaveSlotLocked frees the slot of a session that has ended. If the peer has handshakes in
// progress, they keep the slot, half-open: their clients can have its connection ID.
func (p *Peer) leaveSlotLocked() {
	if p.pending != nil {
		p.handleLocked().Demote()
	} else {
		p.handleLocked().Free()
	}
}

// finishEnd does what is left, after unlock.
func (l *Listener) finishEnd(e ending) {
	if e.conn == nil {
		return
	}
	if e.notify {
		l.sendCloseNotify(e.conn)
	}
	l.admission.sessionEnded()
	if e.swept {
		l.sweeper.noteEnd()
	}
	if e.revoke {
		e.conn.revoke()
	}
	if e.announced {
		l.announceEnd(e.conn, e.reason)
	}
}

// sendCloseNotify tells the peer of a session that the session has ended.
func (l *Listener) sendCloseNotify(c *Conn) {
	c.sendCloseNotify()
	l.notifying.Done()
}

func (c *Conn) sendCloseNotify() {
	if closeNotify, to := c.sealCloseNotify(); closeNotify != nil {
		to.send(closeNotify)
	}
}

// sealCloseNotify returns the last record of a session that has ended, and where to send
// it.
func (c *Conn) sealCloseNotify() ([]byte, route) {
	alert := record.Alert{Level: record.LevelWarning, Description: record.CloseNotify}
	c.peer.mu.Lock()
	defer c.peer.mu.Unlock()
	sealed, err := c.records.Seal(nil, record.TypeAlert, alert.Payload())
	c.records.ReleaseCiphers()
	if err != nil {
		return nil, route{}
	}
	return sealed, c.answerRouteLocked(len(sealed))
}

// announceEnd tells the user that a session has ended.
func (l *Listener) announceEnd(c *Conn, why Reason) {
	level := slog.LevelDebug
	switch why {
	case Evicted, Refused, IdentityReplaced, IdentityRefused, Withdrawn:
		level = slog.LevelInfo
	}
	l.tell(event{what: why.event(), level: level, text: "session ended", peer: c.Peer(), refuses: why == Refused})
	if l.config.OnEnd != nil {
		lockorder.AssertNone("OnEnd")
		l.config.OnEnd(c, why)
	}
}

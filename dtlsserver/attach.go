// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/internal/lockorder"
	"github.com/go-dsm/dsm/internal/record"
)

// The errors of Listener.Attach. RestoreStats has a count for each, except for ErrStateUsed.
var (
	// ErrStateUsed: the session state was attached before, in this process.
	ErrStateUsed = errors.New("dsm: the session state was attached before")
	// ErrStateExpired: the session was idle for Config.IdleTimeout.
	ErrStateExpired = errors.New("dsm: the session has expired")
	// ErrStatePolicy: the session was made under another policy, or another ResumptionScope.
	ErrStatePolicy = errors.New("dsm: the session is of a listener with another policy")
	// ErrStateKey: the session's pre-shared key is not known any more, or another one now.
	ErrStateKey = errors.New("dsm: the session's PSK is not known, or another one now")
	// ErrStateRefused: the peer's certificates do not verify any more, or the configuration's own
	// check has refused it.
	ErrStateRefused = errors.New("dsm: the session is not admitted any more")
	// ErrStateDenied: Config.Authorize has refused the session. If it has not answered in time the
	// error wraps context.DeadlineExceeded, too.
	ErrStateDenied = errors.New("dsm: the session is denied")
	// ErrStatePresent: the peer has a session here already.
	ErrStatePresent = errors.New("dsm: the peer has a session already")
	// ErrStateNoRoom: Config.Sessions are established, and Config.WhenFull or StaleAfter let
	// none of them be evicted; or Config.Table is full.
	ErrStateNoRoom = errors.New("dsm: no room for the session")
	// ErrStateIdentityFull: Config.SessionsPerIdentity sessions of the session's identity are
	// established, and Config.WhenIdentityFull is RefuseNewcomer.
	ErrStateIdentityFull = errors.New("dsm: the session's identity has its sessions")
)

// errWithdrawn is the ErrStateRefused of a session whose identity was ended after it was checked.
var errWithdrawn = fmt.Errorf("%w: its identity was ended", ErrStateRefused)

// Attach goes on with a session that was detached: by Conn.Detach of this listener or of
// another one with the same policy, ResumptionScope and pre-shared keys. It refuses what the
// listener would not admit today, as the resumption of a session does: a session whose
// pre-shared key is gone or another one, whose certificates have expired or do not verify any
// more, or that the configuration's own check or Config.Authorize refuses. It waits for
// Config.PSK and Config.Authorize, at most for Config.HandshakeTimeout. If the listener is full
// it evicts as for a newcomer, once all of this is checked, and so it does if the identity has
// Config.SessionsPerIdentity sessions.
//
// After an error the SessionState can be attached elsewhere, unless the error is
// ErrStateUsed. The errors are ErrStateUsed and its neighbours, and net.ErrClosed, wrapped.
//
// The Conn is not delivered to Accept. Serve's handler gets what the peer sends.
// Config.OnRestored is called before Attach returns.
func (l *Listener) Attach(state SessionState) (*Conn, error) {
	s := state.state
	switch {
	case s == nil:
		return nil, l.opError("attach", errNoState)
	case s.interrupted: // nobody would ask who it is; Detach returns none
		return nil, l.opError("attach", errState)
	case s.used.Swap(true) || !usedStates.add(s.id):
		s.used.Store(true)
		return nil, l.opError("attach", ErrStateUsed)
	}
	ctx, cancel := context.WithTimeout(context.Background(), l.config.HandshakeTimeout)
	defer cancel()
	c, err := l.attach(ctx, s)
	if err != nil {
		usedStates.remove(s.id)
		s.used.Store(false)
		return nil, l.opError("attach", err)
	}
	c.announceRestored()
	return c, nil
}

func (l *Listener) attach(ctx context.Context, s *sessionState) (*Conn, error) {
	withdrawals := l.identities.withdrawalCount()
	if l.life.isClosed() {
		return nil, net.ErrClosed
	}
	if err := l.checkState(ctx, s, time.Now()); err != nil {
		return nil, err
	}
	c, ended, err := l.insert(s, time.Now(), withdrawals, l.config.WhenIdentityFull == RefuseNewcomer, l.evictionCandidate)
	for _, e := range ended {
		l.finishEnd(e)
	}
	l.queued.relieve(&l.counters.words[recordQueueFull])
	return c, err
}

// checkState returns why an earlier session is not taken over, or nil. It waits for
// Config.PSK and Config.Authorize.
func (l *Listener) checkState(ctx context.Context, s *sessionState, now time.Time) error {
	switch {
	case l.config.IdleTimeout > 0 && now.Sub(s.lastUsed) >= l.config.IdleTimeout:
		return ErrStateExpired
	case len(s.connectionID) > 0 && len(s.connectionID) != l.ids.length():
		return fmt.Errorf("%w: it has a connection ID of %d bytes, and those of this listener have %d", ErrStatePolicy, len(s.connectionID), l.ids.length())
	case s.interrupted: // it is only to be closed, so nobody asks who it is
		if s.scope != l.scope {
			return ErrStatePolicy
		}
		return nil
	}
	session := s.session()
	err := l.checkPolicy(ctx, s.peer, session, record.ClientHello{Random: s.records.ClientRandom()})
	switch {
	case errors.Is(err, errOtherPolicy):
		return ErrStatePolicy
	case errors.Is(err, errOtherKey):
		return fmt.Errorf("%w: %w", ErrStateKey, err)
	case err != nil:
		return fmt.Errorf("%w: %w", ErrStateRefused, err)
	}
	s.identity.Verified = session.Verified
	return l.authorizeRestored(ctx, s)
}

// insert gives an earlier session a slot. victim returns the session that has to make room
// for it, or nil. withdrawals is identities.withdrawalCount of before it was checked. refuse
// says that it is refused if its identity has its sessions. insert returns the sessions that
// end for it, which the caller finishes.
func (l *Listener) insert(s *sessionState, now time.Time, withdrawals uint64, refuse bool, victim func() *Conn) (c *Conn, ended []ending, err error) {
	newcomer := identityNewcomer{key: l.identityKey(s.identity), withdrawals: withdrawals, refuse: refuse, needsRoom: func() bool { return true }}
	l.prepareIdentityRoom(newcomer.key)
	stopped := l.admission.install(func() {
		if l.sessionOf(s) != nil {
			err = ErrStatePresent
			return
		}
		var refused Reason
		switch ended, refused = l.makeIdentityRoom(newcomer); refused {
		case Withdrawn:
			err = errWithdrawn
			return
		case IdentityRefused:
			err = ErrStateIdentityFull
			return
		}
		for l.admission.full() {
			v := victim()
			if v == nil {
				err = ErrStateNoRoom
				return
			}
			ended = append(ended, l.beginEnd(v, Evicted))
		}
		var e ending
		if c, e, err = l.insertInstalling(s, now, newcomer); e.conn != nil {
			ended = append(ended, e)
		}
	})
	if stopped {
		err = net.ErrClosed
	}
	return c, ended, err
}

// sessionOf returns the established session of the state's peer, or nil.
func (l *Listener) sessionOf(s *sessionState) *Conn {
	if found, state := l.table.Get(l.sock, s.peer); state != dsm.StateNone {
		return found.Value.session()
	}
	return nil
}

// insertInstalling gives a session a slot, for which there is room. The admission's lock is
// held, so that no handshake of the peer begins meanwhile. If its identity was ended meanwhile
// the session is detached at once, and the ending is that of this.
func (l *Listener) insertInstalling(s *sessionState, now time.Time, newcomer identityNewcomer) (c *Conn, e ending, err error) {
	for {
		found, state := l.table.Get(l.sock, s.peer)
		p := found.Value
		if state == dsm.StateNone {
			p = &Peer{listener: l, addr: s.peer}
		}
		p.mu.Lock()
		if state != dsm.StateNone && p.conn == nil && p.pending == nil { // its slot was freed meanwhile
			p.mu.Unlock()
			continue
		}
		if p.conn != nil {
			p.mu.Unlock()
			return nil, e, ErrStatePresent
		}
		if !(state == dsm.StateNone && p.holdOldSlotLocked(s)) && !p.holdAnySlotLocked() {
			p.mu.Unlock()
			return nil, e, ErrStateNoRoom
		}
		p.conn = s.connLocked(p, now)
		l.admission.established.Add(1)
		l.counters.restored.Add(1)
		l.journal.noteStateLocked(p.conn)
		c = p.conn
		if !l.identities.joinLocked(c, newcomer.key, newcomer.withdrawals) {
			c, e, err = nil, l.detachLocked(c), errWithdrawn
		}
		p.mu.Unlock()
		return c, e, err
	}
}

// announceRestored tells the user of an earlier session. It reports false if the user is
// not told: the session has ended, or is only to be closed.
func (c *Conn) announceRestored() bool {
	l := c.peer.listener
	c.peer.mu.Lock()
	silent := c.ended != 0 || c.stage == stageInterrupted
	c.peer.mu.Unlock()
	if silent {
		return false
	}
	l.log.Debug("session restored", "peer", c.Peer())
	if l.config.OnRestored != nil {
		lockorder.AssertNone("OnRestored")
		l.config.OnRestored(c)
	}
	l.markAnnounced(c)
	if l.serving.Load() {
		l.schedule(c)
	}
	return true
}

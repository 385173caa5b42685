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
	// ErrStatePresent: the peer has a session here already.
	ErrStatePresent = errors.New("dsm: the peer has a session already")
	// ErrStateNoRoom: Config.Sessions are established, and Config.WhenFull or StaleAfter let
	// none of them be evicted; or Config.Table is full.
	ErrStateNoRoom = errors.New("dsm: no room for the session")
)

// Attach goes on with a session that was detached: by Conn.Detach of this listener or of
// another one with the same policy, ResumptionScope and pre-shared keys. It refuses what the
// listener would not admit today, as the resumption of a session does: a session whose
// pre-shared key is gone or another one, whose certificates have expired or do not verify any
// more, or that the configuration's own check refuses. It waits for Config.PSK, at most for
// Config.HandshakeTimeout. If the listener is full it evicts as for a newcomer, once all of
// this is checked.
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
	now := time.Now()
	if l.life.isClosed() {
		return nil, net.ErrClosed
	}
	if err := l.checkState(ctx, s, now); err != nil {
		return nil, err
	}
	c, ended, err := l.insert(s, now, l.evictionCandidate)
	for _, e := range ended {
		l.finishEnd(e)
	}
	l.queued.relieve(&l.counters.queueFull)
	return c, err
}

// checkState returns why an earlier session is not taken over, or nil. It waits for
// Config.PSK.
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
	return nil
}

// insert gives an earlier session a slot. victim returns the session that has to make room
// for it, or nil. insert returns the sessions that end for it, which the caller finishes.
func (l *Listener) insert(s *sessionState, now time.Time, victim func() *Conn) (c *Conn, ended []ending, err error) {
	stopped := l.admission.install(func() {
		if l.sessionOf(s) != nil {
			err = ErrStatePresent
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
		c, err = l.insertInstalling(s, now)
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
// held, so that no handshake of the peer begins meanwhile.
func (l *Listener) insertInstalling(s *sessionState, now time.Time) (*Conn, error) {
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
			return nil, ErrStatePresent
		}
		if !(state == dsm.StateNone && p.holdOldSlotLocked(s)) && !p.holdAnySlotLocked() {
			p.mu.Unlock()
			return nil, ErrStateNoRoom
		}
		p.conn = s.connLocked(p, now)
		l.admission.established.Add(1)
		l.counters.restored.Add(1)
		l.journal.noteStateLocked(p.conn)
		c := p.conn
		p.mu.Unlock()
		return c, nil
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

// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"errors"
	"sync"
	"time"
)

// Detach takes the session out of the listener, without a word to the peer, which keeps its
// side. Listener.Attach goes on with it: here, at another listener, in another process or on
// another machine to which the peer's datagrams go. What was received and not read goes
// along, up to 512 KiB.
//
// From now on Read and Write return ErrDetached, and what the peer sends is dropped until the
// session is attached. What was set by SetValue stays behind. Config.OnEnd is called with
// Detached. Detach fails once the session has ended, and while it is being established.
//
// With Config.Journal Detach waits for the disk, at most a second: a session that is elsewhere
// must not be in the journal. Detach fails while the disk is broken, or while Save runs, and
// the session goes on.
func (c *Conn) Detach() (SessionState, error) {
	l := c.peer.listener
	c.peer.mu.Lock()
	err := c.detachableLocked()
	if err == nil && l.journal != nil && isJournalled(c) {
		err = c.leaveJournalLocked()
	}
	if err != nil {
		e := l.endThawedLocked(c)
		c.peer.mu.Unlock()
		l.finishEnd(e)
		return SessionState{}, c.opError("detach", err)
	}
	var shared sessionState
	c.stateLocked(&shared, time.Now())
	s := shared.clone()
	s.id = newStateID()
	e := l.detachLocked(c)
	c.peer.mu.Unlock()
	l.finishEnd(e)
	return SessionState{s}, nil
}

// leaveJournalLocked freezes the session and removes it from the journal: otherwise a crash
// could give it to a second holder. It unlocks the peer meanwhile.
func (c *Conn) leaveJournalLocked() error {
	l := c.peer.listener
	if !l.handover.TryRLock() {
		return errSaving
	}
	defer l.handover.RUnlock()
	c.records.Freeze()
	c.peer.mu.Unlock()
	err := l.journal.remove(c)
	c.peer.mu.Lock()
	if why := c.ended; why != 0 {
		// It could not tell its peer, as it was frozen. Nobody gets its state.
		c.records.Thaw()
		c.peer.mu.Unlock()
		if why.notifies() {
			c.sendCloseNotify()
		}
		c.peer.mu.Lock()
		return why.writeError()
	}
	if err != nil {
		c.records.Thaw()
		l.journal.noteStateLocked(c)
	}
	return err
}

// errNotBegun is the error of Detach for a session that is being established.
var errNotBegun = errors.New("dsm: the session is being established")

// detachableLocked returns what keeps the session from being detached, or nil.
func (c *Conn) detachableLocked() error {
	switch {
	case c.ended != 0:
		return c.ended.writeError()
	case c.userClosed || c.records.IsFrozen():
		return ErrDetached
	case c.stage < stageOpened:
		return errNotBegun
	}
	return nil
}

// beginDetach is detachLocked of a session whose peer is not locked. finishEnd must follow.
func (l *Listener) beginDetach(c *Conn) ending {
	c.peer.mu.Lock()
	defer c.peer.mu.Unlock()
	return l.detachLocked(c)
}

// detachLocked ends a session here whose state somebody else has.
func (l *Listener) detachLocked(c *Conn) ending {
	c.records.Freeze() // whatever happens, no number is used any more
	e := l.endLocked(c, Detached)
	if c.inbox != nil {
		c.inbox.clear() // it goes with the session
	}
	return e
}

// clone returns a copy that shares no memory with the Conn.
func (s *sessionState) clone() *sessionState {
	copied, err := parseState(s.append(nil))
	if err != nil {
		panic("dsm: a session's state does not parse: " + err.Error())
	}
	return copied
}

// usedStates remembers which states were attached in this process.
var usedStates stateMemory

// stateMemory remembers the ids of the last rememberedStates states, or more.
type stateMemory struct {
	mu sync.Mutex
	// mu guards the following.
	recent, old map[[16]byte]struct{}
}

// add remembers an id, and reports false if it was remembered before.
func (m *stateMemory) add(id [16]byte) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, isRecent := m.recent[id]
	if _, isOld := m.old[id]; isOld || isRecent {
		return false
	}
	if m.recent == nil || len(m.recent) >= rememberedStates {
		m.recent, m.old = map[[16]byte]struct{}{}, m.recent
	}
	m.recent[id] = struct{}{}
	return true
}

// remove forgets an id.
func (m *stateMemory) remove(id [16]byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.recent, id)
	delete(m.old, id)
}

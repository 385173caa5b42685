// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"net/netip"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/internal/lockorder"
	"github.com/go-dsm/dsm/internal/record"
)

// Peer is what a Listener keeps in a slot: an established session, a handshake in
// progress, or a session and the peer's next handshake beside it. It is opaque. It is
// the type parameter of Config.Table.
type Peer struct {
	listener *Listener // set in Listener.start, never changed

	mu lockorder.Mutex[lockorder.Peer]
	// mu guards the following, all of the peer's Conns, and what pending says that it
	// guards.
	addr       netip.AddrPort // the peer's, as the table has it; see Conn.moveLocked
	slot       uint32         // the number of the slot plus 1; 0: there was none yet
	generation uint32         // of the slot
	conn       *Conn          // the established session, or nil
	pending    *pending       // the newest handshake in progress, or nil; more follow by pending.next

	// first is the peer's first session, which for most is the only one. It is in the
	// same piece of memory: a small piece of its own, allocated among the garbage of
	// a handshake, would keep a page of that from being released.
	first Conn
}

// newConn returns a Conn of the peer for the session that its handshake has made.
func (p *Peer) newConn() *Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.newConnLocked()
}

func (p *Peer) newConnLocked() *Conn {
	c := &p.first
	if c.peer != nil {
		c = new(Conn)
	}
	c.peer = p
	return c
}

// Conn returns the established session, or nil.
func (p *Peer) Conn() *Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn == nil || p.conn.stage < stageOpened || p.conn.stage == stageInterrupted { // nothing may be written yet
		return nil
	}
	return p.conn
}

// session returns the established session, or nil, also while its client has not been told
// of it yet.
func (p *Peer) session() *Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.conn
}

// Slot returns the number of the peer's slot, from 0.
func (p *Peer) Slot() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.handleLocked().Slot()
}

// handleLocked returns the handle to the peer's slot. The Peer keeps only its slot and
// generation: a Handle takes twice the memory.
func (p *Peer) handleLocked() dsm.Handle[*Peer] {
	return p.listener.table.At(int(p.slot)-1, p.generation)
}

func (p *Peer) setHandleLocked(h dsm.Handle[*Peer]) {
	p.slot, p.generation = uint32(h.Slot()+1), h.Generation()
}

// holdSlotLocked stores the peer in the table, in a state, and returns what state the
// table had for its address. The slot is the peer's if that is dsm.StateNone, or if the
// slot was the peer's before. Otherwise it is another Peer's, or there is none.
func (p *Peer) holdSlotLocked(state dsm.State) (previous dsm.State, ours bool) {
	session := dsm.Session[*Peer]{Peer: p.addr, Value: p}
	handle, previous := p.listener.table.Hold(p.listener.sock, &session, state, true)
	if previous == dsm.NoSpace || session.Value != p {
		return previous, false
	}
	p.setHandleLocked(handle)
	return previous, true
}

// holdAnySlotLocked stores the peer of an earlier session in the table, and reports whether
// there was a slot.
func (p *Peer) holdAnySlotLocked() bool {
	_, ours := p.holdSlotLocked(dsm.StateEstablished)
	return ours
}

// holdOldSlotLocked stores the peer of an earlier session in the slot and the generation that
// the session's connection ID leads to. A session without an ID goes back to its slot too, so
// that it does not take that of a session with one. holdOldSlotLocked reports false if the
// session is of a listener with another key of IDs, or if the slot cannot be held: then the
// session is found by its address alone.
func (p *Peer) holdOldSlotLocked(s *sessionState) bool {
	l := p.listener
	if !s.givesIDs || s.idKey != l.ids.key {
		return false
	}
	slot, generation := int(s.slot), s.generation
	if len(s.connectionID) > 0 {
		var ok bool
		if slot, generation, ok = l.ids.parse(s.connectionID); !ok {
			return false
		}
	}
	session := dsm.Session[*Peer]{Peer: p.addr, Value: p}
	handle, held := l.table.HoldAt(l.sock, &session, dsm.StateEstablished, slot, generation)
	if held {
		p.setHandleLocked(handle)
	}
	return held
}

// needsRoom reports whether a handshake is the peer's still, and no session of the peer
// gives its room to the new one.
func (p *Peer) needsRoom(h *pending) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.isPendingLocked(h) && p.conn == nil
}

// isPendingLocked reports whether a handshake is in progress, as far as the peer knows.
func (p *Peer) isPendingLocked(h *pending) bool {
	for other := p.pending; other != nil; other = other.next {
		if other == h {
			return true
		}
	}
	return false
}

// removePendingLocked takes a handshake away from its peer, and frees the slot if
// nothing else is in it. It reports false if the handshake was not the peer's any more:
// whoever took it away has counted its end.
func (p *Peer) removePendingLocked(h *pending) bool {
	for at := &p.pending; *at != nil; at = &(*at).next {
		if *at != h {
			continue
		}
		*at = h.next
		if p.conn == nil && p.pending == nil {
			p.handleLocked().Free()
		}
		return true
	}
	return false
}

// takeOlderLocked takes the handshakes away from the peer that began before another one of
// its handshakes. It returns the newest of them, or nil.
func (p *Peer) takeOlderLocked(h *pending) *pending {
	older := h.next
	h.next = nil
	return older
}

// hasSessionOf reports whether the peer's session began with a client's random.
func (p *Peer) hasSessionOf(random record.Random) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.conn != nil && p.conn.records.ClientRandom() == random
}

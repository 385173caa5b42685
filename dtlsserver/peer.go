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
	// Set in Listener.start, never changed.
	listener *Listener
	addr     netip.AddrPort

	mu lockorder.Mutex[lockorder.Peer]
	// mu guards the following, all of the peer's Conns, and what pending says that it
	// guards.
	handle  dsm.Handle[*Peer]
	conn    *Conn    // the established session, or nil
	pending *pending // the newest handshake in progress, or nil; more follow by pending.next

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
	return p.handle.Slot()
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
	p.handle = handle
	return previous, true
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
			p.handle.Free()
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

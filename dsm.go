// SPDX-License-Identifier: MIT

// Package dsm provides a table of DTLS sessions: a fixed number of slots, shared
// by all DTLS sockets of a process. It has the calls of RIOT OS's module dsm (DTLS
// Session Management), with the same meaning, and adds what a Go server needs:
// safe concurrent use, eviction in one step, handles, peers that change their
// endpoint, and iteration.
//
// A session belongs to one peer of one socket, and its key is the pair (sock, peer).
// The table knows nothing of DTLS. The type parameter V is the type of the value that
// the server keeps for each session, for example *dtls.Conn.
//
//	table, err := dsm.New[*dtls.Conn](1024)
//	…
//	session := dsm.Session[*dtls.Conn]{Peer: peer, Value: conn}
//	if table.Store(sock, &session, dsm.StateEstablished, false) == dsm.NoSpace {
//		oldest, ok := table.Evict(sock)
//		…
//	}
//
// A session is found by its key, or by its slot and generation: two numbers that no
// other session of the table has. A server can put them into the connection ID that
// it gives to a peer (RFC 9146), and find the session with Table.At when a record
// arrives from an unknown endpoint. Handle.Rebind then changes the endpoint, and
// Table.HoldAt restores a session under the numbers that its peer knows.
//
// The package starts no goroutine, reads no clock and does no I/O.
package dsm

import (
	"fmt"
	"net/netip"
	"sync"
)

// Session is the entry of a table for one peer: RIOT's sock_dtls_session_t.
type Session[V any] struct {
	// Peer is the remote endpoint. An IPv4-mapped IPv6 address is equal to the
	// IPv4 address and is returned as the IPv4 address. The zone is part of the
	// endpoint. The table only compares endpoints, so every value is valid, the
	// zero AddrPort included. Only Handle.Rebind changes the endpoint of a stored
	// session.
	Peer netip.AddrPort
	// Value is the value that the server keeps for the session. The table copies
	// it in and out and does not use it.
	Value V
}

// Table is a fixed number of session slots. New makes one; the zero Table is not
// usable. A Table is safe for concurrent use and must not be copied. Each call
// takes one lock, for a short time that does not grow with the number of slots or
// socks, and runs no code of the user under the lock.
//
// The table closes no value. The caller to whom a call returns an evicted value
// has to close it.
type Table[V any] struct {
	mu sync.Mutex
	// mu guards the following fields, except the fields of slots that newSlots
	// sets and that never change.
	slots  slots
	values []V // by slot number; the zero value for a free slot
	stats  Stats
}

// New returns a table with the given number of slots: RIOT's dsm_init, with
// CONFIG_DSM_PEER_MAX slots. It returns an error for fewer than 1 or more than
// 67 108 864 (2^26) slots.
//
// New allocates all memory: about 69 bytes and the size of V for each slot. Later
// calls allocate only if many socks have sessions at one time. For more than 64 +
// slots/64 socks, a call that adds a session allocates room for 64 more socks, 1536
// bytes, which later socks reuse. If more than 15 socks had sessions at one time, All
// allocates 16 bytes for each of them while it runs. The list of IPv6 zones grows if
// peers have more than 16 at one time.
func New[V any](slots int) (*Table[V], error) {
	if slots < 1 || slots > maxSlots {
		return nil, fmt.Errorf("dsm: a table of %d slots: want 1 to %d", slots, maxSlots)
	}
	return &Table[V]{slots: newSlots(slots), values: make([]V, slots+1)}, nil
}

// Store is RIOT's dsm_store. It adds a session, or marks the session that the
// table already has as used now. It returns the state in which it found the
// session:
//
//   - The table has no such session: the session takes a slot in newState, with a
//     copy of session.Value, and Store returns StateNone. If no slot is free, Store
//     changes nothing and returns NoSpace. Store never evicts.
//   - The table has the session: a newState of StateEstablished makes it
//     established. An established session stays established, whatever newState
//     is; only Remove, Evict, Admit and Handle.Free remove it. Store never replaces
//     the stored value and ignores session.Value.
//   - newState is StateNone: Store removes a session in StateHandshake. It adds no
//     session and marks no session as used.
//
// If restore is true and the table had the session, Store sets *session to a copy
// of the stored session. Otherwise it leaves *session unchanged.
//
// Any other newState, or a nil session, is a programming error: Store panics.
func (t *Table[V]) Store(sock Sock, session *Session[V], newState State, restore bool) State {
	_, _, previous := t.store(sock, session, newState, restore, nil)
	return previous
}

// Hold is Store, and also returns a handle to the session, in one step. It returns
// the zero Handle if the table does not have the session after the call.
func (t *Table[V]) Hold(sock Sock, session *Session[V], newState State, restore bool) (Handle[V], State) {
	slot, gen, previous := t.store(sock, session, newState, restore, nil)
	return t.handle(slot, gen), previous
}

// Admit is Hold, and makes room if no slot is free: it evicts the session that
// Evict would evict and stores the new session in that slot, in one step, so that
// no concurrent call can take the slot. In this case previous is NoSpace, and
// evicted is the session that the caller has to close. If there is no session to
// evict, Admit changes nothing: previous is NoSpace, handle is the zero Handle and
// evicted the zero Session.
func (t *Table[V]) Admit(sock Sock, session *Session[V], newState State, restore bool) (handle Handle[V], previous State, evicted Session[V]) {
	slot, gen, previous := t.store(sock, session, newState, restore, &evicted)
	return t.handle(slot, gen), previous, evicted
}

// store implements Store, Hold and Admit. It returns the slot and generation of
// the session, or slot 0 if the table does not have the session after the call.
// It evicts only if evicted is not nil, and sets *evicted to the evicted session.
func (t *Table[V]) store(sock Sock, session *Session[V], newState State, restore bool, evicted *Session[V]) (slot, gen uint32, previous State) {
	if newState < StateNone || newState > StateEstablished {
		panicInvalidState(newState)
	}
	s := &t.slots
	hash, peer := s.hashKey(sock, session.Peer)

	t.mu.Lock()
	peer = s.withZone(peer, session.Peer)
	i := s.find(hash, sock, peer)
	switch {
	case i != 0:
		previous = s.state(i)
		if restore {
			session.Peer = unmap(session.Peer)
			session.Value = t.values[i]
		}
		if newState != StateNone {
			s.use(i)
			if previous < newState {
				s.establish(i)
			}
		} else if previous == StateHandshake {
			t.stats.Removed++
			t.freeLocked(i)
			i = 0
		}
	case newState == StateNone:
		// There is no session to remove.
	case s.firstFree != 0:
		i = s.firstFree
		s.take(i, hash, sock, peer, newState)
		t.stats.Stored++
		t.values[i] = session.Value
	default:
		t.stats.NoSpace++
		previous = NoSpace
		if evicted == nil {
			break
		}
		if i = s.lru(sock); i == 0 {
			break
		}
		*evicted = t.sessionLocked(i)
		s.replace(i, hash, peer, newState)
		t.stats.Evicted++
		t.stats.Stored++
		t.values[i] = session.Value
	}
	gen = s.array[i].gen
	t.mu.Unlock()
	return i, gen, previous
}

func panicInvalidState(newState State) {
	panic("dsm: newState " + newState.String() + ": want StateNone, StateHandshake or StateEstablished")
}

// Remove is RIOT's dsm_remove. It frees the slot of (sock, session.Peer), in
// either state, and forgets the value. It does nothing if the table has no such
// session. Remove ignores session.Value; it panics if session is nil.
func (t *Table[V]) Remove(sock Sock, session *Session[V]) {
	hash, peer := t.slots.hashKey(sock, session.Peer)
	t.mu.Lock()
	peer = t.slots.withZone(peer, session.Peer)
	if i := t.slots.find(hash, sock, peer); i != 0 {
		t.stats.Removed++
		t.freeLocked(i)
	}
	t.mu.Unlock()
}

// MaxSlots returns the number of slots that was given to New: RIOT's
// dsm_get_num_maximum_slots.
func (t *Table[V]) MaxSlots() int { return len(t.values) - 1 }

// AvailableSlots returns the number of free slots, from 0 to MaxSlots: RIOT's
// dsm_get_num_available_slots.
func (t *Table[V]) AvailableSlots() int {
	t.mu.Lock()
	n := t.MaxSlots() - t.slots.taken
	t.mu.Unlock()
	return n
}

// LRU returns a copy of the least recently used established session of sock:
// RIOT's dsm_get_least_recently_used_session. It returns false (RIOT's -1) if sock
// has no established session. LRU never returns a session in StateHandshake, and
// does not count as use.
//
// Evict makes room. LRU followed by Remove does not do the same, because the
// session may be used between the two calls.
func (t *Table[V]) LRU(sock Sock) (session Session[V], ok bool) {
	t.mu.Lock()
	if i := t.slots.lru(sock); i != 0 {
		session, ok = t.sessionLocked(i), true
	}
	t.mu.Unlock()
	return session, ok
}

// Evict removes the session that LRU would return, in one step, and returns it.
// The caller has to close it. Evict returns false if sock has no established
// session.
func (t *Table[V]) Evict(sock Sock) (session Session[V], ok bool) {
	t.mu.Lock()
	if i := t.slots.lru(sock); i != 0 {
		session, ok = t.sessionLocked(i), true
		t.stats.Evicted++
		t.freeLocked(i)
	}
	t.mu.Unlock()
	return session, ok
}

// Get returns a copy of the session of (sock, peer) and its state, or StateNone if
// the table has no such session. It does not count as use.
func (t *Table[V]) Get(sock Sock, peer netip.AddrPort) (session Session[V], state State) {
	hash, e := t.slots.hashKey(sock, peer)
	t.mu.Lock()
	if i := t.slots.find(hash, sock, t.slots.withZone(e, peer)); i != 0 {
		session, state = t.sessionLocked(i), t.slots.state(i)
	}
	t.mu.Unlock()
	return session, state
}

// Stats are the counts of a table at one moment. The totals never decrease, and
// Stored = Removed + Evicted + Established + Handshakes.
type Stats struct {
	Established int // sessions in StateEstablished
	Handshakes  int // sessions in StateHandshake

	Uses    uint64 // the access counter: sessions added, found again by Store, Hold or Admit, or used by handle
	Stored  uint64 // sessions that took a slot
	NoSpace uint64 // calls of Store, Hold and Admit that found no free slot for a new session
	Removed uint64 // sessions removed by Remove, by Handle.Free or by Store with StateNone
	Evicted uint64 // sessions removed by Evict and Admit
}

// Stats returns the counts of the table.
func (t *Table[V]) Stats() Stats {
	t.mu.Lock()
	stats := t.stats
	stats.Established = t.slots.established
	stats.Handshakes = t.slots.taken - t.slots.established
	stats.Uses = t.slots.uses
	t.mu.Unlock()
	return stats
}

// sessionLocked returns a copy of the session in a taken slot.
func (t *Table[V]) sessionLocked(i uint32) Session[V] {
	return Session[V]{Peer: t.slots.peer(i), Value: t.values[i]}
}

// freeLocked frees a taken slot and forgets its value, so that the garbage
// collector can free what the value refers to.
func (t *Table[V]) freeLocked(i uint32) {
	t.slots.free(i)
	var zero V
	t.values[i] = zero
}

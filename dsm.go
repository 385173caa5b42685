// SPDX-License-Identifier: MIT

// Package dsm is a table of DTLS sessions: a fixed number of slots shared by all
// DTLS sockets of a process. It is RIOT OS's module dsm (DTLS Session
// Management) for Go servers, call for call, and what a server needs beside.
//
// A session is what a server keeps for one peer of one of its sockets, and is
// found by both: by (sock, peer). The table knows nothing of DTLS itself: what is
// kept is the type parameter V, such as a *dtls.Conn.
//
//	table, err := dsm.New[*dtls.Conn](1024)
//	…
//	session := dsm.Session[*dtls.Conn]{Peer: peer, Value: conn}
//	if table.Store(sock, &session, dsm.StateEstablished, false) == dsm.NoSpace {
//		oldest, ok := table.Evict(sock)
//		…
//	}
//
// The package starts no goroutine, reads no clock and does no I/O.
package dsm

import (
	"fmt"
	"iter"
	"net/netip"
	"sync"
)

// Session is what a table keeps for a peer: RIOT's sock_dtls_session_t.
type Session[V any] struct {
	// Peer is the remote endpoint. An IPv4-mapped IPv6 address means the same
	// as the IPv4 address, and is given back as that; the zone counts. It is
	// compared and never dialled, so any value will do, the zero one too.
	Peer netip.AddrPort
	// Value is what the server keeps for the session. The table copies it in
	// and out, and never looks at it.
	Value V
}

// Table is a fixed number of session slots. Make one with New; the zero Table
// cannot be used. A Table is safe for concurrent use and must not be copied.
// Calls take one lock, for a short time that does not grow with the number of
// slots, and call nothing of the user's under it.
//
// The table closes nothing: a value belongs to whom the table gives it back.
type Table[V any] struct {
	mu sync.Mutex
	// mu guards the following, but for the fields of slots that newSlots sets and
	// nobody changes.
	slots  slots
	values []V // by slot; the zero value where the slot is free
	stats  Stats
}

// New returns a table of that many slots: RIOT's dsm_init, with
// CONFIG_DSM_PEER_MAX slots. Fewer than 1 or more than 67 108 864 (2^26) is an
// error.
//
// All memory is taken here: about 72 bytes a slot and the size of V. No call
// allocates afterwards, but where sessions are of many socks: with more than 64 +
// slots/64 of them at one time, Store grows the list of socks (24 bytes each), and
// with more than 15, All takes 16 bytes for each while it runs.
func New[V any](slots int) (*Table[V], error) {
	if slots < 1 || slots > maxSlots {
		return nil, fmt.Errorf("dsm: a table of %d slots: want 1 to %d", slots, maxSlots)
	}
	return &Table[V]{slots: newSlots(slots), values: make([]V, slots+1)}, nil
}

// Store is RIOT's dsm_store: it enters a session, or marks the one that is there
// as used now, and returns the state in which it found it.
//
//   - The session is not there: it takes a slot in newState, with a copy of
//     session.Value, and Store returns StateNone. If no slot is free nothing
//     changes and Store returns NoSpace: it never evicts.
//   - The session is there: StateEstablished as newState makes it established.
//     An established session stays so, whatever newState is: only Remove, Evict,
//     Admit and Handle.Free take it down. What was stored first is kept;
//     session.Value is not looked at.
//   - newState is StateNone: a session in StateHandshake is removed; nothing is
//     added or used.
//
// With restore, and if the session was there, *session becomes a copy of what is
// stored. Otherwise *session is left alone.
//
// Any other newState, or a nil session, is a programming error: Store panics.
func (t *Table[V]) Store(sock Sock, session *Session[V], newState State, restore bool) State {
	_, _, previous := t.store(sock, session, newState, restore, nil)
	return previous
}

// Hold is Store, and gives a handle to the slot that holds the session then: the
// zero Handle if none does. No other call can come between.
func (t *Table[V]) Hold(sock Sock, session *Session[V], newState State, restore bool) (Handle[V], State) {
	slot, gen, previous := t.store(sock, session, newState, restore, nil)
	return t.handle(slot, gen), previous
}

// Admit is Hold that makes room: where no slot is free, the session that Evict
// would take gives its slot to the new one, in the same step, so that no third
// can take it. previous is NoSpace then, and evicted is the session that had to
// go, the caller's to close. If there was none to evict nothing changes: previous
// is NoSpace, and the handle is the zero one.
func (t *Table[V]) Admit(sock Sock, session *Session[V], newState State, restore bool) (handle Handle[V], previous State, evicted Session[V]) {
	slot, gen, previous := t.store(sock, session, newState, restore, &evicted)
	return t.handle(slot, gen), previous, evicted
}

// store returns the slot that holds the session in the end, or 0. It evicts if
// there is an evicted to write to.
func (t *Table[V]) store(sock Sock, session *Session[V], newState State, restore bool, evicted *Session[V]) (slot, gen uint32, previous State) {
	if newState < StateNone || newState > StateEstablished {
		panicState(newState)
	}
	s := &t.slots
	hash, peer := s.key(sock, session.Peer)

	t.mu.Lock()
	i, at := s.find(hash, sock, peer)
	switch {
	case i != 0:
		previous = s.state(i)
		if restore {
			session.Peer = peer
			session.Value = t.values[i]
		}
		if newState != StateNone {
			s.use(i)
			if previous < newState {
				s.establish(i)
			}
		} else if previous == StateHandshake {
			t.stats.Removed++
			t.dropLocked(at, i)
			i = 0
		}
	case newState == StateNone:
		// Nothing was there, and nothing is to be.
	default:
		if s.free == 0 {
			t.stats.NoSpace++
			previous = NoSpace
			if evicted == nil {
				break
			}
			victim := s.lru(sock)
			if victim == 0 {
				break
			}
			t.evictLocked(victim, evicted)
		}
		i = s.take(hash, sock, peer, newState)
		t.stats.Stored++
		t.values[i] = session.Value
	}
	gen = s.array[i].gen
	t.mu.Unlock()
	return i, gen, previous
}

func panicState(newState State) {
	panic("dsm: newState " + newState.String() + ": want StateNone, StateHandshake or StateEstablished")
}

// Remove is RIOT's dsm_remove: it frees the slot of (sock, session.Peer) and
// forgets its value. If there is none it does nothing. session.Value is not
// looked at; a nil session panics.
func (t *Table[V]) Remove(sock Sock, session *Session[V]) {
	hash, peer := t.slots.key(sock, session.Peer)
	t.mu.Lock()
	if i, at := t.slots.find(hash, sock, peer); i != 0 {
		t.stats.Removed++
		t.dropLocked(at, i)
	}
	t.mu.Unlock()
}

// MaxSlots is RIOT's dsm_get_num_maximum_slots: the number that New was given.
func (t *Table[V]) MaxSlots() int { return len(t.values) - 1 }

// AvailableSlots is RIOT's dsm_get_num_available_slots: how many slots are free,
// from 0 to MaxSlots.
func (t *Table[V]) AvailableSlots() int {
	t.mu.Lock()
	n := t.MaxSlots() - t.slots.used
	t.mu.Unlock()
	return n
}

// LRU is RIOT's dsm_get_least_recently_used_session: a copy of the established
// session of sock whose last use is oldest, or false (RIOT's -1) if it has none.
// Sessions in StateHandshake are never given. LRU is no use and changes nothing.
//
// To make room, call Evict: between LRU and Remove the session may be used.
func (t *Table[V]) LRU(sock Sock) (session Session[V], ok bool) {
	t.mu.Lock()
	if i := t.slots.lru(sock); i != 0 {
		session.Peer = t.slots.peer(i)
		session.Value = t.values[i]
		ok = true
	}
	t.mu.Unlock()
	return session, ok
}

// Evict is LRU and Remove in one step: the session that it returns is the
// caller's to close, and no longer in the table.
func (t *Table[V]) Evict(sock Sock) (session Session[V], ok bool) {
	t.mu.Lock()
	if i := t.slots.lru(sock); i != 0 {
		t.evictLocked(i, &session)
		ok = true
	}
	t.mu.Unlock()
	return session, ok
}

// Get looks without using: a copy of the session of (sock, peer) and its state,
// StateNone if there is none.
func (t *Table[V]) Get(sock Sock, peer netip.AddrPort) (session Session[V], state State) {
	hash, peer := t.slots.key(sock, peer)
	t.mu.Lock()
	if i, _ := t.slots.find(hash, sock, peer); i != 0 {
		session, state = t.sessionLocked(i), t.slots.state(i)
	}
	t.mu.Unlock()
	return session, state
}

// All gives the sessions of every sock, in either state, least recently used
// first, each with its state. Giving is no use.
//
// The lock is taken for a few sessions at a time and never while the loop's body
// runs, which may call the table as it likes. No session is given twice, and
// every one that stays untouched while the loop runs is given. One that is used,
// stored or removed meanwhile, by the body or by others, may be given or not.
func (t *Table[V]) All() iter.Seq2[Session[V], State] {
	return func(yield func(Session[V], State) bool) {
		var batch [allBatch]walked[V]
		var cursors [allLists]cursor
		t.mu.Lock()
		w := t.slots.beginWalk(cursors[:0])
		t.mu.Unlock()
		for {
			n, more := t.walkBatch(&w, &batch)
			for i := range batch[:n] {
				if !yield(batch[i].session, batch[i].state) {
					return
				}
			}
			if !more {
				return
			}
			clear(batch[:n]) // the loop may go on for long: retain nothing
		}
	}
}

const (
	// allBatch is how many sessions All copies under one lock.
	allBatch = 16
	// allSteps is how many it looks at, where it has to find its place again.
	allSteps = 1024
	// allLists is how many lists All merges without allocating.
	allLists = 16
)

type walked[V any] struct {
	session Session[V]
	state   State
}

// walkBatch copies the next sessions, and says how many, and whether there can be
// more.
func (t *Table[V]) walkBatch(w *walk, batch *[allBatch]walked[V]) (n int, more bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for steps := 0; len(w.cursors) > 0; steps++ {
		if n == len(batch) || steps == allSteps {
			return n, true
		}
		if i := w.next(&t.slots); i != 0 {
			batch[n] = walked[V]{t.sessionLocked(i), t.slots.state(i)}
			n++
		}
	}
	return n, false
}

// Stats are a table's counts at one moment. The totals never decrease;
// Stored = Removed + Evicted + Established + Handshakes.
type Stats struct {
	Established int // sessions in StateEstablished
	Handshakes  int // sessions in StateHandshake

	Uses    uint64 // the access counter: sessions stored, found again by Store, and used by handle
	Stored  uint64 // sessions that took a slot
	NoSpace uint64 // sessions for which no slot was free: refused by Store, or admitted in another's place
	Removed uint64 // sessions taken out by Remove, Handle.Free or Store with StateNone
	Evicted uint64 // sessions taken out by Evict and Admit
}

// Stats returns the counts.
func (t *Table[V]) Stats() Stats {
	t.mu.Lock()
	stats := t.stats
	stats.Established = t.slots.established
	stats.Handshakes = t.slots.used - t.slots.established
	stats.Uses = t.slots.uses
	t.mu.Unlock()
	return stats
}

// sessionLocked copies out a taken slot.
func (t *Table[V]) sessionLocked(i uint32) Session[V] {
	return Session[V]{Peer: t.slots.peer(i), Value: t.values[i]}
}

// evictLocked moves a taken slot's session out of the table.
func (t *Table[V]) evictLocked(i uint32, session *Session[V]) {
	session.Peer = t.slots.peer(i)
	session.Value = t.values[i]
	t.stats.Evicted++
	t.dropLocked(t.slots.placeOf(i), i)
}

// dropLocked frees a taken slot and forgets its value.
func (t *Table[V]) dropLocked(at place, i uint32) {
	t.slots.drop(at, i)
	var none V
	t.values[i] = none
}

// Handle is a taken slot of a table, as Hold gives it: what is done through it
// needs no look-up. It means that one session, and once this has left the table
// the handle does nothing, even when the same peer has come back or the slot is
// taken again (unless it was freed 2^32 times since).
//
// A Handle may be copied, compared with == and used concurrently. The zero
// Handle means no session.
type Handle[V any] struct {
	table *Table[V]
	slot  uint32
	gen   uint32
}

// handle is the zero Handle for slot 0.
func (t *Table[V]) handle(slot, gen uint32) Handle[V] {
	if slot == 0 {
		return Handle[V]{}
	}
	return Handle[V]{t, slot, gen}
}

// Slot returns the number of the session's slot, from 0 to MaxSlots()-1, and -1
// for the zero Handle. No other session has it until this one has left the table.
func (h Handle[V]) Slot() int { return int(h.slot) - 1 }

// Use marks the session as used now, as Store would. It is false, and nothing
// happens, if the session has left the table.
func (h Handle[V]) Use() bool {
	if h.table == nil {
		return false
	}
	return useHeld(&h.table.mu, &h.table.slots, h.slot, h.gen)
}

// useHeld is slots.use written out once more: its call alone would be a tenth of
// what Handle.Use takes.
func useHeld(mu *sync.Mutex, s *slots, i, gen uint32) bool {
	p := &s.array[i]
	mu.Lock()
	held := p.gen == gen
	if held {
		s.uses++
		p.used = s.uses
		toNewest(s.array, s.listOf(p), i)
	}
	mu.Unlock()
	return held
}

// Free removes the session, as Remove would. It is false, and nothing happens,
// if the session has left the table.
func (h Handle[V]) Free() bool {
	if h.table == nil {
		return false
	}
	h.table.mu.Lock()
	held := h.table.slots.held(h.slot, h.gen)
	if held {
		h.table.stats.Removed++
		h.table.dropLocked(h.table.slots.placeOf(h.slot), h.slot)
	}
	h.table.mu.Unlock()
	return held
}

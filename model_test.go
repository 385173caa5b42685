// SPDX-License-Identifier: MIT

package dsm

import (
	"net/netip"
	"slices"
	"testing"
)

// model is a naive implementation of a table for the fuzz test: a slice in the order
// of use. It identifies a peer by a name that all spellings of the endpoint share,
// and a session by its value. It leaves to the table which free slot Hold takes.
type model struct {
	slots       int
	sessions    []modelSession // least recently used first
	generations []uint32       // by slot: of its session, or of the next one if it is free
}

type modelSession struct {
	sock  int
	peer  string
	state State
	value int
	slot  int // -1 until occupy
}

// index returns the index of a session in m.sessions, or -1.
func (m *model) index(sock int, peer string) int {
	return slices.IndexFunc(m.sessions, func(s modelSession) bool { return s.sock == sock && s.peer == peer })
}

// remove removes session i and returns it.
func (m *model) remove(i int) modelSession {
	s := m.sessions[i]
	m.sessions = slices.Delete(m.sessions, i, i+1)
	return s
}

// leave removes session i for good and returns it.
func (m *model) leave(i int) modelSession {
	s := m.remove(i)
	m.generations[s.slot]++
	return s
}

// at returns the index of the session that has a slot in a generation, or -1.
func (m *model) at(slot int, generation uint32) int {
	return slices.IndexFunc(m.sessions, func(s modelSession) bool { return s.slot == slot && m.generations[slot] == generation })
}

// valued returns the index of the session with the given value, or -1.
func (m *model) valued(value int) int {
	return slices.IndexFunc(m.sessions, func(s modelSession) bool { return s.value == value })
}

// occupy notes the slot that the table chose for session i, and reports whether the
// model agrees with the choice.
func (m *model) occupy(i int, h Handle[int]) bool {
	slot := h.Slot()
	if slot < 0 || slot >= m.slots || m.sessions[i].slot != slot && m.at(slot, m.generations[slot]) >= 0 {
		return false
	}
	m.sessions[i].slot = slot
	return h.Generation() == m.generations[slot]
}

// store is Table.Store. found is the value that restore returns.
func (m *model) store(sock int, peer string, value int, newState State) (previous State, found int) {
	i := m.index(sock, peer)
	switch {
	case i >= 0 && newState == StateNone:
		s := m.sessions[i]
		if s.state == StateHandshake {
			m.leave(i)
		}
		return s.state, s.value
	case i >= 0:
		s := m.remove(i)
		previous = s.state
		s.state = max(s.state, newState)
		m.sessions = append(m.sessions, s)
		return previous, s.value
	case newState == StateNone:
		return StateNone, value
	case len(m.sessions) == m.slots:
		return NoSpace, value
	}
	m.sessions = append(m.sessions, modelSession{sock, peer, newState, value, -1})
	return StateNone, value
}

// holdAt is Table.HoldAt.
func (m *model) holdAt(sock int, peer string, value int, newState State, slot int, generation uint32) bool {
	if slot < 0 || slot >= m.slots || m.index(sock, peer) >= 0 || m.at(slot, m.generations[slot]) >= 0 || m.generations[slot] > generation {
		return false
	}
	m.generations[slot] = generation
	m.sessions = append(m.sessions, modelSession{sock, peer, newState, value, slot})
	return true
}

// rebind is Handle.Rebind for the session with the given value.
func (m *model) rebind(value int, peer string) bool {
	i := m.valued(value)
	if i < 0 {
		return false
	}
	if other := m.index(m.sessions[i].sock, peer); other >= 0 {
		return other == i
	}
	m.sessions[i].peer = peer
	return true
}

// use is Handle.Use for the session with the given value.
func (m *model) use(value int) bool {
	i := m.valued(value)
	if i >= 0 {
		m.sessions = append(m.sessions, m.remove(i))
	}
	return i >= 0
}

// demote is Handle.Demote for the session with the given value.
func (m *model) demote(value int) bool {
	demoted := m.use(value)
	if demoted {
		m.sessions[len(m.sessions)-1].state = StateHandshake
	}
	return demoted
}

// lru returns the index of the session that Table.LRU returns, or -1.
func (m *model) lru(sock int) int {
	return slices.IndexFunc(m.sessions, func(s modelSession) bool { return s.sock == sock && s.state == StateEstablished })
}

// modelPeers are endpoints. Equal endpoints have the same name.
var modelPeers = []struct {
	endpoint netip.AddrPort
	name     string
}{
	{netip.MustParseAddrPort("192.0.2.1:5684"), "A"},
	{netip.MustParseAddrPort("[::ffff:192.0.2.1]:5684"), "A"},
	{netip.MustParseAddrPort("[::ffff:192.0.2.1%eth0]:5684"), "A"},
	{netip.MustParseAddrPort("192.0.2.1:5685"), "B"},
	{netip.MustParseAddrPort("[::192.0.2.1]:5684"), "C"},
	{netip.MustParseAddrPort("192.0.2.2:5684"), "D"},
	{netip.MustParseAddrPort("[::ffff:192.0.2.2]:5684"), "D"},
	{netip.MustParseAddrPort("[2001:db8::1]:5684"), "E"},
	{netip.MustParseAddrPort("[2001:db8::1]:0"), "F"},
	{netip.MustParseAddrPort("[fe80::1]:5684"), "G"},
	{netip.MustParseAddrPort("[fe80::1%eth0]:5684"), "H"},
	{netip.MustParseAddrPort("[fe80::1%eth1]:5684"), "I"},
	{netip.AddrPort{}, "J"},
	{netip.MustParseAddrPort("0.0.0.0:0"), "K"},
	{netip.MustParseAddrPort("[::]:0"), "L"},
	{netip.MustParseAddrPort("[::ffff:0.0.0.0]:0"), "K"},
}

// init adds enough other endpoints to fill large tables.
func init() {
	for i := range 64 {
		endpoint := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i / 8), byte(i)}), 5684)
		modelPeers = append(modelPeers, struct {
			endpoint netip.AddrPort
			name     string
		}{endpoint, endpoint.String()})
	}
}

// FuzzTable runs the operations that the input encodes on a table and on a model, and
// compares the results. The first byte of the input gives the number of slots, and
// three bytes each give an operation.
func FuzzTable(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 1, 0, 3, 6, 0, 0})
	for _, slots := range []byte{15, 24, 47} { // fill the table and replace its sessions
		data := []byte{slots}
		for i := range 400 {
			data = append(data, byte(8*(i%2)), byte(i%3)<<2|byte(i*7%4), byte(i*13))
		}
		f.Add(data)
	}
	for _, slots := range []byte{7, 24, 47, 0x80 | 16, 0x80 | 40, 0x80 | 63} { // all operations in turn; with 0x80, uses wait
		data := []byte{slots}
		for i := range 600 {
			data = append(data, byte(i), byte(i*37), byte(i*i*13))
		}
		f.Add(data)
	}
	f.Add([]byte("\x03 a longer one, so that the fuzzer has some operations of every kind to mix up"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) == 0 {
			return
		}
		m := model{slots: 1 + int(data[0]%48)} // With up to 48 slots some groups of the index overflow.
		m.generations = make([]uint32, m.slots)
		table, err := New[int](m.slots)
		if err != nil {
			t.Fatal(err)
		}
		table.slots.usesWait = data[0]&0x80 != 0 // as in a large table
		// An input must have the same effect each time, so the secrets are not random.
		table.slots.secret = [3]uint64{uint64(data[0]) << 20, 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F}
		socks := [...]Sock{{}, NewSock(), NewSock(), NewSock()}
		names := map[netip.AddrPort]string{} // of endpoints as the table returns them: unmapped
		for _, peer := range modelPeers {
			if addr := peer.endpoint.Addr(); !addr.Is4In6() {
				names[peer.endpoint] = peer.name
			}
		}
		type handleOf struct {
			handle Handle[int]
			value  int // of the session
		}
		handles := []handleOf{{value: -1}} // The first one is the zero Handle.
		leaves := map[int]int{}            // how often each value left the table
		var want Stats

		for n := 1; n+2 < len(data); n += 3 {
			op, sock, peer := data[n], int(data[n+1]%4), modelPeers[int(data[n+2])%len(modelPeers)]
			state := State(data[n+1] >> 2 % 3)
			restore := data[n+1]&0x80 != 0
			session := Session[int]{Peer: peer.endpoint, Value: n}
			// A slot, now and then one that the table has not, and a generation at
			// most one below and two above that of the slot.
			slot := int(op>>4)*4 + int(data[n+1]>>5&3) - 1
			var generation uint32
			if slot >= 0 && slot < m.slots {
				generation = max(m.generations[slot]+uint32(data[n+2]>>6), 1) - 1
			}
			switch op % 16 {
			case 0, 1, 2, 8, 9, 10: // Store, Admit
				i := m.index(sock, peer.name)
				wantPrevious, found := m.store(sock, peer.name, n, state)
				var handle Handle[int]
				var previous State
				if op&8 == 0 {
					handle, previous = table.Hold(socks[sock], &session, state, restore)
				} else {
					var evicted, zero Session[int]
					handle, previous, evicted = table.Admit(socks[sock], &session, state, restore)
					if victim := m.lru(sock); wantPrevious == NoSpace && victim >= 0 {
						if evicted.Value != m.sessions[victim].value || names[evicted.Peer] != m.sessions[victim].peer {
							t.Fatalf("byte %d: Admit evicted %v, want %v", n, evicted, m.sessions[victim])
						}
						leaves[m.leave(victim).value]++
						want.Evicted++
						want.NoSpace++
						m.store(sock, peer.name, n, state)
					} else if evicted != zero {
						t.Fatalf("byte %d: Admit evicted %v", n, evicted)
					}
				}
				if previous != wantPrevious {
					t.Fatalf("byte %d: Store returned %v, want %v", n, previous, wantPrevious)
				}
				if !restore && (session.Value != n || session.Peer != peer.endpoint) {
					t.Fatalf("byte %d: *session was changed", n)
				}
				if restore && (session.Value != found || i >= 0 && names[session.Peer] != peer.name) {
					t.Fatalf("byte %d: restored %v, want %d of %s", n, session, found, peer.name)
				}
				j := m.index(sock, peer.name)
				switch {
				case i >= 0 && j < 0:
					leaves[found]++
					want.Removed++
				case i < 0 && j >= 0:
					want.Stored++
				case wantPrevious == NoSpace:
					want.NoSpace++
				}
				if (handle != Handle[int]{}) != (j >= 0) {
					t.Fatalf("byte %d: handle %v of the session at index %d", n, handle, j)
				}
				if j >= 0 {
					if !m.occupy(j, handle) {
						t.Fatalf("byte %d: %d in slot %d, generation %d", n, found, handle.Slot(), handle.Generation())
					}
					handles = append(handles, handleOf{handle, found})
				}
			case 3: // Remove
				if i := m.index(sock, peer.name); i >= 0 {
					leaves[m.leave(i).value]++
					want.Removed++
				}
				table.Remove(socks[sock], &session)
			case 4: // LRU, Evict
				wantIndex := m.lru(sock)
				oldest, ok := table.LRU(socks[sock])
				if ok != (wantIndex >= 0) || ok && (oldest.Value != m.sessions[wantIndex].value || names[oldest.Peer] != m.sessions[wantIndex].peer) {
					t.Fatalf("byte %d: LRU returned %v, %v", n, oldest, ok)
				}
				if data[n+2]&1 == 0 {
					evicted, evictedOK := table.Evict(socks[sock])
					if evicted != oldest || evictedOK != ok {
						t.Fatalf("byte %d: Evict returned %v after LRU returned %v", n, evicted, oldest)
					}
					if ok {
						leaves[m.leave(wantIndex).value]++
						want.Evicted++
					}
				}
			case 5: // Handle.Use
				h := handles[int(data[n+2])%len(handles)]
				if wantUsed := m.use(h.value); h.handle.Use() != wantUsed {
					t.Fatalf("byte %d: Use of value %d: want %v", n, h.value, wantUsed)
				}
			case 6: // Handle.Free
				h := handles[int(data[n+2])%len(handles)]
				i := m.valued(h.value)
				if h.handle.Free() != (i >= 0) {
					t.Fatalf("byte %d: Free of value %d: want %v", n, h.value, i >= 0)
				}
				if i >= 0 {
					leaves[m.leave(i).value]++
					want.Removed++
				}
			case 11: // HoldAt
				newState := max(state, StateHandshake)
				wantHeld := m.holdAt(sock, peer.name, n, newState, slot, generation)
				handle, held := table.HoldAt(socks[sock], &session, newState, slot, generation)
				if held != wantHeld || held && handle != table.At(slot, generation) || !held && handle != (Handle[int]{}) {
					t.Fatalf("byte %d: HoldAt slot %d, generation %d returned %v, %v, want %v", n, slot, generation, handle, held, wantHeld)
				}
				if held {
					want.Stored++
					handles = append(handles, handleOf{handle, n})
				}
			case 13: // Handle.Demote
				h := handles[int(data[n+2])%len(handles)]
				if wantDemoted := m.demote(h.value); h.handle.Demote() != wantDemoted {
					t.Fatalf("byte %d: Demote of value %d: want %v", n, h.value, wantDemoted)
				}
			case 12: // Handle.Rebind
				h := handles[int(data[n+1])%len(handles)]
				if wantRebound := m.rebind(h.value, peer.name); h.handle.Rebind(peer.endpoint) != wantRebound {
					t.Fatalf("byte %d: Rebind of value %d to %s: want %v", n, h.value, peer.name, wantRebound)
				}
			case 14: // At, Handle.Get of any slot and generation
				i := m.at(slot, generation)
				at := table.At(slot, generation)
				stored, state := at.Get()
				if (state != StateNone) != (i >= 0) || i >= 0 && (state != m.sessions[i].state || stored.Value != m.sessions[i].value || names[stored.Peer] != m.sessions[i].peer) {
					t.Fatalf("byte %d: slot %d, generation %d has %v, %v", n, slot, generation, stored, state)
				}
				if i < 0 && (at.Use() || at.Rebind(peer.endpoint) || at.Free()) {
					t.Fatalf("byte %d: slot %d has no session of generation %d, but its handle has an effect", n, slot, generation)
				}
			case 15: // At, Handle.Get of a handle
				h := handles[int(data[n+2])%len(handles)]
				at := table.At(h.handle.Slot(), h.handle.Generation())
				stored, state := at.Get()
				if at != h.handle || (state != StateNone) != (m.valued(h.value) >= 0) || state != StateNone && stored.Value != h.value {
					t.Fatalf("byte %d: %v of value %d has %v, %v", n, at, h.value, stored, state)
				}
			case 7: // Get
				i := m.index(sock, peer.name)
				stored, state := table.Get(socks[sock], peer.endpoint)
				if (state != StateNone) != (i >= 0) || i >= 0 && (state != m.sessions[i].state || stored.Value != m.sessions[i].value || names[stored.Peer] != peer.name) {
					t.Fatalf("byte %d: Get returned %v, %v", n, stored, state)
				}
			}

			if err := table.check(); err != nil {
				t.Fatalf("byte %d: %v", n, err)
			}
			if free := table.AvailableSlots(); free != m.slots-len(m.sessions) {
				t.Fatalf("byte %d: %d slots free, want %d", n, free, m.slots-len(m.sessions))
			}
			if table.slots.usesWait && n%24 != 1 {
				continue // All brings the waiting uses into the lists.
			}
			i := 0
			for session, state := range table.All() {
				if i >= len(m.sessions) || session.Value != m.sessions[i].value || names[session.Peer] != m.sessions[i].peer || state != m.sessions[i].state {
					t.Fatalf("byte %d: All yielded %v at index %d of %v", n, session, i, m.sessions)
				}
				i++
			}
			if i != len(m.sessions) {
				t.Fatalf("byte %d: All yielded %d of %v", n, i, m.sessions)
			}
		}

		// Each stored value must have left the table once, or still be there.
		for _, s := range m.sessions {
			leaves[s.value]++
			if s.state == StateEstablished {
				want.Established++
			} else {
				want.Handshakes++
			}
		}
		if uint64(len(leaves)) != want.Stored {
			t.Fatalf("%d values were stored, %d of them are accounted for", want.Stored, len(leaves))
		}
		for value, times := range leaves {
			if times != 1 {
				t.Fatalf("value %d left %d times", value, times)
			}
		}
		stats := table.Stats()
		stats.Uses = 0
		if stats != want {
			t.Fatalf("Stats returned %+v, want %+v", stats, want)
		}
	})
}

// SPDX-License-Identifier: MIT

package dsm

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
)

// model is the table as the specification tells it, in the plainest way: a slice
// in the order of use. It knows peers by name.
type model struct {
	slots int
	held  []modelSession // least recently used first
}

type modelSession struct {
	sock  int
	peer  string
	state State
	value int
}

func (m *model) index(sock int, peer string) int {
	return slices.IndexFunc(m.held, func(s modelSession) bool { return s.sock == sock && s.peer == peer })
}

func (m *model) take(i int) modelSession {
	s := m.held[i]
	m.held = slices.Delete(m.held, i, i+1)
	return s
}

func (m *model) store(sock int, peer string, value int, newState State) (previous State, found int) {
	i := m.index(sock, peer)
	switch {
	case i >= 0 && newState == StateNone:
		s := m.held[i]
		if s.state == StateHandshake {
			m.take(i)
		}
		return s.state, s.value
	case i >= 0:
		s := m.take(i)
		previous = s.state
		s.state = max(s.state, newState)
		m.held = append(m.held, s)
		return previous, s.value
	case newState == StateNone:
		return StateNone, value
	case len(m.held) == m.slots:
		return NoSpace, value
	}
	m.held = append(m.held, modelSession{sock, peer, newState, value})
	return StateNone, value
}

func (m *model) use(value int) bool {
	i := slices.IndexFunc(m.held, func(s modelSession) bool { return s.value == value })
	if i >= 0 {
		m.held = append(m.held, m.take(i))
	}
	return i >= 0
}

func (m *model) lru(sock int) int {
	return slices.IndexFunc(m.held, func(s modelSession) bool { return s.sock == sock && s.state == StateEstablished })
}

// modelPeers are endpoints and the peers that they mean.
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

func init() { // and many plain ones, so that large tables fill
	for i := range 64 {
		endpoint := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i / 8), byte(i)}), 5684)
		modelPeers = append(modelPeers, struct {
			endpoint netip.AddrPort
			name     string
		}{endpoint, endpoint.String()})
	}
}

// FuzzTable turns bytes into operations: the first is the number of slots, then
// three for each operation.
func FuzzTable(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 1, 0, 3, 6, 0, 0})
	for _, slots := range []byte{15, 24, 47} { // fill, and turn over
		data := []byte{slots}
		for i := range 400 {
			data = append(data, byte(8*(i%2)), byte(i%3)<<2|byte(i*7%4), byte(i*13))
		}
		f.Add(data)
	}
	f.Add([]byte("\x03 a longer one, so that the fuzzer has some operations of every kind to mix up"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) == 0 {
			return
		}
		m := model{slots: 1 + int(data[0]%48)} // to 48: some groups of the index overflow
		table, err := New[int](m.slots)
		if err != nil {
			t.Fatal(err)
		}
		table.slots.secret = [3]uint64{uint64(data[0]) << 20, 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F} // to be the same again
		socks := [...]Sock{{}, NewSock(), NewSock(), NewSock()}
		names := map[netip.AddrPort]string{} // of peers as the table gives them: unmapped
		for _, peer := range modelPeers {
			if addr := peer.endpoint.Addr(); !addr.Is4In6() {
				names[peer.endpoint] = peer.name
			}
		}
		type kept struct {
			handle Handle[int]
			value  int
		}
		handles := make([]kept, 1) // the first: no session
		handles[0].value = -1
		gone := map[int]int{} // values that left the table
		var total Stats
		leave := func(value int) { gone[value]++ }

		for n := 1; n+2 < len(data); n += 3 {
			op, sock, peer := data[n], int(data[n+1]%4), modelPeers[int(data[n+2])%len(modelPeers)]
			state := State(data[n+1] >> 2 % 3)
			restore := data[n+1]&0x80 != 0
			session := Session[int]{Peer: peer.endpoint, Value: n}
			switch op % 8 {
			case 0, 1, 2: // Store, Admit
				i := m.index(sock, peer.name)
				want, found := m.store(sock, peer.name, n, state)
				var handle Handle[int]
				var previous State
				if op&8 == 0 {
					handle, previous = table.Hold(socks[sock], &session, state, restore)
				} else {
					var evicted, none Session[int]
					handle, previous, evicted = table.Admit(socks[sock], &session, state, restore)
					if victim := m.lru(sock); want == NoSpace && victim >= 0 {
						if evicted.Value != m.held[victim].value || names[evicted.Peer] != m.held[victim].peer {
							t.Fatalf("byte %d: Admit evicted %v, want %v", n, evicted, m.held[victim])
						}
						leave(m.take(victim).value)
						total.Evicted++
						total.NoSpace++
						m.store(sock, peer.name, n, state)
					} else if evicted != none {
						t.Fatalf("byte %d: Admit evicted %v", n, evicted)
					}
				}
				if previous != want {
					t.Fatalf("byte %d: Store gave %v, want %v", n, previous, want)
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
					leave(found)
					total.Removed++
				case i < 0 && j >= 0:
					total.Stored++
				case want == NoSpace:
					total.NoSpace++
				}
				if (handle != Handle[int]{}) != (j >= 0) {
					t.Fatalf("byte %d: handle %v of a session at %d", n, handle, j)
				}
				if j >= 0 {
					handles = append(handles, kept{handle, found})
				}
			case 3: // Remove
				if i := m.index(sock, peer.name); i >= 0 {
					leave(m.take(i).value)
					total.Removed++
				}
				table.Remove(socks[sock], &session)
			case 4: // LRU, Evict
				want := m.lru(sock)
				oldest, ok := table.LRU(socks[sock])
				if ok != (want >= 0) || ok && (oldest.Value != m.held[want].value || names[oldest.Peer] != m.held[want].peer) {
					t.Fatalf("byte %d: LRU gave %v, %v", n, oldest, ok)
				}
				if data[n+2]&1 == 0 {
					evicted, evictedOK := table.Evict(socks[sock])
					if evicted != oldest || evictedOK != ok {
						t.Fatalf("byte %d: Evict gave %v after LRU gave %v", n, evicted, oldest)
					}
					if ok {
						leave(m.take(want).value)
						total.Evicted++
					}
				}
			case 5: // Handle.Use
				h := handles[int(data[n+2])%len(handles)]
				if want := m.use(h.value); h.handle.Use() != want {
					t.Fatalf("byte %d: Use of value %d: want %v", n, h.value, want)
				}
			case 6: // Handle.Free
				h := handles[int(data[n+2])%len(handles)]
				i := slices.IndexFunc(m.held, func(s modelSession) bool { return s.value == h.value })
				if h.handle.Free() != (i >= 0) {
					t.Fatalf("byte %d: Free of value %d: want %v", n, h.value, i >= 0)
				}
				if i >= 0 {
					leave(m.take(i).value)
					total.Removed++
				}
			case 7: // Get
				i := m.index(sock, peer.name)
				held, state := table.Get(socks[sock], peer.endpoint)
				if (state != StateNone) != (i >= 0) || i >= 0 && (state != m.held[i].state || held.Value != m.held[i].value || names[held.Peer] != peer.name) {
					t.Fatalf("byte %d: Get gave %v, %v", n, held, state)
				}
			}

			if err := table.check(); err != nil {
				t.Fatalf("byte %d: %v", n, err)
			}
			if free := table.AvailableSlots(); free != m.slots-len(m.held) {
				t.Fatalf("byte %d: %d slots free, want %d", n, free, m.slots-len(m.held))
			}
			i := 0
			for session, state := range table.All() {
				if i >= len(m.held) || session.Value != m.held[i].value || names[session.Peer] != m.held[i].peer || state != m.held[i].state {
					t.Fatalf("byte %d: All gave %v in place %d of %v", n, session, i, m.held)
				}
				i++
			}
			if i != len(m.held) {
				t.Fatalf("byte %d: All gave %d of %v", n, i, m.held)
			}
		}

		for _, s := range m.held {
			leave(s.value)
			if s.state == StateEstablished {
				total.Established++
			} else {
				total.Handshakes++
			}
		}
		if uint64(len(gone)) != total.Stored {
			t.Fatalf("%d values were stored, %d accounted for", total.Stored, len(gone))
		}
		for value, times := range gone {
			if times != 1 {
				t.Fatalf("value %d left %d times", value, times)
			}
		}
		stats := table.Stats()
		stats.Uses = 0
		if stats != total {
			t.Fatalf("Stats gave %+v, want %+v", stats, total)
		}
	})
}

// check tells which invariant of the table does not hold.
func (t *Table[V]) check() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := &t.slots
	n := len(t.values) - 1

	// The index: every slot is found from its home, and counted where it passed.
	where := map[uint32]place{}
	over := make([]uint32, len(s.index))
	for at, g := range s.index {
		for n, slot := range g.slots {
			tag := g.tags[n]
			if slot == 0 {
				if tag != 0 {
					return fmt.Errorf("group %d has a tag and no slot in place %d", at, n)
				}
				continue
			}
			if _, twice := where[slot]; twice {
				return fmt.Errorf("slot %d is in the index twice", slot)
			}
			where[slot] = place{uint32(at), n}
			hash := s.array[slot].hash
			if tag != tagOf(hash) {
				return fmt.Errorf("slot %d has the tag %#x, want that of %#x", slot, tag, hash)
			}
			for passed := s.home(hash); passed != uint32(at); passed = s.next(passed) {
				over[passed]++
			}
			sock := Sock{s.socks[s.array[slot].sock].id}
			if h, _ := s.key(sock, s.peer(slot)); h != hash {
				return fmt.Errorf("slot %d has the hash %#x, want %#x", slot, hash, h)
			}
			if got, at := s.find(hash, sock, s.peer(slot)); got != slot || at != where[slot] {
				return fmt.Errorf("slot %d at %v is found as %d at %v", slot, where[slot], got, at)
			}
		}
	}
	for at, g := range s.index {
		if g.over != over[at] {
			return fmt.Errorf("%d slots passed group %d, %d counted", over[at], at, g.over)
		}
	}
	if len(where) != s.used {
		return fmt.Errorf("%d sessions in the index, %d used", len(where), s.used)
	}

	// The free list: all the others, forgotten.
	free := 0
	var none V
	for i := s.free; i != 0; i = s.array[i].ring.next {
		if _, ok := where[i]; ok {
			return fmt.Errorf("slot %d is free and in the index", i)
		}
		l := s.array[i]
		if l != (slot{gen: l.gen, ring: ring{next: l.ring.next}}) || any(t.values[i]) != any(none) {
			return fmt.Errorf("free slot %d retains something", i)
		}
		if free++; free > n {
			return fmt.Errorf("the free list is a circle")
		}
	}
	if free+s.used != n {
		return fmt.Errorf("%d free and %d used of %d slots", free, s.used, n)
	}

	// The lists: everything once, by rising use.
	walk := func(oldest uint32, each func(i uint32) error) error {
		if oldest == 0 {
			return nil
		}
		last := uint64(0)
		i := oldest
		for range n {
			l := s.array[i]
			if l.used <= last || l.used > s.uses {
				return fmt.Errorf("slot %d was used at %d, the one before it at %d, of %d", i, l.used, last, s.uses)
			}
			if s.array[l.ring.next].ring.prev != i {
				return fmt.Errorf("a list is broken behind slot %d", i)
			}
			if err := each(i); err != nil {
				return err
			}
			last = l.used
			if i = l.ring.next; i == oldest {
				return nil
			}
		}
		return fmt.Errorf("a list does not come back to slot %d", oldest)
	}
	sessions := map[uint32]uint32{} // by sock
	halfOpen := 0
	if err := walk(s.halfOpen, func(i uint32) error {
		halfOpen++
		sessions[s.array[i].sock]++
		if s.state(i) != StateHandshake {
			return fmt.Errorf("slot %d is among the half-open ones, %v", i, s.state(i))
		}
		return nil
	}); err != nil {
		return err
	}
	if halfOpen != s.used-s.established {
		return fmt.Errorf("%d half-open sessions, %d counted", halfOpen, s.used-s.established)
	}

	// The socks: every one of a session is found and has it in its list.
	established, inHeads := 0, 0
	if s.socks[0] != (sockList{}) {
		return fmt.Errorf("no sock has sessions: %+v", s.socks[0])
	}
	for head := range s.sockHeads {
		for at := s.sockHeads[head]; at != 0; at = s.socks[at].next {
			inHeads++
			list := s.socks[at]
			if s.findSock(Sock{list.id}) != at {
				return fmt.Errorf("sock %d is not found", at)
			}
			if err := walk(list.oldest, func(i uint32) error {
				established++
				sessions[at]++
				if s.array[i].sock != at || s.state(i) != StateEstablished {
					return fmt.Errorf("slot %d is in the list of sock %d, and %v of sock %d", i, at, s.state(i), s.array[i].sock)
				}
				return nil
			}); err != nil {
				return err
			}
			if list.sessions != sessions[at] || list.sessions == 0 {
				return fmt.Errorf("sock %d counts %d sessions, has %d", at, list.sessions, sessions[at])
			}
		}
	}
	if established != s.established || inHeads != len(sessions) {
		return fmt.Errorf("%d of %d established sessions in lists, %d of %d socks", established, s.established, inHeads, len(sessions))
	}
	freeSocks := 0
	for at := s.freeSock; at != 0; at = s.socks[at].next {
		if freeSocks++; freeSocks > len(s.socks) {
			return fmt.Errorf("the list of free socks is a circle")
		}
	}
	if freeSocks+inHeads != len(s.socks)-1 {
		return fmt.Errorf("%d free and %d used of %d socks", freeSocks, inHeads, len(s.socks)-1)
	}
	return nil
}

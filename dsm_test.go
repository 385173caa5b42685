// SPDX-License-Identifier: MIT

package dsm

import (
	"bufio"
	"encoding/json"
	"fmt"
	"go/parser"
	"go/token"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	peerA = netip.MustParseAddrPort("192.0.2.1:5684")
	peerB = netip.MustParseAddrPort("[2001:db8::1]:5684")
	peerC = netip.MustParseAddrPort("192.0.2.1:5685")
)

func newTable(t testing.TB, slots int) *Table[string] {
	t.Helper()
	table, err := New[string](slots)
	require.NoError(t, err)
	return table
}

func TestNewRefusesImpossibleSizes(t *testing.T) {
	for _, slots := range []int{-1, 0, maxSlots + 1} {
		table, err := New[int](slots)
		assert.Nil(t, table)
		assert.ErrorContains(t, err, "dsm: ")
		assert.ErrorContains(t, err, strconv.Itoa(slots))
	}
}

func TestStateString(t *testing.T) {
	for state, want := range map[State]string{
		NoSpace: "NO_SPACE", StateNone: "NONE", StateHandshake: "HANDSHAKE", StateEstablished: "ESTABLISHED", 7: "State(7)",
	} {
		assert.Equal(t, want, state.String())
	}
}

// TestStore goes through the table of specification: every state that is found,
// with every new one, with and without restore.
func TestStore(t *testing.T) {
	const found, given = "found", "given"
	for _, c := range []struct {
		held, newState, want, after State
		full                        bool
		used                        bool
	}{
		{held: StateNone, newState: StateHandshake, want: StateNone, after: StateHandshake, used: true},
		{held: StateNone, newState: StateEstablished, want: StateNone, after: StateEstablished, used: true},
		{held: StateNone, newState: StateNone, want: StateNone, after: StateNone},
		{held: StateNone, newState: StateHandshake, want: NoSpace, after: StateNone, full: true},
		{held: StateNone, newState: StateEstablished, want: NoSpace, after: StateNone, full: true},
		{held: StateNone, newState: StateNone, want: StateNone, after: StateNone, full: true},
		{held: StateHandshake, newState: StateHandshake, want: StateHandshake, after: StateHandshake, used: true},
		{held: StateHandshake, newState: StateEstablished, want: StateHandshake, after: StateEstablished, used: true},
		{held: StateHandshake, newState: StateNone, want: StateHandshake, after: StateNone},
		{held: StateEstablished, newState: StateHandshake, want: StateEstablished, after: StateEstablished, used: true},
		{held: StateEstablished, newState: StateEstablished, want: StateEstablished, after: StateEstablished, used: true},
		{held: StateEstablished, newState: StateNone, want: StateEstablished, after: StateEstablished},
	} {
		for _, restore := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v+%v,full=%v,restore=%v", c.held, c.newState, c.full, restore), func(t *testing.T) {
				table := newTable(t, 2)
				var sock Sock
				if c.held != StateNone {
					table.Store(sock, &Session[string]{peerA, found}, c.held, false)
				}
				table.Store(sock, &Session[string]{peerB, "other"}, StateHandshake, false)
				if c.full {
					table.Store(sock, &Session[string]{peerC, "third"}, StateHandshake, false)
				}
				before := table.Stats()

				session := Session[string]{peerA, given}
				assert.Equal(t, c.want, table.Store(sock, &session, c.newState, restore))

				wantValue := given
				if restore && c.held != StateNone {
					wantValue = found
				}
				assert.Equal(t, Session[string]{peerA, wantValue}, session)

				held, state := table.Get(sock, peerA)
				assert.Equal(t, c.after, state)
				if c.after != StateNone {
					stored := given
					if c.held != StateNone {
						stored = found
					}
					assert.Equal(t, Session[string]{peerA, stored}, held)
				}
				wantUses := before.Uses
				if c.used {
					wantUses++
				}
				assert.Equal(t, wantUses, table.Stats().Uses)
				require.NoError(t, table.check())
			})
		}
	}
}

func TestStorePanicsOnOtherStates(t *testing.T) {
	table := newTable(t, 1)
	for _, state := range []State{NoSpace, 3, -2} {
		assert.PanicsWithValue(t, "dsm: newState "+state.String()+": want StateNone, StateHandshake or StateEstablished",
			func() { table.Store(Sock{}, &Session[string]{Peer: peerA}, state, false) })
	}
	assert.Equal(t, 1, table.AvailableSlots())
	require.NoError(t, table.check(), "a panic must not leave the table locked")
}

func TestSpellingsOfAPeer(t *testing.T) {
	table := newTable(t, 4)
	var sock Sock
	mapped := netip.MustParseAddrPort("[::ffff:192.0.2.1]:5684")
	table.Store(sock, &Session[string]{mapped, "a"}, StateEstablished, false)

	session := Session[string]{Peer: peerA}
	assert.Equal(t, StateEstablished, table.Store(sock, &session, StateHandshake, true))
	assert.Equal(t, Session[string]{peerA, "a"}, session, "given back unmapped")

	zone0, zone1 := netip.MustParseAddrPort("[fe80::1%eth0]:5684"), netip.MustParseAddrPort("[fe80::1%eth1]:5684")
	assert.Equal(t, StateNone, table.Store(sock, &Session[string]{zone0, "0"}, StateEstablished, false))
	assert.Equal(t, StateNone, table.Store(sock, &Session[string]{zone1, "1"}, StateEstablished, false))
	got, _ := table.Get(sock, zone1)
	assert.Equal(t, Session[string]{zone1, "1"}, got)

	other := NewSock()
	_, state := table.Get(other, peerA)
	assert.Equal(t, StateNone, state, "another sock's peer is another session")

	table.Remove(sock, &Session[string]{Peer: mapped})
	_, state = table.Get(sock, peerA)
	assert.Equal(t, StateNone, state)
}

type addr string

func (addr) Network() string  { return "test" }
func (a addr) String() string { return string(a) }

func TestPeerOf(t *testing.T) {
	for _, c := range []struct {
		addr net.Addr
		want string // empty: not ok
	}{
		{&net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 5684}, "192.0.2.1:5684"}, // 16 bytes long
		{&net.UDPAddr{IP: net.IPv4(192, 0, 2, 1).To4(), Port: 5684}, "192.0.2.1:5684"},
		{&net.UDPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth0", Port: 1}, "[fe80::1%eth0]:1"},
		{net.UDPAddrFromAddrPort(netip.MustParseAddrPort("[::ffff:192.0.2.1]:5684")), "192.0.2.1:5684"},
		{&net.TCPAddr{IP: net.ParseIP("2001:db8::1"), Port: 80}, "[2001:db8::1]:80"},
		{addr("192.0.2.7:1"), "192.0.2.7:1"},
		{addr("pipe"), ""},
		{&net.UnixAddr{Name: "/x"}, ""},
		{&net.UDPAddr{Port: 5684}, ""},
		{(*net.UDPAddr)(nil), ""},
		{nil, ""},
	} {
		peer, ok := PeerOf(c.addr)
		assert.Equal(t, c.want != "", ok, "%v", c.addr)
		if ok {
			assert.Equal(t, netip.MustParseAddrPort(c.want), peer)
		}
	}
}

func TestLRUAndEvictPerSock(t *testing.T) {
	table := newTable(t, 8)
	one, two := NewSock(), Sock{}
	_, ok := table.LRU(one)
	assert.False(t, ok)
	_, ok = table.Evict(one)
	assert.False(t, ok)

	table.Store(one, &Session[string]{peerC, "half-open"}, StateHandshake, false)
	_, ok = table.LRU(one)
	assert.False(t, ok, "a session in HANDSHAKE is never given")

	table.Store(one, &Session[string]{peerA, "1A"}, StateEstablished, false)
	table.Store(two, &Session[string]{peerA, "2A"}, StateEstablished, false)
	table.Store(one, &Session[string]{peerB, "1B"}, StateEstablished, false)
	table.Store(one, &Session[string]{Peer: peerA}, StateHandshake, false) // used

	for range 2 { // looking changes nothing
		oldest, ok := table.LRU(one)
		assert.True(t, ok)
		assert.Equal(t, Session[string]{peerB, "1B"}, oldest)
	}
	for _, want := range []string{"1B", "1A"} {
		evicted, ok := table.Evict(one)
		assert.True(t, ok)
		assert.Equal(t, want, evicted.Value)
	}
	_, ok = table.Evict(one)
	assert.False(t, ok)
	oldest, ok := table.LRU(two)
	assert.True(t, ok)
	assert.Equal(t, "2A", oldest.Value)
	assert.Equal(t, Stats{Established: 1, Handshakes: 1, Uses: 5, Stored: 4, Evicted: 2}, table.Stats())
}

func TestAdmit(t *testing.T) {
	table := newTable(t, 2)
	sock, other := NewSock(), NewSock()
	admit := func(sock Sock, peer netip.AddrPort, value string) (Handle[string], State, Session[string]) {
		return table.Admit(sock, &Session[string]{peer, value}, StateEstablished, false)
	}
	a, previous, evicted := admit(sock, peerA, "A")
	assert.Equal(t, StateNone, previous)
	assert.Zero(t, evicted)
	admit(sock, peerB, "B")
	again, previous, evicted := admit(sock, peerA, "A once more") // used
	assert.Equal(t, a, again)
	assert.Equal(t, StateEstablished, previous)
	assert.Zero(t, evicted)

	c, previous, evicted := admit(sock, peerC, "C")
	assert.Equal(t, NoSpace, previous)
	assert.Equal(t, Session[string]{peerB, "B"}, evicted)
	assert.True(t, c.Use())

	none, previous, evicted := admit(other, peerB, "B") // it has none of its own to evict
	assert.Equal(t, NoSpace, previous)
	assert.Zero(t, none)
	assert.Zero(t, evicted)
	assert.Zero(t, table.AvailableSlots())
	assert.Equal(t, Stats{Established: 2, Uses: 5, Stored: 3, NoSpace: 2, Evicted: 1}, table.Stats())

	// Half-open sessions are not evicted.
	half := newTable(t, 1)
	half.Store(sock, &Session[string]{peerA, "half-open"}, StateHandshake, false)
	_, previous, evicted = half.Admit(sock, &Session[string]{Peer: peerB}, StateHandshake, false)
	assert.Equal(t, NoSpace, previous)
	assert.Zero(t, evicted)
	require.NoError(t, table.check())
}

func TestHandleOutlivedByItsPeer(t *testing.T) {
	table := newTable(t, 1)
	var sock Sock
	session := Session[string]{peerA, "first"}
	first, previous := table.Hold(sock, &session, StateHandshake, false)
	assert.Equal(t, StateNone, previous)
	assert.True(t, first.Use())

	again, previous := table.Hold(sock, &session, StateEstablished, false)
	assert.Equal(t, StateHandshake, previous)
	assert.Equal(t, first, again, "the same session, the same handle")

	none, previous := table.Hold(sock, &Session[string]{Peer: peerB}, StateEstablished, false)
	assert.Equal(t, NoSpace, previous)
	assert.Equal(t, Handle[string]{}, none)

	table.Remove(sock, &session)
	assert.False(t, first.Use())
	assert.False(t, first.Free())

	second, _ := table.Hold(sock, &Session[string]{peerA, "second"}, StateEstablished, false)
	before := table.Stats()
	assert.False(t, first.Use(), "the slot is taken by the peer's next session")
	assert.False(t, first.Free())
	assert.Equal(t, before, table.Stats())
	held, _ := table.Get(sock, peerA)
	assert.Equal(t, "second", held.Value)

	assert.True(t, second.Free())
	assert.False(t, second.Free(), "once")
	assert.Equal(t, 0, second.Slot())
	assert.Equal(t, -1, Handle[string]{}.Slot())
	assert.False(t, Handle[string]{}.Use())
	assert.False(t, Handle[string]{}.Free())
	assert.Equal(t, 1, table.AvailableSlots())
	require.NoError(t, table.check())

	// Given up with StateNone while half-open: no session, no handle.
	table.Store(sock, &session, StateHandshake, false)
	gone, previous := table.Hold(sock, &session, StateNone, false)
	assert.Equal(t, StateHandshake, previous)
	assert.Equal(t, Handle[string]{}, gone)
}

// TestFreedSlotRetainsNothing lets the garbage collector say so.
func TestFreedSlotRetainsNothing(t *testing.T) {
	table, err := New[*[64]byte](4)
	require.NoError(t, err)
	var collected atomic.Int32
	store := func(peer netip.AddrPort, state State) {
		value := new([64]byte)
		runtime.AddCleanup(value, func(int) { collected.Add(1) }, 0)
		table.Store(Sock{}, &Session[*[64]byte]{peer, value}, state, false)
	}
	store(peerA, StateEstablished)
	store(peerB, StateEstablished)
	store(peerC, StateHandshake)
	table.Remove(Sock{}, &Session[*[64]byte]{Peer: peerA})
	table.Evict(Sock{})
	table.Store(Sock{}, &Session[*[64]byte]{Peer: peerC}, StateNone, false)
	require.Equal(t, 4, table.AvailableSlots())
	for i := range 5 { // the fifth needs room
		value := new([64]byte)
		runtime.AddCleanup(value, func(int) { collected.Add(1) }, 0)
		handle, _, _ := table.Admit(Sock{}, &Session[*[64]byte]{peerNo(i), value}, StateEstablished, false)
		if i == 4 {
			handle.Free()
		}
	}
	for range 1000 {
		if collected.Load() == 5 {
			break
		}
		runtime.GC()
		runtime.Gosched()
	}
	assert.EqualValues(t, 5, collected.Load())
	runtime.KeepAlive(table)
}

func peerNo(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 5684)
}

func TestAllOrderAndEarlyEnd(t *testing.T) {
	const n = 5*allBatch + 3
	table := newTable(t, n)
	socks := []Sock{{}, NewSock(), NewSock()}
	for i := range n {
		table.Store(socks[i%3], &Session[string]{peerNo(i), strconv.Itoa(i)}, State(1+i%2), false)
	}
	for i := range n / 2 { // the older half becomes the newer
		table.Store(socks[i%3], &Session[string]{Peer: peerNo(i)}, StateHandshake, false)
	}
	next := n / 2
	count := 0
	for session, state := range table.All() {
		assert.Equal(t, strconv.Itoa(next), session.Value)
		assert.Equal(t, peerNo(next), session.Peer)
		assert.Equal(t, State(1+next%2), state)
		next = (next + 1) % n
		count++
	}
	assert.Equal(t, n, count)

	for range table.All() {
		count++
		break
	}
	assert.Equal(t, n+1, count)
	for range newTable(t, 1).All() {
		t.Fatal("an empty table")
	}
}

// TestAllWhileTheBodyChangesTheTable: what stays untouched is given, once.
func TestAllWhileTheBodyChangesTheTable(t *testing.T) {
	const n = 6 * allBatch
	for name, body := range map[string]func(table *Table[string], i int){
		"removes each": func(table *Table[string], i int) {
			table.Remove(Sock{}, &Session[string]{Peer: peerNo(i)})
		},
		"uses each": func(table *Table[string], i int) {
			table.Store(Sock{}, &Session[string]{Peer: peerNo(i)}, StateEstablished, false)
		},
		"removes the latter half": func(table *Table[string], i int) {
			if i >= n/2 {
				table.Remove(Sock{}, &Session[string]{Peer: peerNo(i)})
			}
		},
		"removes all before": func(table *Table[string], i int) {
			for j := range i {
				table.Remove(Sock{}, &Session[string]{Peer: peerNo(j)})
			}
		},
		"replaces each": func(table *Table[string], i int) {
			table.Remove(Sock{}, &Session[string]{Peer: peerNo(i)})
			table.Store(Sock{}, &Session[string]{peerNo(i), "new"}, StateHandshake, false)
		},
		"loops over all": func(table *Table[string], i int) {
			for range table.All() {
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			table := newTable(t, n)
			for i := range n {
				table.Store(Sock{}, &Session[string]{peerNo(i), strconv.Itoa(i)}, StateEstablished, false)
			}
			next := 0
			for session := range table.All() {
				require.Equal(t, strconv.Itoa(next), session.Value)
				body(table, next)
				next++
			}
			assert.Equal(t, n, next)
			require.NoError(t, table.check())
		})
	}
}

// TestRIOTTraces replays what RIOT's C module answered.
func TestRIOTTraces(t *testing.T) {
	files, err := filepath.Glob("testdata/riot-traces/*.jsonl")
	require.NoError(t, err)
	require.Len(t, files, 4)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			f, err := os.Open(file)
			require.NoError(t, err)
			defer f.Close()

			var table *Table[int]
			socks := []Sock{{}}
			for range 7 {
				socks = append(socks, NewSock())
			}
			states := map[string]State{}
			for s := NoSpace; s <= StateEstablished; s++ {
				states[s.String()] = s
			}
			lines := bufio.NewScanner(f)
			line := 0
			for lines.Scan() {
				line++
				var op struct {
					Op, Peer, State, Prev string
					Sock, Capacity        int
					Ret, Available        *int
					Restore               bool
				}
				require.NoError(t, json.Unmarshal(lines.Bytes(), &op))
				session := Session[int]{Value: line}
				if op.Peer != "" && op.Op != "lru" {
					session.Peer = netip.MustParseAddrPort(op.Peer)
				}
				switch op.Op {
				case "init":
					table, err = New[int](op.Capacity)
					require.NoError(t, err)
					require.Equal(t, op.Capacity, table.MaxSlots())
					continue
				case "store":
					require.Contains(t, states, op.State)
					require.Equal(t, op.Prev, table.Store(socks[op.Sock], &session, states[op.State], op.Restore).String(), "line %d", line)
				case "remove":
					table.Remove(socks[op.Sock], &session)
				case "lru":
					oldest, ok := table.LRU(socks[op.Sock])
					require.Equal(t, *op.Ret == 1, ok, "line %d", line)
					if ok {
						require.Equal(t, netip.MustParseAddrPort(op.Peer), oldest.Peer, "line %d", line)
					}
				default:
					t.Fatalf("line %d: operation %q", line, op.Op)
				}
				require.Equal(t, *op.Available, table.AvailableSlots(), "line %d", line)
				require.NoError(t, table.check(), "line %d", line)
			}
			require.NoError(t, lines.Err())
			require.Greater(t, line, 600)
		})
	}
}

func TestNoAllocationAfterNew(t *testing.T) {
	table, err := New[*int](32)
	require.NoError(t, err)
	sock, other := NewSock(), NewSock()
	value := new(int)
	session := Session[*int]{peerA, value}
	zoned := Session[*int]{netip.MustParseAddrPort("[fe80::1%eth0]:5684"), value}
	var handle Handle[*int]
	for name, call := range map[string]func(){
		"Store and Remove": func() {
			table.Store(sock, &session, StateHandshake, false)
			table.Store(sock, &session, StateEstablished, true)
			table.Remove(sock, &session)
		},
		"Admit": func() {
			for i := range 40 {
				session := Session[*int]{peerNo(100 + i), value}
				table.Admit(sock, &session, StateEstablished, true)
			}
		},
		"Store with a zone, Evict": func() {
			table.Store(sock, &zoned, StateEstablished, false)
			table.Evict(sock)
		},
		"Store with StateNone": func() {
			table.Store(other, &session, StateHandshake, false)
			table.Store(other, &session, StateNone, true)
		},
		"Hold, Use, Free": func() {
			handle, _ = table.Hold(sock, &session, StateEstablished, false)
			handle.Use()
			handle.Free()
			handle.Use()
		},
		"Get, LRU, counts": func() {
			table.Get(sock, peerA)
			table.LRU(sock)
			table.AvailableSlots()
			table.MaxSlots()
			table.Stats()
		},
		"All": func() {
			for session, state := range table.All() {
				_, _ = session, state
			}
		},
	} {
		for i := range 20 { // for All to give, over more than one batch
			table.Store(Sock{}, &Session[*int]{peerNo(i), value}, StateEstablished, false)
		}
		assert.Zero(t, testing.AllocsPerRun(100, call), name)
	}

	// As many socks as New made room for come and go.
	many := make([]Sock, minSocks)
	for i := range many {
		many[i] = NewSock()
	}
	wide, err := New[*int](2 * minSocks)
	require.NoError(t, err)
	assert.Zero(t, testing.AllocsPerRun(10, func() {
		for _, sock := range many {
			wide.Store(sock, &session, StateEstablished, false)
		}
		for _, sock := range many {
			wide.Evict(sock)
		}
	}), "a sock for each session")
}

// TestMoreSocksThanForeseen: every slot can belong to a sock of its own.
func TestMoreSocksThanForeseen(t *testing.T) {
	const n = 20 * minSocks
	table := newTable(t, n)
	socks := make([]Sock, n)
	for round := range 2 {
		for i := range socks {
			socks[i] = NewSock()
			require.Equal(t, StateNone, table.Store(socks[i], &Session[string]{peerA, strconv.Itoa(i)}, StateEstablished, false))
		}
		require.NoError(t, table.check())
		for i, sock := range socks {
			evicted, ok := table.Evict(sock)
			require.True(t, ok, "round %d", round)
			require.Equal(t, strconv.Itoa(i), evicted.Value)
		}
		require.Equal(t, n, table.AvailableSlots())
		require.NoError(t, table.check())
	}
}

// TestStress: named roles on a few sessions, so that they meet.
func TestStress(t *testing.T) {
	const slots, peers, rounds = 16, 24, 4000
	table, err := New[*atomic.Int32](slots)
	require.NoError(t, err)
	socks := []Sock{{}, NewSock()}
	// Each value counts how often the table gave it out for good.
	var mu sync.Mutex
	var values []*atomic.Int32
	store := func(i int, state State) (Handle[*atomic.Int32], State) {
		value := new(atomic.Int32)
		h, previous := table.Hold(socks[i%2], &Session[*atomic.Int32]{peerNo(i % peers), value}, state, false)
		if previous == StateNone && state != StateNone {
			mu.Lock()
			values = append(values, value)
			mu.Unlock()
		}
		return h, previous
	}
	handles := make(chan Handle[*atomic.Int32], 64)
	keep := func(h Handle[*atomic.Int32]) {
		select {
		case handles <- h:
		default:
		}
	}
	roles := map[string]func(i int){
		"storer": func(i int) {
			h, _ := store(i*7, State(1+i%2))
			keep(h)
		},
		"toucher": func(i int) {
			select {
			case h := <-handles:
				h.Use()
				keep(h)
			default:
			}
		},
		"freer": func(i int) {
			select {
			case h := <-handles:
				h.Free()
			default:
			}
		},
		"admitter": func(i int) {
			value := new(atomic.Int32)
			h, previous, evicted := table.Admit(socks[i%2], &Session[*atomic.Int32]{peerNo(i * 11 % peers), value}, StateEstablished, false)
			if previous == StateNone || previous == NoSpace && h != (Handle[*atomic.Int32]{}) {
				mu.Lock()
				values = append(values, value)
				mu.Unlock()
			}
			if evicted.Value != nil {
				evicted.Value.Add(1)
			}
			keep(h)
		},
		"evicter": func(i int) {
			if evicted, ok := table.Evict(socks[i%2]); ok {
				evicted.Value.Add(1)
			}
		},
		"remover": func(i int) {
			table.Remove(socks[i%2], &Session[*atomic.Int32]{Peer: peerNo(i * 5 % peers)})
		},
		"giver-up": func(i int) {
			table.Store(socks[i%2], &Session[*atomic.Int32]{Peer: peerNo(i * 3 % peers)}, StateNone, true)
		},
		"reader": func(i int) {
			seen := map[Session[*atomic.Int32]]bool{}
			for session, state := range table.All() {
				assert.False(t, seen[session], "given twice")
				seen[session] = true
				assert.Contains(t, []State{StateHandshake, StateEstablished}, state)
			}
		},
		"watcher": func(i int) {
			free := table.AvailableSlots()
			assert.True(t, 0 <= free && free <= slots, "%d free slots", free)
			s := table.Stats()
			assert.Equal(t, s.Stored, s.Removed+s.Evicted+uint64(s.Established+s.Handshakes))
			if oldest, ok := table.LRU(socks[i%2]); ok {
				assert.NotNil(t, oldest.Value)
			}
			_, state := table.Get(socks[i%2], peerNo(i%peers))
			assert.Contains(t, []State{StateNone, StateHandshake, StateEstablished}, state)
		},
	}
	var wg sync.WaitGroup
	for _, role := range roles {
		for range 2 {
			wg.Go(func() {
				for i := range rounds {
					role(i)
				}
			})
		}
	}
	wg.Wait()
	require.NoError(t, table.check())
	for _, sock := range socks {
		for {
			evicted, ok := table.Evict(sock)
			if !ok {
				break
			}
			evicted.Value.Add(1)
		}
	}
	s := table.Stats()
	assert.EqualValues(t, len(values), s.Stored)
	var given uint64
	for _, value := range values {
		assert.LessOrEqual(t, value.Load(), int32(1), "evicted twice")
		given += uint64(value.Load())
	}
	assert.Equal(t, s.Evicted, given)
}

// TestRootImportsTheStandardLibraryOnly keeps the table free of pion and of
// everything else.
func TestRootImportsTheStandardLibraryOnly(t *testing.T) {
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		require.NoError(t, err)
		for _, spec := range parsed.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			require.NoError(t, err)
			first, _, _ := strings.Cut(path, "/")
			assert.NotContains(t, first, ".", "%s imports %s", file, path)
		}
	}
}

// The sessions of many socks, established and half-open, are given in one order,
// also while they are used and removed between the batches.
func TestAllMergesManySocks(t *testing.T) {
	const socks, each = 3 * allLists, 20
	table, err := New[int](socks * each)
	require.NoError(t, err)
	many := make([]Sock, socks)
	for i := range many {
		many[i] = NewSock()
	}
	session := func(n int) *Session[int] { return &Session[int]{Peer: peerNo(n), Value: n} }
	store := func(n int, state State) { table.Store(many[n%socks], session(n), state, false) }
	r := rand.New(rand.NewPCG(1, 1))
	for n := range socks * each {
		store(n, StateHandshake+State(n%3%2))
	}
	var order []int
	for _, n := range r.Perm(socks * each) {
		store(n, StateHandshake)
		order = append(order, n)
	}
	given := func() (values []int) {
		for s, state := range table.All() {
			require.Equal(t, StateHandshake+State(s.Value%3%2), state)
			values = append(values, s.Value)
		}
		return values
	}
	require.Equal(t, order, given())

	// Meanwhile some are used and some removed, given before or not.
	touched := map[int]bool{}
	seen := map[int]bool{}
	for s := range table.All() {
		require.False(t, seen[s.Value], "%d was given twice", s.Value)
		seen[s.Value] = true
		if len(seen)%10 == 0 {
			used, removed := r.IntN(len(order)), r.IntN(len(order))
			store(order[used], StateHandshake)
			table.Remove(many[order[removed]%socks], session(order[removed]))
			touched[order[used]], touched[order[removed]] = true, true
			require.NoError(t, table.check())
		}
	}
	for _, n := range order {
		require.True(t, seen[n] || touched[n], "%d was not given", n)
	}
}

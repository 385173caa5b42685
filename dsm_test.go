// SPDX-License-Identifier: MIT

package dsm

import (
	"fmt"
	"go/parser"
	"go/token"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
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

// peerNo returns a different peer for each i below 2^24.
func peerNo(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 5684)
}

func TestNewRefusesImpossibleSizes(t *testing.T) {
	for _, slots := range []int{-1, 0, maxSlots + 1} {
		table, err := New[int](slots)
		assert.Nil(t, table)
		assert.ErrorContains(t, err, "dsm: ")
		assert.ErrorContains(t, err, strconv.Itoa(slots))
	}
}

// TestStoreForEachStateFoundAndNewState checks every combination of the state in
// which Store finds the session and newState, with and without restore, in a table
// with a free slot and in a full one.
func TestStoreForEachStateFoundAndNewState(t *testing.T) {
	const storedBefore, passed = "stored before", "passed"
	for _, c := range []struct {
		before, newState, want, after State
		full                          bool
		used                          bool // Store counts as use
	}{
		{before: StateNone, newState: StateHandshake, want: StateNone, after: StateHandshake, used: true},
		{before: StateNone, newState: StateEstablished, want: StateNone, after: StateEstablished, used: true},
		{before: StateNone, newState: StateNone, want: StateNone, after: StateNone},
		{before: StateNone, newState: StateHandshake, want: NoSpace, after: StateNone, full: true},
		{before: StateNone, newState: StateEstablished, want: NoSpace, after: StateNone, full: true},
		{before: StateNone, newState: StateNone, want: StateNone, after: StateNone, full: true},
		{before: StateHandshake, newState: StateHandshake, want: StateHandshake, after: StateHandshake, used: true},
		{before: StateHandshake, newState: StateEstablished, want: StateHandshake, after: StateEstablished, used: true},
		{before: StateHandshake, newState: StateNone, want: StateHandshake, after: StateNone},
		{before: StateEstablished, newState: StateHandshake, want: StateEstablished, after: StateEstablished, used: true},
		{before: StateEstablished, newState: StateEstablished, want: StateEstablished, after: StateEstablished, used: true},
		{before: StateEstablished, newState: StateNone, want: StateEstablished, after: StateEstablished},
	} {
		for _, restore := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v+%v,full=%v,restore=%v", c.before, c.newState, c.full, restore), func(t *testing.T) {
				table := newTable(t, 2)
				var sock Sock
				if c.before != StateNone {
					table.Store(sock, &Session[string]{peerA, storedBefore}, c.before, false)
				}
				table.Store(sock, &Session[string]{peerB, "other"}, StateHandshake, false)
				if c.full {
					table.Store(sock, &Session[string]{peerC, "third"}, StateHandshake, false)
				}
				usesBefore := table.Stats().Uses

				session := Session[string]{peerA, passed}
				assert.Equal(t, c.want, table.Store(sock, &session, c.newState, restore))

				wantValue := passed
				if restore && c.before != StateNone {
					wantValue = storedBefore
				}
				assert.Equal(t, Session[string]{peerA, wantValue}, session)

				stored, state := table.Get(sock, peerA)
				assert.Equal(t, c.after, state)
				if c.after != StateNone {
					wantStored := passed
					if c.before != StateNone {
						wantStored = storedBefore
					}
					assert.Equal(t, Session[string]{peerA, wantStored}, stored)
				}
				wantUses := usesBefore
				if c.used {
					wantUses++
				}
				assert.Equal(t, wantUses, table.Stats().Uses)
				require.NoError(t, table.check())
			})
		}
	}
}

func TestStorePanicsForInvalidNewState(t *testing.T) {
	table := newTable(t, 1)
	for _, state := range []State{NoSpace, 3, -2} {
		assert.PanicsWithValue(t, "dsm: newState "+state.String()+": want StateNone, StateHandshake or StateEstablished",
			func() { table.Store(Sock{}, &Session[string]{Peer: peerA}, state, false) })
	}
	assert.Equal(t, 1, table.AvailableSlots())
	require.NoError(t, table.check(), "the panic left the table locked")
}

func TestAdmitEvictsWhenTableIsFull(t *testing.T) {
	table := newTable(t, 2)
	sock, other := NewSock(), NewSock()
	admit := func(sock Sock, peer netip.AddrPort, value string) (Handle[string], State, Session[string]) {
		return table.Admit(sock, &Session[string]{peer, value}, StateEstablished, false)
	}
	a, previous, evicted := admit(sock, peerA, "A")
	assert.Equal(t, StateNone, previous)
	assert.Zero(t, evicted)
	admit(sock, peerB, "B")
	same, previous, evicted := admit(sock, peerA, "A again") // marks A as used
	assert.Equal(t, a, same)
	assert.Equal(t, StateEstablished, previous)
	assert.Zero(t, evicted)

	c, previous, evicted := admit(sock, peerC, "C")
	assert.Equal(t, NoSpace, previous)
	assert.Equal(t, Session[string]{peerB, "B"}, evicted)
	assert.True(t, c.Use())

	refused, previous, evicted := admit(other, peerB, "B") // other has no session to evict
	assert.Equal(t, NoSpace, previous)
	assert.Zero(t, refused)
	assert.Zero(t, evicted)
	assert.Zero(t, table.AvailableSlots())
	assert.Equal(t, Stats{Established: 2, Uses: 5, Stored: 3, NoSpace: 2, Evicted: 1}, table.Stats())

	// Admit does not evict half-open sessions.
	halfOpen := newTable(t, 1)
	halfOpen.Store(sock, &Session[string]{peerA, "half-open"}, StateHandshake, false)
	_, previous, evicted = halfOpen.Admit(sock, &Session[string]{Peer: peerB}, StateHandshake, false)
	assert.Equal(t, NoSpace, previous)
	assert.Zero(t, evicted)
	require.NoError(t, table.check())
}

func TestNoAllocationAfterNew(t *testing.T) {
	table, err := New[*int](32)
	require.NoError(t, err)
	sock, other := NewSock(), NewSock()
	value := new(int)
	session := Session[*int]{peerA, value}
	zoned := Session[*int]{netip.MustParseAddrPort("[fe80::1%eth0]:5684"), value}
	var handle Handle[*int]
	returning, err := New[*int](2)
	require.NoError(t, err)
	generation := uint32(0)
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
		"HoldAt, At, Get, Rebind": func() {
			if _, ok := returning.HoldAt(sock, &session, StateEstablished, 1, generation); !ok {
				panic("HoldAt failed")
			}
			h := returning.At(1, generation)
			if !h.Rebind(peerC) || !h.Rebind(peerB) || !h.Rebind(zoned.Peer) {
				panic("Rebind failed")
			}
			h.Get()
			h.Free()
			generation += 2
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
		for i := range 20 { // so that All yields more than one batch
			table.Store(Sock{}, &Session[*int]{peerNo(i), value}, StateEstablished, false)
		}
		assert.Zero(t, testing.AllocsPerRun(100, call), name)
	}

	// The sessions of as many socks as New reserves room for.
	socks := make([]Sock, minSocks)
	for i := range socks {
		socks[i] = NewSock()
	}
	manySocks, err := New[*int](2 * minSocks)
	require.NoError(t, err)
	assert.Zero(t, testing.AllocsPerRun(10, func() {
		for _, sock := range socks {
			manySocks.Store(sock, &session, StateEstablished, false)
		}
		for _, sock := range socks {
			manySocks.Evict(sock)
		}
	}), "one sock for each session")
}

// TestPackageImportsStandardLibraryOnly keeps the table independent of pion and of
// all other modules.
func TestPackageImportsStandardLibraryOnly(t *testing.T) {
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

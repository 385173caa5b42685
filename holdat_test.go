// SPDX-License-Identifier: MIT

package dsm

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestHoldAtTakesSlotWithGeneration(t *testing.T) {
	const n = 9
	table := newTable(t, n)
	// The slots are taken in any order, so from both ends and the middle of the free list.
	for used, slot := range rand.Perm(n) {
		generation := uint32(slot * 10)
		session := Session[string]{peerNo(slot), "returned"}
		state := State(1 + slot%2)
		h, ok := table.HoldAt(Sock{}, &session, state, slot, generation)
		require.True(t, ok)
		assert.Equal(t, slot, h.Slot())
		assert.Equal(t, generation, h.Generation())
		assert.Equal(t, table.At(slot, generation), h)
		stored, found := h.Get()
		assert.Equal(t, session, stored)
		assert.Equal(t, state, found)
		assert.Equal(t, n-used-1, table.AvailableSlots())
		assert.EqualValues(t, used+1, table.Stats().Uses)
		require.NoError(t, table.check())
	}
	assert.Equal(t, NoSpace, table.Store(Sock{}, &Session[string]{Peer: peerA}, StateHandshake, false))

	// The next session of a slot has the next generation.
	require.True(t, table.At(4, 40).Free())
	h, _ := table.Hold(Sock{}, &Session[string]{Peer: peerA}, StateEstablished, false)
	assert.Equal(t, table.At(4, 41), h)
}

func TestHoldAtRefusesAndChangesNothing(t *testing.T) {
	table := newTable(t, 4)
	other := NewSock()
	for i := range 3 { // slot 0 reaches generation 3
		h, _ := table.Hold(Sock{}, &Session[string]{peerA, "earlier"}, StateEstablished, false)
		require.Equal(t, table.At(0, uint32(i)), h)
		h.Free()
	}
	_, ok := table.HoldAt(Sock{}, &Session[string]{peerA, "stored"}, StateHandshake, 1, 7)
	require.True(t, ok)
	mapped := netip.AddrPortFrom(netip.AddrFrom16(peerA.Addr().As16()), peerA.Port())
	for _, c := range []struct {
		name       string
		peer       netip.AddrPort
		slot       int
		generation uint32
	}{
		{"the sock has the peer", peerA, 2, 0},
		{"the sock has the peer in another form", mapped, 2, 0},
		{"the session itself", peerA, 1, 7},
		{"the slot is taken", peerB, 1, 7},
		{"the slot is taken, a later generation", peerB, 1, 8},
		{"the slot is past the generation", peerB, 0, 2},
		{"the slot is far past the generation", peerB, 0, 0},
		{"below the first slot", peerB, -1, 0},
		{"above the last slot", peerB, 4, 0},
	} {
		before, generations := table.Stats(), [2]uint32{table.slots.array[1].gen, table.slots.array[2].gen}
		session := Session[string]{c.peer, "refused"}
		h, ok := table.HoldAt(Sock{}, &session, StateEstablished, c.slot, c.generation)
		assert.False(t, ok, c.name)
		assert.Equal(t, Handle[string]{}, h, c.name)
		assert.Equal(t, before, table.Stats(), c.name)
		assert.Equal(t, generations, [2]uint32{table.slots.array[1].gen, table.slots.array[2].gen}, c.name)
		assert.Equal(t, Session[string]{c.peer, "refused"}, session, c.name)
		stored, state := table.At(1, 7).Get()
		assert.Equal(t, "stored", stored.Value, c.name)
		assert.Equal(t, StateHandshake, state, c.name)
		require.NoError(t, table.check(), c.name)
	}
	_, ok = table.HoldAt(other, &Session[string]{peerA, "another sock"}, StateEstablished, 2, 0)
	assert.True(t, ok)
	_, ok = table.HoldAt(Sock{}, &Session[string]{peerB, "same generation"}, StateEstablished, 0, 3)
	assert.True(t, ok)
	require.NoError(t, table.check())
}

func TestHoldAtLeavesEarlierHandlesDead(t *testing.T) {
	table := newTable(t, 2)
	first, _ := table.Hold(Sock{}, &Session[string]{peerA, "first"}, StateEstablished, false)
	first.Free()
	skipped := []Handle[string]{first, table.At(0, 1), table.At(0, 4)}
	h, ok := table.HoldAt(Sock{}, &Session[string]{peerA, "returned"}, StateEstablished, 0, 5)
	require.True(t, ok)
	for range 3 {
		for _, dead := range skipped {
			_, state := dead.Get()
			assert.Equal(t, StateNone, state)
			assert.False(t, dead.Use())
			assert.False(t, dead.Rebind(peerB))
			assert.False(t, dead.Free())
		}
		require.True(t, h.Free())
		skipped = append(skipped, h)
		h, _ = table.Hold(Sock{}, &Session[string]{peerA, "next"}, StateEstablished, false)
		assert.Equal(t, skipped[len(skipped)-1].Generation()+1, h.Generation())
	}
	require.NoError(t, table.check())
}

func TestHoldAtPanicsForInvalidNewState(t *testing.T) {
	table := newTable(t, 1)
	for _, state := range []State{NoSpace, StateNone, 3} {
		assert.PanicsWithValue(t, "dsm: newState "+state.String()+": want StateHandshake or StateEstablished",
			func() { table.HoldAt(Sock{}, &Session[string]{Peer: peerA}, state, 0, 0) })
	}
	assert.Panics(t, func() { table.HoldAt(Sock{}, nil, StateEstablished, 0, 0) })
	assert.Equal(t, 1, table.AvailableSlots())
	require.NoError(t, table.check(), "the panic left the table locked")
}

// SPDX-License-Identifier: MIT

package dsm

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestHandleHasNoEffectAfterItsSession(t *testing.T) {
	table := newTable(t, 1)
	var sock Sock
	session := Session[string]{peerA, "first"}
	first, previous := table.Hold(sock, &session, StateHandshake, false)
	assert.Equal(t, StateNone, previous)
	assert.True(t, first.Use())

	same, previous := table.Hold(sock, &session, StateEstablished, false)
	assert.Equal(t, StateHandshake, previous)
	assert.Equal(t, first, same, "one session has one handle")

	refused, previous := table.Hold(sock, &Session[string]{Peer: peerB}, StateEstablished, false)
	assert.Equal(t, NoSpace, previous)
	assert.Equal(t, Handle[string]{}, refused)

	table.Remove(sock, &session)
	assert.False(t, first.Use())
	assert.False(t, first.Free())

	second, _ := table.Hold(sock, &Session[string]{peerA, "second"}, StateEstablished, false)
	statsBefore := table.Stats()
	assert.False(t, first.Use(), "the slot has the next session of the same peer")
	assert.False(t, first.Free())
	assert.Equal(t, statsBefore, table.Stats())
	stored, _ := table.Get(sock, peerA)
	assert.Equal(t, "second", stored.Value)

	assert.True(t, second.Free())
	assert.False(t, second.Free(), "the session was freed twice")
	assert.Equal(t, 0, second.Slot())
	assert.Equal(t, -1, Handle[string]{}.Slot())
	assert.False(t, Handle[string]{}.Use())
	assert.False(t, Handle[string]{}.Free())
	assert.Equal(t, 1, table.AvailableSlots())
	require.NoError(t, table.check())

	// Hold with StateNone removes a half-open session and returns the zero Handle.
	table.Store(sock, &session, StateHandshake, false)
	removed, previous := table.Hold(sock, &session, StateNone, false)
	assert.Equal(t, StateHandshake, previous)
	assert.Equal(t, Handle[string]{}, removed)
}

func TestAtReturnsHandleOfSlotAndGeneration(t *testing.T) {
	table := newTable(t, 2)
	first, _ := table.Hold(Sock{}, &Session[string]{peerA, "first"}, StateHandshake, false)
	assert.EqualValues(t, 0, first.Generation())
	assert.Equal(t, first, table.At(0, 0))
	stored, state := table.At(0, 0).Get()
	assert.Equal(t, Session[string]{peerA, "first"}, stored)
	assert.Equal(t, StateHandshake, state)
	assert.EqualValues(t, 1, table.Stats().Uses, "Get counted as use")

	next := table.At(0, 1) // of the session that will have the slot next
	hasNoEffect := func(h Handle[string]) {
		t.Helper()
		before := table.Stats()
		stored, state := h.Get()
		assert.Zero(t, stored)
		assert.Equal(t, StateNone, state)
		assert.False(t, h.Use())
		assert.False(t, h.Rebind(peerC))
		assert.False(t, h.Free())
		assert.Equal(t, before, table.Stats())
		require.NoError(t, table.check())
	}
	hasNoEffect(next)
	first.Free()
	hasNoEffect(first)
	hasNoEffect(next)           // The slot is free and has this generation.
	hasNoEffect(table.At(1, 0)) // The slot was never taken.

	second, _ := table.Hold(Sock{}, &Session[string]{peerA, "second"}, StateEstablished, false)
	assert.EqualValues(t, 1, second.Generation())
	assert.Equal(t, next, second)
	hasNoEffect(first)
	stored, state = next.Get()
	assert.Equal(t, "second", stored.Value)
	assert.Equal(t, StateEstablished, state)
	assert.True(t, next.Use())

	assert.NotEqual(t, Handle[string]{}, table.At(1, 0))
	for _, slot := range []int{-1, 2, maxSlots, math.MinInt, math.MaxInt} {
		assert.Equal(t, Handle[string]{}, table.At(slot, 0))
	}
	assert.Zero(t, Handle[string]{}.Generation())
	hasNoEffect(Handle[string]{})
}

// TestGenerationWrapsAround checks the documented end of the numbers of a slot.
func TestGenerationWrapsAround(t *testing.T) {
	table := newTable(t, 1)
	last, ok := table.HoldAt(Sock{}, &Session[string]{peerA, "last"}, StateEstablished, 0, math.MaxUint32)
	require.True(t, ok)
	assert.EqualValues(t, uint32(math.MaxUint32), last.Generation())
	table.Remove(Sock{}, &Session[string]{Peer: peerA})
	again, _ := table.Hold(Sock{}, &Session[string]{peerA, "first again"}, StateEstablished, false)
	assert.EqualValues(t, 0, again.Generation())
	assert.False(t, last.Free())
	stored, _ := again.Get()
	assert.Equal(t, "first again", stored.Value)
	require.NoError(t, table.check())
}

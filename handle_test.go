// SPDX-License-Identifier: MIT

package dsm

import (
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

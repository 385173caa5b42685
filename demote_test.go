// SPDX-License-Identifier: MIT

package dsm

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestDemoteKeepsSlotAndGeneration: the session is half-open, is not evicted, and can be
// established again under the same handle.
func TestDemoteKeepsSlotAndGeneration(t *testing.T) {
	t.Parallel()
	table, err := New[int](3)
	require.NoError(t, err)
	sock := NewSock()
	hold := func(port uint16, state State) Handle[int] {
		session := Session[int]{Peer: netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), port), Value: int(port)}
		handle, _ := table.Hold(sock, &session, state, true)
		return handle
	}
	first, second := hold(1, StateEstablished), hold(2, StateEstablished)
	hold(3, StateHandshake)
	require.True(t, first.Demote())
	require.NoError(t, table.check())
	session, state := table.Get(sock, netip.MustParseAddrPort("192.0.2.1:1"))
	assert.Equal(t, StateHandshake, state)
	assert.Equal(t, 1, session.Value)
	assert.Equal(t, Stats{Established: 1, Handshakes: 2, Stored: 3, Uses: 4}, table.Stats())
	lru, ok := table.LRU(sock)
	require.True(t, ok)
	assert.Equal(t, 2, lru.Value, "a half-open session is not evicted")

	require.True(t, first.Demote(), "it is half-open already")
	require.NoError(t, table.check())
	assert.Equal(t, first, hold(1, StateEstablished))
	require.NoError(t, table.check())

	require.True(t, second.Free())
	assert.False(t, second.Demote(), "the session has left the table")
	assert.False(t, Handle[int]{}.Demote())
	require.NoError(t, table.check())
}

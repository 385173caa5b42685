// SPDX-License-Identifier: MIT

package dsm

import (
	"fmt"
	"net/netip"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRebindChangesOnlyTheEndpoint(t *testing.T) {
	for _, state := range []State{StateHandshake, StateEstablished} {
		t.Run(state.String(), func(t *testing.T) {
			table := newTable(t, 4)
			sock, other := NewSock(), NewSock()
			moving, _ := table.Hold(sock, &Session[string]{peerA, "moving"}, state, false)
			table.Store(sock, &Session[string]{peerB, "in the way"}, state, false)
			table.Store(other, &Session[string]{peerC, "another sock"}, state, false)
			before := table.Stats()

			assert.False(t, moving.Rebind(peerB), "the endpoint has a session")
			assert.True(t, moving.Rebind(peerA), "the session's own endpoint")
			stored, _ := moving.Get()
			assert.Equal(t, Session[string]{peerA, "moving"}, stored)
			require.NoError(t, table.check())

			require.True(t, moving.Rebind(peerC), "the endpoint has a session of another sock only")
			require.NoError(t, table.check())
			assert.Equal(t, before, table.Stats())
			stored, found := moving.Get()
			assert.Equal(t, Session[string]{peerC, "moving"}, stored)
			assert.Equal(t, state, found)
			stored, found = table.Get(sock, peerC)
			assert.Equal(t, Session[string]{peerC, "moving"}, stored)
			assert.Equal(t, state, found)
			_, found = table.Get(sock, peerA)
			assert.Equal(t, StateNone, found)
			stored, _ = table.Get(other, peerC)
			assert.Equal(t, "another sock", stored.Value)
			assert.Equal(t, moving, table.At(moving.Slot(), moving.Generation()))
			for session := range table.All() {
				assert.Equal(t, "moving", session.Value, "the order of use changed")
				break
			}

			// The old endpoint is free for another session, and so is the new one later.
			newcomer, previous := table.Hold(sock, &Session[string]{peerA, "newcomer"}, state, false)
			assert.Equal(t, StateNone, previous)
			assert.False(t, moving.Rebind(peerA))
			assert.True(t, moving.Free())
			assert.True(t, newcomer.Rebind(peerC))
			assert.False(t, moving.Rebind(peerA), "the session has left the table")
			require.NoError(t, table.check())
		})
	}
	assert.False(t, Handle[string]{}.Rebind(peerA))
}

func TestRebindComparesEndpointsLikeStore(t *testing.T) {
	v4, mapped := netip.MustParseAddrPort("192.0.2.7:1"), netip.MustParseAddrPort("[::ffff:192.0.2.7]:1")
	eth0, eth1 := netip.MustParseAddrPort("[fe80::1%eth0]:1"), netip.MustParseAddrPort("[fe80::1%eth1]:1")
	table := newTable(t, 2)
	h, _ := table.Hold(Sock{}, &Session[string]{peerA, "moving"}, StateEstablished, false)
	peer := func() netip.AddrPort {
		require.NoError(t, table.check())
		session, _ := h.Get()
		return session.Peer
	}
	assert.True(t, h.Rebind(mapped))
	assert.Equal(t, v4, peer())
	assert.True(t, h.Rebind(v4), "its own endpoint in another form")
	assert.True(t, h.Rebind(eth0))
	assert.Equal(t, eth0, peer())
	other, _ := table.Hold(Sock{}, &Session[string]{eth1, "other zone"}, StateEstablished, false)
	assert.False(t, h.Rebind(eth1))
	assert.True(t, other.Rebind(v4))
	assert.False(t, h.Rebind(mapped))
	assert.True(t, h.Rebind(eth1))
	assert.Equal(t, eth1, peer())
	assert.True(t, h.Rebind(netip.AddrPort{}), "every value is an endpoint")
	assert.Equal(t, netip.AddrPort{}, peer())
}

// TestRebindLeavesNoOverflow moves the sessions of full tables, whose index has
// groups with an overflow, many times. check counts the overflow anew.
func TestRebindLeavesNoOverflow(t *testing.T) {
	for _, n := range []int{13, 48, 300} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			table := newTable(t, n)
			for i := range n {
				table.Store(Sock{}, &Session[string]{peerNo(i), strconv.Itoa(i)}, State(1+i%2), false)
			}
			for round := range 20 {
				for i := range n {
					require.True(t, table.At(i, 0).Rebind(peerNo((round+1)*n+i)))
				}
				require.NoError(t, table.check())
			}
			for i := range n {
				stored, _ := table.Get(Sock{}, peerNo(20*n+i))
				require.Equal(t, strconv.Itoa(i), stored.Value)
				require.True(t, table.At(i, 0).Free())
			}
			require.Equal(t, make([]group, len(table.slots.index)), table.slots.index, "an index without entries is zero")
		})
	}
}

// TestAllYieldsReboundSessionOnce moves sessions back and forth between two
// endpoints while All runs, and expects each session once, with either of them.
func TestAllYieldsReboundSessionOnce(t *testing.T) {
	const n = 6 * walkBatch
	table := newTable(t, n)
	for i := range n {
		table.Store(Sock{}, &Session[string]{peerNo(i), strconv.Itoa(i)}, State(1+i%2), false)
	}
	next := 0
	for session := range table.All() {
		require.Equal(t, strconv.Itoa(next), session.Value)
		require.Contains(t, []netip.AddrPort{peerNo(next), peerNo(n + next)}, session.Peer)
		for i := range n {
			require.True(t, table.At(i, 0).Rebind(peerNo((next+1)%2*n+i)))
		}
		next++
	}
	assert.Equal(t, n, next)
	require.NoError(t, table.check())
}

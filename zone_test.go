// SPDX-License-Identifier: MIT

package dsm

import (
	"net/netip"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// zonedPeer returns a link-local peer on the interface with the given number.
func zonedPeer(i int) netip.AddrPort {
	return netip.MustParseAddrPort("[fe80::1%eth" + strconv.Itoa(i) + "]:5684")
}

// TestEndpointsAreReturnedAsStored checks each form of an endpoint with each call that
// returns one.
func TestEndpointsAreReturnedAsStored(t *testing.T) {
	table := newTable(t, 1)
	for _, text := range []string{
		"192.0.2.1:5684", "0.0.0.0:0", "255.255.255.255:65535", "[::ffff:192.0.2.1]:5684", "[::ffff:192.0.2.1%eth0]:5684",
		"[2001:db8::1]:5684", "[::]:0", "[::1]:1", "[::fffe:1.2.3.4]:1", "[0:0:0:1:0:ffff:102:304]:1",
		"[fe80::1%eth0]:5684", "[fe80::1%25]:5684", "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff%z]:65535", "",
	} {
		var peer netip.AddrPort // the zero AddrPort for the last one
		if text != "" {
			peer = netip.MustParseAddrPort(text)
		}
		want := Session[string]{unmap(peer), text}
		table.Store(Sock{}, &Session[string]{peer, text}, StateEstablished, false)
		got, state := table.Get(Sock{}, peer)
		assert.Equal(t, StateEstablished, state)
		assert.Equal(t, want, got)
		got, _ = table.LRU(Sock{})
		assert.Equal(t, want, got)
		for got := range table.All() {
			assert.Equal(t, want, got)
		}
		restored := Session[string]{Peer: peer}
		table.Store(Sock{}, &restored, StateEstablished, true)
		assert.Equal(t, want, restored)
		require.NoError(t, table.check())
		got, _ = table.Evict(Sock{})
		assert.Equal(t, want, got)
	}
}

// TestPeersAreComparedInEachField searches for other peers under the hash of a stored one,
// as if all had the same hash.
func TestPeersAreComparedInEachField(t *testing.T) {
	table := newTable(t, 1)
	s := &table.slots
	sock, peer := NewSock(), netip.MustParseAddrPort("[fe80::1%eth0]:5684")
	hash, e := s.hashKey(sock, peer)
	s.take(1, hash, sock, s.withZone(e, peer), StateEstablished)
	for text, want := range map[string]uint32{
		"[fe80::1%eth0]:5684": 1, "[fe80::1%eth0]:5685": 0, "[fe80::2%eth0]:5684": 0,
		"[fe90::1%eth0]:5684": 0, "[fe80::1%eth1]:5684": 0, "[fe80::1]:5684": 0,
	} {
		other := netip.MustParseAddrPort(text)
		_, e := s.hashKey(sock, other)
		e = s.withZone(e, other)
		assert.Equal(t, want, s.find(hash, sock, e), text)
		assert.Zero(t, s.find(hash, Sock{}, e), text)
	}
}

// TestZonesDoNotAccumulate has the sessions of many interfaces that come and go, with
// each call that adds, moves or removes a session.
func TestZonesDoNotAccumulate(t *testing.T) {
	table := newTable(t, 2)
	for i := range 1000 {
		peer := zonedPeer(i)
		h, _, _ := table.Admit(Sock{}, &Session[string]{peer, peer.String()}, StateEstablished, false)
		require.NoError(t, table.check())
		switch i % 4 {
		case 0:
			require.True(t, h.Rebind(zonedPeer(i+1_000_000)))
			require.NoError(t, table.check())
			require.True(t, h.Rebind(peerA))
		case 1:
			require.True(t, h.Free())
		case 2:
			table.Remove(Sock{}, &Session[string]{Peer: peer})
		}
		_, state := table.Get(Sock{}, zonedPeer(i+2_000_000))
		assert.Equal(t, StateNone, state)
		require.NoError(t, table.check())
	}
	assert.LessOrEqual(t, len(table.slots.zones), firstZone+3, "two sessions, and one that was looked for")
}

// TestSameAddressInEachZoneIsAnotherPeer has more zones than New reserves room for.
func TestSameAddressInEachZoneIsAnotherPeer(t *testing.T) {
	const n = 3 * reservedZones
	table := newTable(t, n)
	for round := range 2 {
		for i := range n {
			require.Equal(t, StateNone, table.Store(Sock{}, &Session[string]{zonedPeer(i + round), strconv.Itoa(i)}, StateEstablished, false))
		}
		require.NoError(t, table.check())
		for i := range n {
			session, _ := table.Get(Sock{}, zonedPeer(i+round))
			require.Equal(t, Session[string]{zonedPeer(i + round), strconv.Itoa(i)}, session)
		}
		for i := range n {
			table.Remove(Sock{}, &Session[string]{Peer: zonedPeer(i + round)})
			require.NoError(t, table.check())
		}
	}
}

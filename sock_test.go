// SPDX-License-Identifier: MIT

package dsm

import (
	"net"
	"net/netip"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// textAddr is a net.Addr without the method AddrPort.
type textAddr string

func (textAddr) Network() string  { return "test" }
func (a textAddr) String() string { return string(a) }

func TestPeerOfUnmapsAndRefusesAddressesWithoutPort(t *testing.T) {
	for _, c := range []struct {
		addr net.Addr
		want string // empty: PeerOf returns false
	}{
		{&net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 5684}, "192.0.2.1:5684"}, // the 16-byte form
		{&net.UDPAddr{IP: net.IPv4(192, 0, 2, 1).To4(), Port: 5684}, "192.0.2.1:5684"},
		{&net.UDPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth0", Port: 1}, "[fe80::1%eth0]:1"},
		{net.UDPAddrFromAddrPort(netip.MustParseAddrPort("[::ffff:192.0.2.1]:5684")), "192.0.2.1:5684"},
		{&net.TCPAddr{IP: net.ParseIP("2001:db8::1"), Port: 80}, "[2001:db8::1]:80"},
		{textAddr("192.0.2.7:1"), "192.0.2.7:1"},
		{textAddr("pipe"), ""},
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

func TestPeerIsComparedUnmappedAndWithZone(t *testing.T) {
	table := newTable(t, 4)
	var sock Sock
	mapped := netip.MustParseAddrPort("[::ffff:192.0.2.1]:5684")
	table.Store(sock, &Session[string]{mapped, "a"}, StateEstablished, false)

	session := Session[string]{Peer: peerA}
	assert.Equal(t, StateEstablished, table.Store(sock, &session, StateHandshake, true))
	assert.Equal(t, Session[string]{peerA, "a"}, session, "the restored peer is unmapped")

	zone0, zone1 := netip.MustParseAddrPort("[fe80::1%eth0]:5684"), netip.MustParseAddrPort("[fe80::1%eth1]:5684")
	assert.Equal(t, StateNone, table.Store(sock, &Session[string]{zone0, "0"}, StateEstablished, false))
	assert.Equal(t, StateNone, table.Store(sock, &Session[string]{zone1, "1"}, StateEstablished, false))
	stored, _ := table.Get(sock, zone1)
	assert.Equal(t, Session[string]{zone1, "1"}, stored)

	_, state := table.Get(NewSock(), peerA)
	assert.Equal(t, StateNone, state, "the same peer of another sock is another session")

	table.Remove(sock, &Session[string]{Peer: mapped})
	_, state = table.Get(sock, peerA)
	assert.Equal(t, StateNone, state)
}

// TestEverySlotCanHaveItsOwnSock stores sessions of more socks than New reserves
// room for.
func TestEverySlotCanHaveItsOwnSock(t *testing.T) {
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

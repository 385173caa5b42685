// SPDX-License-Identifier: MIT

package udp

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestSourceOfAddress is as good as the Source that came with a datagram: the answer leaves
// from the address.
func TestSourceOfAddress(t *testing.T) {
	for _, network := range []string{"udp4", "udp"} { // the second one is a dual-stack socket
		checkGoroutines(t)
		sockets, err := Listen(network, ":0", Config{})
		require.NoError(t, err)
		s := sockets[0]
		local := netip.MustParseAddr("127.0.0.7")
		port := s.LocalAddr().(*net.UDPAddr).Port
		client, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, uint16(port))))
		require.NoError(t, err)
		_, err = client.Write([]byte("ask"))
		require.NoError(t, err)
		ds := []Datagram{{Buf: make([]byte, 10)}}
		_, err = s.Read(ds)
		require.NoError(t, err)
		require.Equal(t, local, ds[0].Source.Addr(), network)

		_, err = s.Write([]Datagram{{Buf: []byte("answer"), Peer: ds[0].Peer, Source: s.SourceOf(local)}})
		require.NoError(t, err)
		require.NoError(t, client.SetReadDeadline(time.Now().Add(timeout)))
		b := make([]byte, 10)
		n, err := client.Read(b) // connected: from another address nothing would come
		require.NoError(t, err)
		require.Equal(t, "answer", string(b[:n]))

		require.Zero(t, s.SourceOf(netip.Addr{}))
		require.Equal(t, local, s.SourceOf(local).Addr())
		require.NoError(t, client.Close())
		require.NoError(t, s.Close())
	}
	bound, err := Listen("udp", "127.0.0.1:0", Config{})
	require.NoError(t, err)
	require.Zero(t, bound[0].SourceOf(netip.MustParseAddr("127.0.0.7")), "it is bound to an address")
	require.NoError(t, bound[0].Close())

	v6, err := Listen("udp6", "[::]:0", Config{})
	if err != nil {
		t.Skip("no IPv6: ", err)
	}
	local := netip.MustParseAddr("2001:db8::7")
	require.Equal(t, local, v6[0].SourceOf(local).Addr())
	linkLocal := netip.MustParseAddr("fe80::7%3")
	require.Equal(t, linkLocal, v6[0].SourceOf(linkLocal).Addr())
	require.NoError(t, v6[0].Close())
	require.Zero(t, Source{}.Addr())
}

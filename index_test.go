// SPDX-License-Identifier: MIT

package dsm

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestIndexFindsEntriesFarFromHomeGroup adds the entries of many slots under few
// hashes, so that most are far from their home group, and removes them in random
// order. The remaining entries must be found after each removal.
func TestIndexFindsEntriesFarFromHomeGroup(t *testing.T) {
	const n = 300
	for _, hashes := range [][]uint32{{0x80000000}, {0xffffffff}, {0, 0xffffffff, 0x00400000}} {
		s := newSlots(n)
		present := []uint32{}
		find := func(i uint32) uint32 {
			found, pos := s.find(s.array[i].hash, Sock{}, s.peer(i))
			if found != 0 {
				require.Equal(t, pos, s.positionOf(found))
			}
			return found
		}
		sock := s.acquireSock(Sock{})
		for i := uint32(1); i <= n; i++ {
			peer := peerNo(int(i))
			s.array[i] = slot{addr: peer.Addr(), port: peer.Port(), hash: hashes[rand.IntN(len(hashes))], sock: sock}
			require.Zero(t, find(i))
			s.addEntry(s.array[i].hash, i)
			present = append(present, i)
			require.Equal(t, i, find(i))
		}
		rand.Shuffle(n, func(i, j int) { present[i], present[j] = present[j], present[i] })
		for len(present) > 0 {
			removed := present[0]
			s.removeEntry(s.array[removed].hash, s.positionOf(removed))
			present = present[1:]
			require.Zero(t, find(removed))
			for _, i := range present {
				require.Equal(t, i, find(i))
			}
		}
		require.Equal(t, make([]group, len(s.index)), s.index, "an index without entries is zero")
	}
}

// TestSearchEndsWhenEveryGroupHasOverflow fills each of two groups while the other
// one has room, so that both have an overflow and no group ends a search.
func TestSearchEndsWhenEveryGroupHasOverflow(t *testing.T) {
	s := newSlots(16)
	require.Len(t, s.index, 2)
	sock := s.acquireSock(Sock{})
	add := func(i uint32, hash uint32) {
		peer := peerNo(int(i))
		s.array[i] = slot{addr: peer.Addr(), port: peer.Port(), hash: hash, sock: sock}
		s.addEntry(hash, i)
	}
	const first, second = 0, 0xffffffff // hashes by their home group
	for i := range uint32(13) {
		add(1+i, first)
	}
	for i := range uint32(11) {
		s.removeEntry(first, s.positionOf(1+i))
		add(1+i, second)
	}
	add(14, second)
	require.Positive(t, s.index[0].overflow)
	require.Positive(t, s.index[1].overflow)
	for _, hash := range []uint32{first, second} {
		found, _ := s.find(hash, Sock{}, peerA)
		require.Zero(t, found)
	}
	for i := range uint32(11) {
		found, _ := s.find(second, Sock{}, s.peer(1+i))
		require.Equal(t, 1+i, found)
	}
}

// TestHashSpreadsConsecutivePeers checks that a table finds consecutive peers (a
// subnet, or many ports of one address) about as fast as random ones, whatever the
// secrets of its hash are. With a weaker hash a few tables in a hundred do not.
func TestHashSpreadsConsecutivePeers(t *testing.T) {
	const n = 1024
	patterns := map[string]func(i int) netip.AddrPort{
		"addresses":           peerNo,
		"subnets":             func(i int) netip.AddrPort { return peerNo(i << 8) },
		"ports":               func(i int) netip.AddrPort { return netip.AddrPortFrom(peerA.Addr(), uint16(i)) },
		"distant ports":       func(i int) netip.AddrPort { return netip.AddrPortFrom(peerA.Addr(), uint16(i*64)) },
		"addresses and ports": func(i int) netip.AddrPort { return netip.AddrPortFrom(peerNo(i).Addr(), uint16(i)) },
		"IPv6":                func(i int) netip.AddrPort { return netip.AddrPortFrom(peerB.Addr(), uint16(i)) },
		"IPv6 addresses": func(i int) netip.AddrPort {
			a := peerB.Addr().As16()
			a[7], a[6] = byte(i), byte(i>>8)
			return netip.AddrPortFrom(netip.AddrFrom16(a), 5684)
		},
		"random": func(i int) netip.AddrPort { return peerNo(rand.Int()) },
	}
	for name, pattern := range patterns {
		worstMean := 0.0
		for range 300 {
			table := newTable(t, n)
			for i := range n {
				table.Store(Sock{}, &Session[string]{Peer: pattern(i)}, StateEstablished, false)
			}
			visited := 0 // groups that the searches for all sessions visit
			for at, g := range table.slots.index {
				for _, i := range g.slots {
					if i != 0 {
						visited++
						for passed := table.slots.homeGroup(table.slots.array[i].hash); passed != uint32(at); passed = table.slots.nextGroup(passed) {
							visited++
						}
					}
				}
			}
			worstMean = max(worstMean, float64(visited)/n)
		}
		t.Logf("%s: %.2f groups visited to find a session, mean of the worst table", name, worstMean)
		require.Less(t, worstMean, 1.3, name) // A random function has 1.06 on average.
	}
}

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
		s.acquireSock(Sock{})
		present := []uint32{}
		hashOf := make([]uint32, n+1)
		find := func(i uint32) uint32 {
			_, peer := s.hashKey(Sock{}, peerNo(int(i)))
			return s.find(hashOf[i], Sock{}, peer)
		}
		for i := uint32(1); i <= n; i++ {
			hashOf[i] = hashes[rand.IntN(len(hashes))]
			require.Zero(t, find(i))
			addUnderHash(&s, i, hashOf[i])
			present = append(present, i)
			require.Equal(t, i, find(i))
		}
		rand.Shuffle(n, func(i, j int) { present[i], present[j] = present[j], present[i] })
		for len(present) > 0 {
			removed := present[0]
			s.removeKey(removed)
			present = present[1:]
			require.Zero(t, find(removed))
			for _, i := range present {
				require.Equal(t, i, find(i))
			}
		}
		require.Equal(t, make([]group, len(s.index)), s.index, "an index without entries is zero")
		require.Equal(t, make([]entry, n+1), s.entries)
	}
}

// addUnderHash adds slot i to the index, with the peer of that number and any hash.
func addUnderHash(s *slots, i, hash uint32) {
	_, peer := s.hashKey(Sock{}, peerNo(int(i)))
	s.array[i].sock = s.acquireSock(Sock{})
	s.setKey(i, hash, peer)
}

// TestSearchEndsWhenEveryGroupHasOverflow fills each of two groups while the other
// one has room, so that both have an overflow and no group ends a search.
func TestSearchEndsWhenEveryGroupHasOverflow(t *testing.T) {
	s := newSlots(7)
	s = slots{seed: s.seed, secret: s.secret, index: make([]group, 2), array: make([]slot, 17), entries: make([]entry, 17), socks: newSockSegments(17), numSocks: 1}
	const first, second = 0, 0xffffffff // hashes by their home group
	for i := range uint32(groupEntries + 1) {
		addUnderHash(&s, 1+i, first)
	}
	for i := range uint32(groupEntries - 1) {
		s.removeKey(1 + i)
		addUnderHash(&s, 1+i, second)
	}
	addUnderHash(&s, groupEntries+2, second)
	require.Positive(t, s.index[0].overflow)
	require.Positive(t, s.index[1].overflow)
	for _, hash := range []uint32{first, second} {
		_, absent := s.hashKey(Sock{}, peerA)
		require.Zero(t, s.find(hash, Sock{}, absent))
	}
	for i := range uint32(groupEntries - 1) {
		_, peer := s.hashKey(Sock{}, peerNo(int(1+i)))
		require.Equal(t, 1+i, s.find(second, Sock{}, peer))
	}
}

// TestMatchReturnsEachEntryWithTagAndNoEmptyOne compares the search of a group with a
// loop over its tags.
func TestMatchReturnsEachEntryWithTagAndNoEmptyOne(t *testing.T) {
	for range 100000 {
		var g group
		tags := [groupEntries]uint64{}
		for n := range tags {
			if rand.IntN(3) > 0 {
				tags[n] = tagOf(uint32(rand.IntN(3)))
			}
			g.tags |= tags[n] << (8 * n)
		}
		wanted := tagOf(uint32(rand.IntN(3)))
		matched, empty := [groupEntries]bool{}, [groupEntries]bool{}
		for set := g.match(wanted); set != 0; set &= set - 1 {
			matched[set.first()] = true
		}
		for set := g.empty(); set != 0; set &= set - 1 {
			empty[set.first()] = true
		}
		for n, tag := range tags {
			require.Equal(t, tag == 0, empty[n])
			require.False(t, tag == wanted && !matched[n] || tag == 0 && matched[n], "tags %x, wanted %x, matched %v", tags, wanted, matched)
		}
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
						for passed := table.slots.homeGroup(table.slots.entries[i].hash); passed != uint32(at); passed = table.slots.nextGroup(passed) {
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

// SPDX-License-Identifier: MIT

package dsm

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestIndexOverflow enters many slots under few hashes, so that most are far from
// home, and takes them out in any order: what is left is found all the same.
func TestIndexOverflow(t *testing.T) {
	const n = 300
	for _, hashes := range [][]uint32{{0x80000000}, {0xffffffff}, {0, 0xffffffff, 0x00400000}} {
		s := newSlots(n)
		held := []uint32{}
		find := func(i uint32) uint32 {
			found, at := s.find(s.array[i].hash, Sock{}, s.peer(i))
			if found != 0 {
				require.Equal(t, at, s.placeOf(found))
			}
			return found
		}
		sock := s.joinSock(Sock{})
		for i := uint32(1); i <= n; i++ {
			peer := peerNo(int(i))
			s.array[i] = slot{addr: peer.Addr(), port: peer.Port(), hash: hashes[rand.IntN(len(hashes))], sock: sock}
			require.Zero(t, find(i))
			s.addIndex(s.array[i].hash, i)
			held = append(held, i)
			require.Equal(t, i, find(i))
		}
		rand.Shuffle(n, func(i, j int) { held[i], held[j] = held[j], held[i] })
		for len(held) > 0 {
			gone := held[0]
			s.dropIndex(s.array[gone].hash, s.placeOf(gone))
			held = held[1:]
			require.Zero(t, find(gone))
			for _, i := range held {
				require.Equal(t, i, find(i))
			}
		}
		require.Equal(t, make([]group, len(s.index)), s.index, "removals leave no trace")
	}
}

// TestSearchEndsWhereEveryGroupWasPassed: two groups, each full once while the
// other was not, so that what is not there has been passed everywhere.
func TestSearchEndsWhereEveryGroupWasPassed(t *testing.T) {
	s := newSlots(16)
	require.Len(t, s.index, 2)
	sock := s.joinSock(Sock{})
	add := func(i uint32, hash uint32) {
		peer := peerNo(int(i))
		s.array[i] = slot{addr: peer.Addr(), port: peer.Port(), hash: hash, sock: sock}
		s.addIndex(hash, i)
	}
	const first, second = 0, 0xffffffff // the homes
	for i := range uint32(13) {
		add(1+i, first)
	}
	for i := range uint32(11) {
		s.dropIndex(first, s.placeOf(1+i))
		add(1+i, second)
	}
	add(14, second)
	require.Positive(t, s.index[0].over)
	require.Positive(t, s.index[1].over)
	for _, hash := range []uint32{first, second} {
		found, _ := s.find(hash, Sock{}, peerA)
		require.Zero(t, found)
	}
	for i := range uint32(11) {
		found, _ := s.find(second, Sock{}, s.peer(1+i))
		require.Equal(t, 1+i, found)
	}
}

// TestIndexSpreadsRuns: whatever its secrets are, a table finds peers that come in
// runs (a subnet, one address behind many ports) about as fast as scattered ones.
// With a weaker hash some tables in a hundred do not.
func TestIndexSpreadsRuns(t *testing.T) {
	const n = 1024
	patterns := map[string]func(i int) netip.AddrPort{
		"addresses": peerNo,
		"subnets":   func(i int) netip.AddrPort { return peerNo(i << 8) },
		"ports":     func(i int) netip.AddrPort { return netip.AddrPortFrom(peerA.Addr(), uint16(i)) },
		"far ports": func(i int) netip.AddrPort { return netip.AddrPortFrom(peerA.Addr(), uint16(i*64)) },
		"both":      func(i int) netip.AddrPort { return netip.AddrPortFrom(peerNo(i).Addr(), uint16(i)) },
		"IPv6":      func(i int) netip.AddrPort { return netip.AddrPortFrom(peerB.Addr(), uint16(i)) },
		"IPv6 addresses": func(i int) netip.AddrPort {
			a := peerB.Addr().As16()
			a[7], a[6] = byte(i), byte(i>>8)
			return netip.AddrPortFrom(netip.AddrFrom16(a), 5684)
		},
		"scattered": func(i int) netip.AddrPort { return peerNo(rand.Int()) },
	}
	for name, pattern := range patterns {
		worst := 0.0
		for range 300 {
			table := newTable(t, n)
			for i := range n {
				table.Store(Sock{}, &Session[string]{Peer: pattern(i)}, StateEstablished, false)
			}
			total := 0
			for at, g := range table.slots.index {
				for _, i := range g.slots {
					if i != 0 {
						total++
						for home := table.slots.home(table.slots.array[i].hash); home != uint32(at); home = table.slots.next(home) {
							total++
						}
					}
				}
			}
			worst = max(worst, float64(total)/n)
		}
		t.Logf("%s: at worst %.2f groups looked at to find one", name, worst)
		require.Less(t, worst, 1.3, name) // a random function has 1.06 on average
	}
}

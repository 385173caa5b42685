// SPDX-License-Identifier: MIT

package dsm

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestIndexFarFromHome enters many slots under few hashes, so that distances no
// longer fit into the entries, and takes them out in any order: what is left is
// found all the same.
func TestIndexFarFromHome(t *testing.T) {
	const n = 300
	for _, hashes := range [][]uint32{{0x80000000}, {0xffffffff}, {0, 0xffffffff, 0x00400000}} {
		s := newSlots(n)
		held := []uint32{}
		check := func() {
			for _, slot := range held {
				found, _ := s.find(s.array[slot].hash, Sock{}, s.peer(slot))
				require.Equal(t, slot, found)
			}
		}
		sock := s.joinSock(Sock{})
		for i := uint32(1); i <= n; i++ {
			hash := hashes[rand.IntN(len(hashes))]
			peer := peerNo(int(i))
			s.array[i] = slot{addr: peer.Addr(), port: peer.Port(), hash: hash, sock: sock}
			found, at := s.find(hash, Sock{}, peer)
			require.Zero(t, found)
			s.index[at.pos] = at.entry | i
			held = append(held, i)
		}
		check()
		rand.Shuffle(n, func(i, j int) { held[i], held[j] = held[j], held[i] })
		for len(held) > 0 {
			s.dropIndex(s.placeOf(held[0]))
			gone := held[0]
			held = held[1:]
			found, _ := s.find(s.array[gone].hash, Sock{}, s.peer(gone))
			require.Zero(t, found)
			check()
		}
		for _, e := range s.index {
			require.Zero(t, e, "removals leave no trace")
		}
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
			total := uint32(0)
			for pos, e := range table.slots.index {
				if e != 0 {
					s := &table.slots
					total += 1 + s.distance(s.home(s.array[s.slotOf(e)].hash), uint32(pos))
				}
			}
			worst = max(worst, float64(total)/n)
		}
		t.Logf("%s: at worst %.2f entries looked at to find one", name, worst)
		require.Less(t, worst, 2.3, name) // a random function has 1.6 on average
	}
}

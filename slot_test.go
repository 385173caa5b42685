// SPDX-License-Identifier: MIT

package dsm

import (
	"math/rand/v2"
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
				require.Equal(t, slot, s.find(s.peers[slot].hash, Sock{}, s.peer(slot)))
			}
		}
		sock := s.joinSock(Sock{})
		for i := uint32(1); i <= n; i++ {
			hash := hashes[rand.IntN(len(hashes))]
			peer := peerNo(int(i))
			s.order.links[i].sock = sock
			s.peers[i] = peerKey{addr: peer.Addr(), port: peer.Port(), hash: hash}
			require.Zero(t, s.find(hash, Sock{}, peer))
			s.addIndex(hash, i)
			held = append(held, i)
		}
		check()
		rand.Shuffle(n, func(i, j int) { held[i], held[j] = held[j], held[i] })
		for len(held) > 0 {
			s.dropIndex(held[0])
			gone := held[0]
			held = held[1:]
			require.Zero(t, s.find(s.peers[gone].hash, Sock{}, s.peer(gone)))
			check()
		}
		for _, e := range s.index {
			require.Zero(t, e, "removals leave no trace")
		}
	}
}

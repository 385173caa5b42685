// SPDX-License-Identifier: MIT

package dsm

import (
	"hash/maphash"
	"math/bits"
	"math/rand/v2"
	"net/netip"
)

// maxSlots limits a table to about 5 GB, so that a mistyped size is an error and
// not a failed allocation.
const maxSlots = 1 << 26

// slot is room for one session, without the session's value. It is 64 bytes long,
// one cache line, so that a lookup or a use touches few cache lines. A free slot is
// zero except for gen and links.
type slot struct {
	addr    netip.Addr
	port    uint16
	state   State
	hash    uint32 // of the key (sock, peer)
	lastUse uint64 // the access counter at the last use; 0: the slot is free
	links   links  // in the list for the slot's state and sock, or in the free list
	sock    uint32 // an index into slots.socks
	gen     uint32 // the generation of the session, or of the next one if the slot is free
	_       [8]byte
}

// slots is the array of slots without the values, with the index by which a slot is
// found and the lists that keep the order of use. It is plain data; Table locks.
//
// Slot numbers start at 1; 0 stands for no slot. Invariants:
//   - A slot is either in the free list, or it is taken: it has one entry in the
//     index, is in the list for its state and sock, and is counted by its sock.
//   - The number of taken slots is the number of established sessions plus the
//     number of half-open sessions. The free list has all other slots.
//   - The hash of a taken slot is that of its sock and peer. No two taken slots have
//     the same sock and peer.
//   - The entry of a slot is in its home group or in a later one. The overflow of
//     all groups from the home group up to that group, exclusive, counts the entry.
//   - The generation of a slot changes when the slot is freed or taken, and only
//     upwards until it wraps around, so that no earlier session of the slot has it.
//     It does not change while the slot is taken.
type slots struct {
	// The following fields are set in newSlots and never change.

	// The hash has secrets because peers choose their addresses and ports.
	seed   maphash.Seed // for IPv6
	secret [3]uint64    // for IPv4; the last two are factors and odd

	index []group
	array []slot // array[0] is zero and stands for no slot

	// Table.mu guards the following fields, and the elements of index and array.

	uses           uint64 // the access counter: the number of uses so far
	oldestHalfOpen uint32 // the list of the sessions in StateHandshake; 0: the list is empty

	firstFree   uint32 // the free list, circular like the lists of taken slots; 0: no slot is free
	taken       int    // the number of taken slots
	established int    // the number of sessions in StateEstablished

	socks         []sockEntry // socks[0] is zero and stands for no sock
	sockBuckets   []uint32    // the first entry of each bucket; the length is a power of two
	firstFreeSock uint32      // the list of free entries of socks
}

func newSlots(n int) slots {
	socks := min(n, minSocks+n/slotsPerSock)
	s := slots{
		seed:        maphash.MakeSeed(),
		secret:      [3]uint64{rand.Uint64(), rand.Uint64() | 1, rand.Uint64() | 1},
		index:       make([]group, n/groupLoad+1),
		array:       make([]slot, n+1),
		socks:       make([]sockEntry, 1, socks+1),
		sockBuckets: make([]uint32, 1<<bits.Len(uint(socks-1))),
	}
	for i := 1; i <= n; i++ {
		insertNewest(s.array, &s.firstFree, uint32(i))
	}
	return s
}

// take stores the session of (sock, peer), which must not be in the table, in the
// free slot i and marks it as used now.
func (s *slots) take(i, hash uint32, sock Sock, peer netip.AddrPort, state State) {
	p := &s.array[i]
	unlink(s.array, &s.firstFree, i)
	s.taken++
	s.addEntry(hash, i)
	p.addr, p.port, p.hash = peer.Addr(), peer.Port(), hash
	p.sock = s.acquireSock(sock)
	p.state = state
	if state == StateEstablished {
		s.established++
	}
	s.uses++
	p.lastUse = s.uses
	insertNewest(s.array, s.listOfSlot(p), i)
}

// free frees a taken slot, whose entry in the index is at pos. The new generation
// makes all handles to the slot ineffective.
func (s *slots) free(pos position, i uint32) {
	p := &s.array[i]
	s.removeEntry(p.hash, pos)
	unlink(s.array, s.listOfSlot(p), i)
	if p.state == StateEstablished {
		s.established--
	}
	s.releaseSock(p.sock)
	s.taken--
	*p = slot{gen: p.gen + 1}
	insertNewest(s.array, &s.firstFree, i)
	s.firstFree = i // The slot freed last is taken first, because its cache line is the warmest.
}

// establish changes the state of a session from StateHandshake to StateEstablished.
// The session must be the one used last in the table, because establish puts it at
// the newest end of its new list.
func (s *slots) establish(i uint32) {
	p := &s.array[i]
	unlink(s.array, &s.oldestHalfOpen, i)
	p.state = StateEstablished
	insertNewest(s.array, &s.socks[p.sock].oldest, i)
	s.established++
}

// state returns the state of the session in a slot, or StateNone for a free slot.
func (s *slots) state(i uint32) State { return s.array[i].state }

// peer returns the peer of the session in a taken slot.
func (s *slots) peer(i uint32) netip.AddrPort {
	return netip.AddrPortFrom(s.array[i].addr, s.array[i].port)
}

// current reports whether a slot holds the session of a handle with generation gen.
// A free slot has the generation of its next session, for which At makes handles too.
func (s *slots) current(i, gen uint32) bool {
	p := &s.array[i]
	return p.gen == gen && p.state != StateNone
}

// SPDX-License-Identifier: MIT

package dsm

import (
	"hash/maphash"
	"math/rand/v2"
)

// maxSlots limits a table to about 5 GB, so that a mistyped size is an error and
// not a failed allocation.
const maxSlots = 1 << 26

// slot is room for one session, without its value: what a lookup or a use reads. It is
// 32 bytes long, so that no slot is in two cache lines. A free slot is zero except for
// gen.
type slot struct {
	high, low uint64 // the peer: the fields of its endpoint
	zone      uint32
	port      uint16
	state     State
	sock      uint32 // the number of an entry of slots.socks
	gen       uint32 // the generation of the session, or of the next one if the slot is free
}

// slots is the array of slots without the values, with the index by which a slot is
// found and the lists that keep the order of use. It is plain data; Table locks. Its
// large arrays have no pointers, so that the garbage collector does not visit them.
//
// Slot numbers start at 1; 0 stands for no slot. Invariants:
//   - A slot is either in the free list, or it is taken: it has one entry in the
//     index, is in the list for its state and sock, and is counted by its sock.
//   - The number of taken slots is the number of established sessions plus the
//     number of half-open sessions. The free list has all other slots.
//   - The hash of a taken slot is that of its sock and peer. No two taken slots have
//     the same sock and peer.
//   - The entry of a slot is at the place that entries has, in its home group or in a
//     later one. The overflow of all groups from the home group up to that group,
//     exclusive, counts the entry.
//   - The generation of a slot changes when the slot is freed or taken, and only
//     upwards until it wraps around, so that no earlier session of the slot has it.
//     It does not change while the slot is taken.
//   - Each waiting slot is taken. The lists and each lastUse are those from before the
//     waiting uses. In a table where usesWait is false no use waits.
//   - zones counts the taken slots whose peer has the zone. No two zones have the same
//     name.
type slots struct {
	// The following fields are set in newSlots and never change.

	// The hash has secrets because peers choose their addresses and ports.
	seed   maphash.Seed // for IPv6
	secret [3]uint64    // for IPv4 and socks; the last two are factors and odd

	index    []group
	array    []slot  // by slot number; array[0] is zero and stands for no slot
	nodes    []node  // by slot number: the lists
	entries  []entry // by slot number: where the index has the slot
	usesWait bool    // whether uses wait; see slots.use

	// Table.mu guards the following fields, and the elements of the arrays.

	uses           uint64 // the access counter: the number of uses so far
	oldestHalfOpen uint32 // the list of the sessions in StateHandshake; 0: the list is empty

	waiting    [maxWaiting]uint32 // the slots of the last numWaiting uses, the oldest first
	numWaiting int
	loaded     uint32 // has no meaning; see settleWaiting

	firstFree   uint32 // the free list, circular like the lists of taken slots; 0: no slot is free
	taken       int    // the number of taken slots
	established int    // the number of sessions in StateEstablished

	socks         []*sockSegment // entry 0 is zero except for bucket and stands for no sock; the slice itself never changes
	numSocks      uint32         // the number of entries, free ones and entry 0 included; it never decreases
	firstFreeSock uint32         // the list of free entries of socks
	lastSock      Sock           // the sock that was looked up last
	lastEntry     uint32         // its entry of socks; 0: it has no sessions

	zones []zone // by number; the entries below firstZone are zero
}

func newSlots(n int) slots {
	s := slots{
		seed:     maphash.MakeSeed(),
		secret:   [3]uint64{rand.Uint64(), rand.Uint64() | 1, rand.Uint64() | 1},
		index:    make([]group, n/groupLoad+1),
		array:    make([]slot, n+1),
		nodes:    make([]node, n+1),
		entries:  make([]entry, n+1),
		usesWait: n > maxSlotsWithoutWaiting,
		socks:    newSockSegments(n),
		numSocks: 1,
		zones:    make([]zone, firstZone, firstZone+reservedZones),
	}
	for i := 1; i <= n; i++ {
		insertNewest(s.nodes, &s.firstFree, uint32(i))
	}
	return s
}

// take stores the session of (sock, peer), which must not be in the table, in the free
// slot i and marks it as used now.
func (s *slots) take(i, hash uint32, sock Sock, peer endpoint, state State) {
	s.settleUses()
	p := &s.array[i]
	unlink(s.nodes, &s.firstFree, i)
	s.taken++
	s.setKey(i, hash, peer)
	p.sock = s.acquireSock(sock)
	p.state = state
	if state == StateEstablished {
		s.established++
	}
	s.uses++
	s.nodes[i].lastUse = s.uses
	insertNewest(s.nodes, s.listOfSlot(p), i)
}

// replace stores the session of (sock, peer), which must not be in the table, in slot i,
// which lru returned for the same sock, and marks it as used now. It has the effect of
// free and take. It is faster, because the slot that is the oldest of its list becomes
// the newest without a change of a link.
func (s *slots) replace(i, hash uint32, peer endpoint, state State) {
	p := &s.array[i]
	s.removeKey(i)
	s.setKey(i, hash, peer)
	p.gen++
	s.uses++
	s.nodes[i].lastUse = s.uses
	moveToNewest(s.nodes, s.listOfSlot(p), i)
	if state == StateHandshake {
		s.demote(i)
	}
}

// free frees a taken slot. The new generation makes all handles to the slot
// ineffective.
func (s *slots) free(i uint32) {
	s.settleUses()
	p := &s.array[i]
	s.removeKey(i)
	unlink(s.nodes, s.listOfSlot(p), i)
	if p.state == StateEstablished {
		s.established--
	}
	s.releaseSock(p.sock)
	s.taken--
	*p = slot{gen: p.gen + 1}
	s.nodes[i].lastUse = 0
	insertNewest(s.nodes, &s.firstFree, i)
	s.firstFree = i // The slot freed last is taken first, because its cache line is the warmest.
}

// setKey sets the endpoint of slot i, and adds its entry to the index.
func (s *slots) setKey(i, hash uint32, peer endpoint) {
	p := &s.array[i]
	p.high, p.low, p.zone, p.port = peer.high, peer.low, peer.zone, peer.port
	if peer.zone >= firstZone {
		s.zones[peer.zone].sessions++
	}
	s.addEntry(hash, i)
}

// removeKey removes the entry of a taken slot from the index. The caller has to free
// the slot or to set another key.
func (s *slots) removeKey(i uint32) {
	if zone := s.array[i].zone; zone >= firstZone {
		s.zones[zone].sessions--
	}
	s.removeEntry(i)
}

// establish changes the state of a session from StateHandshake to StateEstablished.
// The session must be the one used last in the table, because establish puts it at
// the newest end of its new list.
func (s *slots) establish(i uint32) {
	s.settleUses()
	p := &s.array[i]
	unlink(s.nodes, &s.oldestHalfOpen, i)
	p.state = StateEstablished
	insertNewest(s.nodes, &s.sockEntry(p.sock).oldest, i)
	s.established++
}

// state returns the state of the session in a slot, or StateNone for a free slot.
func (s *slots) state(i uint32) State { return s.array[i].state }

// current reports whether a slot holds the session of a handle with generation gen.
// A free slot has the generation of its next session, for which At makes handles too.
func (s *slots) current(i, gen uint32) bool {
	p := &s.array[i]
	return p.gen == gen && p.state != StateNone
}

// SPDX-License-Identifier: MIT

package dsm

import (
	"encoding/binary"
	"hash/maphash"
	"math/bits"
	"net/netip"
)

const (
	// groupEntries is the number of entries of a group: one tag for each byte of a word.
	groupEntries = 8
	// groupLoad is the average number of used entries of a group when all slots are
	// taken. With 4 of 8 entries one entry in a hundred is not in its home group, and one
	// in twenty-five after all sessions were replaced several times.
	groupLoad = 4
)

// group is a bucket of the index. The hash of a key selects its home group, and seven
// bits of the hash are the tag by which the group is searched. An entry whose home
// group is full goes to the next group with room. overflow counts, per group, the
// entries that had to pass it; a search ends at a group whose overflow is zero, so
// removal needs no tombstones.
type group struct {
	tags     uint64 // one byte for each entry; 0: the entry is empty
	overflow uint32
	slots    [groupEntries]uint32 // slot numbers
}

// place is the place of an entry in the index: groupEntries times the number of its
// group, plus its number in the group.
type place uint32

// entry is what the removal of a slot's entry from the index needs.
type entry struct {
	hash  uint32 // of the key (sock, peer)
	place place
}

// tagOf returns the tag for a hash. Its high bit is set, so no tag is 0.
func tagOf(hash uint32) uint64 { return uint64(hash&0x7f | 0x80) }

// entrySet is a set of entries of a group: the highest bit of byte n for entry n.
type entrySet uint64

const (
	eachByte = 0x0101010101010101
	highBits = 0x8080808080808080 // the highest bit of each byte
)

// first returns the first entry of the set, which must not be empty.
func (e entrySet) first() int { return bits.TrailingZeros64(uint64(e)) >> 3 }

// match returns the entries with the given tag. In rare cases it also returns an entry
// with another tag, but never an empty one. This costs a comparison of keys.
func (g *group) match(tag uint64) entrySet {
	differences := g.tags ^ tag*eachByte
	return entrySet((differences - eachByte) &^ differences & highBits)
}

// empty returns the empty entries.
func (g *group) empty() entrySet { return entrySet(^g.tags & highBits) }

// hashKey returns the hash of the key (sock, peer), and the endpoint of peer. It needs
// no lock.
func (s *slots) hashKey(sock Sock, peer netip.AddrPort) (uint32, endpoint) {
	var e endpoint
	var h uint64
	if addr := peer.Addr(); addr.Is4() || addr.Is4In6() {
		a := addr.As4()
		e = endpoint{low: ipv4Mapped | uint64(binary.BigEndian.Uint32(a[:])), port: peer.Port()}
		// Two folded multiplications by secret numbers. This is the method of
		// maphash for eight bytes on a machine without AES instructions, but
		// inlined. After one multiplication only, the hashes of consecutive
		// addresses would still be close to each other.
		h = e.low<<16 | uint64(e.port) // The prefix of the IPv4-mapped form is the same for all.
		hi, lo := bits.Mul64(h^s.secret[0], s.secret[1])
		hi, lo = bits.Mul64(hi^lo, s.secret[2])
		h = hi ^ lo
	} else {
		e = endpoint6(peer)
		// The zone is not part of the hash. A peer cannot choose the interface.
		h = maphash.Comparable(s.seed, [3]uint64{e.high, e.low, uint64(e.port)})
	}
	// An attacker chooses the peer, but not the sock, so the sock needs no secret.
	// The odd factor (2^64 divided by the golden ratio) spreads the id of the sock
	// over the high bits, which are the ones that are returned.
	return uint32((h + sock.id*0x9E3779B97F4A7C15) >> 32), e
}

// homeGroup returns the group at which the search for a hash begins.
func (s *slots) homeGroup(hash uint32) uint32 {
	return uint32(uint64(hash) * uint64(len(s.index)) >> 32)
}

// nextGroup returns the group after the given one. The first group follows the last.
func (s *slots) nextGroup(group uint32) uint32 {
	if group++; int(group) < len(s.index) {
		return group
	}
	return 0
}

// find returns the slot of (sock, peer), or 0 if the table has no such session.
func (s *slots) find(hash uint32, sock Sock, peer endpoint) uint32 {
	n := s.findSock(sock)
	if n == 0 {
		return 0 // The sock has no sessions.
	}
	home := s.homeGroup(hash)
	for at := home; ; {
		g := &s.index[at]
		for candidates := g.match(tagOf(hash)); candidates != 0; candidates &= candidates - 1 {
			if i := g.slots[candidates.first()]; s.hasKey(i, n, peer) {
				return i
			}
		}
		if g.overflow == 0 {
			return 0
		}
		// All groups can have an overflow, even while slots are free.
		if at = s.nextGroup(at); at == home {
			return 0
		}
	}
}

// hasKey reports whether the session in a taken slot is that of a peer and of the sock in
// entry sock of s.socks. To compare the entry's number is faster than to load the entry of
// each candidate, which has to wait until the slot is loaded.
func (s *slots) hasKey(i, sock uint32, peer endpoint) bool {
	p := &s.array[i]
	return p.differs(peer)|uint64(p.sock^sock) == 0
}

// addEntry adds an entry for slot i, which must have none, under the given hash.
func (s *slots) addEntry(hash, i uint32) {
	for at := s.homeGroup(hash); ; at = s.nextGroup(at) {
		g := &s.index[at]
		if empty := g.empty(); empty != 0 {
			n := empty.first()
			g.tags |= tagOf(hash) << (8 * n)
			g.slots[n] = i
			s.entries[i] = entry{hash, place(at*groupEntries + uint32(n))}
			return
		}
		g.overflow++
	}
}

// removeEntry removes the entry of slot i.
func (s *slots) removeEntry(i uint32) {
	e := s.entries[i]
	s.entries[i] = entry{}
	group, n := uint32(e.place/groupEntries), e.place%groupEntries
	for passed := s.homeGroup(e.hash); passed != group; passed = s.nextGroup(passed) {
		s.index[passed].overflow--
	}
	g := &s.index[group]
	g.tags &^= 0xff << (8 * n)
	g.slots[n] = 0
}

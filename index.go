// SPDX-License-Identifier: MIT

package dsm

import (
	"encoding/binary"
	"hash/maphash"
	"math/bits"
	"net/netip"
)

const (
	// groupEntries is the number of entries of a group: as many as fit into a cache
	// line.
	groupEntries = 12
	// groupLoad is the average number of used entries of a group when all slots are
	// taken.
	groupLoad = 9
)

// group is a bucket of the index, 64 bytes long. The hash of a key selects its home
// group, and seven bits of the hash are the tag by which the group is searched. An
// entry whose home group is full goes to the next group with room. overflow counts,
// per group, the entries that had to pass it; a search ends at a group whose
// overflow is zero, so removal needs no tombstones.
type group struct {
	tags     [groupEntries]uint8 // 0: the entry is empty
	overflow uint32
	slots    [groupEntries]uint32 // slot numbers
}

// position is the position of an entry in the index.
type position struct {
	group uint32
	entry int
}

// tagOf returns the tag for a hash. Its high bit is set, so no tag is 0.
func tagOf(hash uint32) uint8 { return uint8(hash) | 0x80 }

// entrySet is a set of entries of a group, one bit for each entry: bit 7 of byte n
// for entry n, and bit 3 of byte n for entry 8+n. These are the bits in which the
// comparison of all tags at once, as the bytes of two words, leaves its result.
type entrySet uint64

const (
	lowBits  = 0x7f7f7f7f7f7f7f7f // all bits of each byte except the highest
	highBits = 0x8080808080808080 // the highest bit of each byte
)

// first returns the first entry of the set, which must not be empty.
func (e entrySet) first() int {
	bit := bits.TrailingZeros64(uint64(e))
	return bit>>3 | ^bit<<1&8
}

// tagWords returns the tags of entries 0 to 7 and of entries 8 to 11.
func (g *group) tagWords() (lo, hi uint64) {
	return binary.LittleEndian.Uint64(g.tags[:8]), uint64(binary.LittleEndian.Uint32(g.tags[8:]))
}

// match returns the entries with the given tag.
func (g *group) match(tag uint8) entrySet {
	lo, hi := g.tagWords()
	all := uint64(tag) * 0x0101010101010101
	lo, hi = lo^all, hi^all // A byte is now zero if its tag matches.
	lo = ^((lo&lowBits + lowBits) | lo | lowBits)
	hi = ^((hi&lowBits + lowBits) | hi | lowBits) // The upper four bytes never match, because no tag is 0.
	return entrySet(lo | hi>>4)
}

// empty returns the empty entries.
func (g *group) empty() entrySet {
	lo, hi := g.tagWords()
	return entrySet(^lo&highBits | ^hi&(highBits>>32)>>4)
}

// hashKey returns the hash of the key (sock, peer), and peer as the table stores
// it, with an IPv4-mapped address unmapped. It needs no lock.
func (s *slots) hashKey(sock Sock, peer netip.AddrPort) (uint32, netip.AddrPort) {
	addr := peer.Addr()
	if addr.Is4In6() {
		addr = addr.Unmap()
		peer = netip.AddrPortFrom(addr, peer.Port())
	}
	var h uint64
	if addr.Is4() {
		// Two folded multiplications by secret numbers. This is the method of
		// maphash for eight bytes on a machine without AES instructions, but
		// inlined. After one multiplication only, the hashes of consecutive
		// addresses would still be close to each other.
		a := addr.As4()
		h = uint64(binary.LittleEndian.Uint32(a[:]))<<16 | uint64(peer.Port())
		hi, lo := bits.Mul64(h^s.secret[0], s.secret[1])
		hi, lo = bits.Mul64(hi^lo, s.secret[2])
		h = hi ^ lo
	} else {
		h = maphash.Comparable(s.seed, peer)
	}
	// An attacker chooses the peer, but not the sock, so the sock needs no secret.
	// The odd factor (2^64 divided by the golden ratio) spreads the id of the sock
	// over the high bits, which are the ones that are returned.
	return uint32((h + sock.id*0x9E3779B97F4A7C15) >> 32), peer
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

// find returns the slot of (sock, peer) and the position of its entry, or slot 0 if
// the table has no such session.
func (s *slots) find(hash uint32, sock Sock, peer netip.AddrPort) (uint32, position) {
	home := s.homeGroup(hash)
	for at := home; ; {
		g := &s.index[at]
		for candidates := g.match(tagOf(hash)); candidates != 0; candidates &= candidates - 1 {
			entry := candidates.first()
			if i := g.slots[entry]; s.hasKey(i, sock, peer) {
				return i, position{at, entry}
			}
		}
		if g.overflow == 0 {
			return 0, position{}
		}
		// All groups can have an overflow, even while slots are free.
		if at = s.nextGroup(at); at == home {
			return 0, position{}
		}
	}
}

// hasKey reports whether the session in a taken slot is that of (sock, peer).
func (s *slots) hasKey(i uint32, sock Sock, peer netip.AddrPort) bool {
	p := &s.array[i]
	return p.addr == peer.Addr() && p.port == peer.Port() && s.socks[p.sock].id == sock.id
}

// positionOf returns the position of the entry of a taken slot.
func (s *slots) positionOf(i uint32) position {
	hash := s.array[i].hash
	for at := s.homeGroup(hash); ; at = s.nextGroup(at) {
		g := &s.index[at]
		for candidates := g.match(tagOf(hash)); candidates != 0; candidates &= candidates - 1 {
			if entry := candidates.first(); g.slots[entry] == i {
				return position{at, entry}
			}
		}
	}
}

// addEntry adds an entry for slot i, which must have none.
func (s *slots) addEntry(hash, i uint32) {
	for at := s.homeGroup(hash); ; at = s.nextGroup(at) {
		g := &s.index[at]
		if empty := g.empty(); empty != 0 {
			entry := empty.first()
			g.tags[entry] = tagOf(hash)
			g.slots[entry] = i
			return
		}
		g.overflow++
	}
}

// removeEntry removes the entry at pos, which has the given hash.
func (s *slots) removeEntry(hash uint32, pos position) {
	for passed := s.homeGroup(hash); passed != pos.group; passed = s.nextGroup(passed) {
		s.index[passed].overflow--
	}
	g := &s.index[pos.group]
	g.tags[pos.entry] = 0
	g.slots[pos.entry] = 0
}

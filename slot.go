// SPDX-License-Identifier: MIT

package dsm

import (
	"encoding/binary"
	"hash/maphash"
	"math/bits"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync/atomic"
)

// Sock stands for a local DTLS socket: RIOT's sock_dtls_t *. It is an opaque
// handle, to be compared with == and copied at will, and belongs to no table.
// The zero Sock is a sock like any other: the one of a program that has only one.
type Sock struct{ id uint64 }

var lastSock atomic.Uint64

// NewSock returns a Sock that differs from every other one in this process. It
// may be called concurrently.
func NewSock() Sock { return Sock{id: lastSock.Add(1)} }

// PeerOf returns the endpoint of addr as the table keys it: an IPv4-mapped IPv6
// address unmapped, the zone kept. It is false for an address that holds no IP
// address and port. Addresses other than those of package net are read through
// their AddrPort method if they have one, or else from their String.
func PeerOf(addr net.Addr) (netip.AddrPort, bool) {
	var peer netip.AddrPort
	switch a := addr.(type) {
	case nil:
		return netip.AddrPort{}, false
	case interface{ AddrPort() netip.AddrPort }: // *net.UDPAddr among them
		peer = a.AddrPort()
	default:
		var err error
		if peer, err = netip.ParseAddrPort(a.String()); err != nil {
			return netip.AddrPort{}, false
		}
	}
	return unmap(peer), peer.IsValid()
}

// unmap gives both spellings of an IPv4 peer one: a dual-stack socket reports
// ::ffff:192.0.2.1.
func unmap(peer netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port())
}

const (
	// maxSlots bounds a table at some 5 GB, so that a slip of the pen is an error.
	maxSlots = 1 << 26
	// minSocks and slotsPerSock say for how many socks New takes memory: that
	// many, and one more for so many slots. Should ever more of them hold
	// sessions at one time, their list grows by appending.
	minSocks     = 64
	slotsPerSock = 64
	// groupSlots is how many slots a group of the index has room for: what fits
	// into a cache line. groupLoad is how many come to one when all are taken.
	groupSlots = 12
	groupLoad  = 9
)

// group is a bucket of the index, 64 bytes. A slot's hash tells its home group, and
// gives the tag by which the group is searched: seven bits that most others do not
// have. What finds its home full goes to the next group that is not; over counts
// these for every group that they passed, so that a search knows when to end, and
// removals leave no trace.
type group struct {
	tags  [groupSlots]uint8 // 0: empty
	over  uint32
	slots [groupSlots]uint32
}

// place is where in the index a slot is.
type place struct {
	group uint32
	n     int
}

// tagOf has its high bit set: no tag is 0.
func tagOf(hash uint32) uint8 { return uint8(hash) | 0x80 }

// places are some of a group's, a bit each: bit 7 of byte n is place n, and bit 3
// place 8 + n. The tags are compared all at once, as the bytes of two words.
type places uint64

const (
	lowBits  = 0x7f7f7f7f7f7f7f7f
	highBits = 0x8080808080808080
)

// first returns the first of some places, of which there must be one.
func (p places) first() int {
	bit := bits.TrailingZeros64(uint64(p))
	return bit>>3 | ^bit<<1&8
}

func (g *group) words() (lo, hi uint64) {
	return binary.LittleEndian.Uint64(g.tags[:8]), uint64(binary.LittleEndian.Uint32(g.tags[8:]))
}

// match returns the places with a tag.
func (g *group) match(tag uint8) places {
	lo, hi := g.words()
	all := uint64(tag) * 0x0101010101010101
	lo, hi = lo^all, hi^all // a byte that matches is zero now
	lo = ^((lo&lowBits + lowBits) | lo | lowBits)
	hi = ^((hi&lowBits + lowBits) | hi | lowBits) // the tag is not 0, so neither are the upper bytes
	return places(lo | hi>>4)
}

// empty returns the places without a tag.
func (g *group) empty() places {
	lo, hi := g.words()
	return places(^lo&highBits | ^hi&(highBits>>32)>>4)
}

// slot is room for one session, its value apart. It is 64 bytes, a cache line, so
// that finding a session and marking its use meet few lines. A free slot is zero
// but for gen, and ring.next, which is the next free slot.
type slot struct {
	addr  netip.Addr
	port  uint16
	state State
	hash  uint32 // of (sock, peer)
	used  uint64 // the access counter at the last use; 0: the slot is free
	ring  ring   // in the list that its state and sock tell
	sock  uint32 // an index into slots.socks
	gen   uint32 // how often the slot was freed: what tells handles apart
	_     [8]byte
}

// sockList is a sock that holds sessions.
type sockList struct {
	id       uint64
	oldest   uint32 // of the list of its established sessions; 0: there is none
	sessions uint32 // its sessions in either state; 0: the entry is free
	next     uint32 // the next sock of the same head, or the next free entry
}

// slots is the slot array without its values: which sessions there are, where
// they are found and in what order they were used. It is plain data; Table locks.
//
// Slots are numbered from 1, so that 0 is "none" everywhere. Invariants:
//   - a slot is either in the free list, or in the index, in the list of its state
//     and sock, and counted by its sock;
//   - used = established + half-open, and the free list holds the rest;
//   - a slot is in its home group of the index or in one behind it, and is counted
//     by over of all from the home to the one before.
type slots struct {
	// Set in newSlots, never changed.
	// The secrets of the hash, for peers choose their addresses and ports.
	seed   maphash.Seed // for IPv6
	secret [3]uint64    // for IPv4; the factors are odd

	index []group
	array []slot // array[0] stands for "no slot"

	uses     uint64 // the access counter: how many uses there were
	halfOpen uint32 // the oldest of the list of sessions in StateHandshake; 0: there is none

	free        uint32 // the first free slot; the next is array[free].ring.next
	used        int    // slots taken
	established int    // of these, in StateEstablished

	socks     []sockList // socks[0] stands for "no sock"
	sockHeads []uint32   // by the low bits of the id, which the program counts up
	freeSock  uint32
}

func newSlots(n int) slots {
	socks := min(n, minSocks+n/slotsPerSock)
	s := slots{
		seed:      maphash.MakeSeed(),
		secret:    [3]uint64{rand.Uint64(), rand.Uint64() | 1, rand.Uint64() | 1},
		index:     make([]group, n/groupLoad+1),
		array:     make([]slot, n+1),
		socks:     make([]sockList, 1, socks+1),
		sockHeads: make([]uint32, 1<<bits.Len(uint(socks-1))),
	}
	for i := n; i > 0; i-- {
		s.release(uint32(i))
	}
	return s
}

// key returns the peer as it is kept, with the hash of (sock, peer). It needs no
// lock.
func (s *slots) key(sock Sock, peer netip.AddrPort) (uint32, netip.AddrPort) {
	addr := peer.Addr()
	if addr.Is4In6() {
		addr = addr.Unmap()
		peer = netip.AddrPortFrom(addr, peer.Port())
	}
	var h uint64
	if addr.Is4() {
		// Two multiplications by secret numbers, folded: what maphash does with
		// eight bytes where there is no AES, but inline. One alone would leave
		// runs of addresses in runs.
		a := addr.As4()
		h = uint64(binary.LittleEndian.Uint32(a[:]))<<16 | uint64(peer.Port())
		hi, lo := bits.Mul64(h^s.secret[0], s.secret[1])
		hi, lo = bits.Mul64(hi^lo, s.secret[2])
		h = hi ^ lo
	} else {
		h = maphash.Comparable(s.seed, peer)
	}
	// Only the peer is chosen by strangers. The odd factor (2^64 over the golden
	// ratio) spreads the sock's counter over the high bits, which are kept.
	return uint32((h + sock.id*0x9E3779B97F4A7C15) >> 32), peer
}

// home is the group in which the search for a hash begins.
func (s *slots) home(hash uint32) uint32 {
	return uint32(uint64(hash) * uint64(len(s.index)) >> 32)
}

// next is the group behind, around the end.
func (s *slots) next(group uint32) uint32 {
	if group++; int(group) < len(s.index) {
		return group
	}
	return 0
}

// find returns the slot of (sock, peer) and its place in the index, or 0.
func (s *slots) find(hash uint32, sock Sock, peer netip.AddrPort) (uint32, place) {
	home := s.home(hash)
	for at := home; ; {
		g := &s.index[at]
		for p := g.match(tagOf(hash)); p != 0; p &= p - 1 {
			n := p.first()
			if i := g.slots[n]; s.is(i, sock, peer) {
				return i, place{at, n}
			}
		}
		if g.over == 0 {
			return 0, place{}
		}
		// Every group can have been passed, also while slots are free.
		if at = s.next(at); at == home {
			return 0, place{}
		}
	}
}

func (s *slots) is(i uint32, sock Sock, peer netip.AddrPort) bool {
	p := &s.array[i]
	return p.addr == peer.Addr() && p.port == peer.Port() && s.socks[p.sock].id == sock.id
}

// placeOf returns the place of a taken slot.
func (s *slots) placeOf(i uint32) place {
	hash := s.array[i].hash
	for at := s.home(hash); ; at = s.next(at) {
		g := &s.index[at]
		for p := g.match(tagOf(hash)); p != 0; p &= p - 1 {
			if n := p.first(); g.slots[n] == i {
				return place{at, n}
			}
		}
	}
}

// addIndex enters a slot that is not there, under its hash.
func (s *slots) addIndex(hash, i uint32) {
	for at := s.home(hash); ; at = s.next(at) {
		g := &s.index[at]
		if p := g.empty(); p != 0 {
			n := p.first()
			g.tags[n] = tagOf(hash)
			g.slots[n] = i
			return
		}
		g.over++
	}
}

// dropIndex takes out the slot with a hash that is at a place.
func (s *slots) dropIndex(hash uint32, at place) {
	for passed := s.home(hash); passed != at.group; passed = s.next(passed) {
		s.index[passed].over--
	}
	g := &s.index[at.group]
	g.tags[at.n] = 0
	g.slots[at.n] = 0
}

// take gives (sock, peer), which is not there, a slot in that state, used now. One
// must be free.
func (s *slots) take(hash uint32, sock Sock, peer netip.AddrPort, state State) uint32 {
	i := s.free
	p := &s.array[i]
	s.free = p.ring.next
	s.used++
	s.addIndex(hash, i)
	p.addr, p.port, p.hash = peer.Addr(), peer.Port(), hash
	p.sock = s.joinSock(sock)
	p.state = state
	if state == StateEstablished {
		s.established++
	}
	s.uses++
	p.used = s.uses
	enter(s.array, s.listOf(p), i)
	return i
}

// drop frees a taken slot. Handles to it do nothing from now on.
func (s *slots) drop(at place, i uint32) {
	p := &s.array[i]
	s.dropIndex(p.hash, at)
	leave(s.array, s.listOf(p), i)
	if p.state == StateEstablished {
		s.established--
	}
	s.leaveSock(p.sock)
	s.used--
	*p = slot{gen: p.gen + 1}
	s.release(i)
}

// release puts a slot at the front of the free list.
func (s *slots) release(i uint32) {
	s.array[i].ring.next = s.free
	s.free = i
}

// use makes a taken slot the one used last.
func (s *slots) use(i uint32) {
	p := &s.array[i]
	s.uses++
	p.used = s.uses
	toNewest(s.array, s.listOf(p), i)
}

// establish ends the handshake of a slot that was used just now.
func (s *slots) establish(i uint32) {
	p := &s.array[i]
	leave(s.array, &s.halfOpen, i)
	p.state = StateEstablished
	enter(s.array, &s.socks[p.sock].oldest, i)
	s.established++
}

// listOf is the list that a taken slot is in, by its oldest.
func (s *slots) listOf(p *slot) *uint32 {
	if p.state == StateEstablished {
		return &s.socks[p.sock].oldest
	}
	return &s.halfOpen
}

// list is that of a sock's established sessions, or of the half-open ones for 0.
func (s *slots) list(sock uint32) *uint32 {
	if sock == 0 {
		return &s.halfOpen
	}
	return &s.socks[sock].oldest
}

// state of a slot: StateNone if it is free.
func (s *slots) state(i uint32) State { return s.array[i].state }

func (s *slots) peer(i uint32) netip.AddrPort {
	return netip.AddrPortFrom(s.array[i].addr, s.array[i].port)
}

// held says whether the session of a handle is still there: a slot's gen changes
// when it is freed, and there is no handle to a slot that was not taken.
func (s *slots) held(i, gen uint32) bool { return s.array[i].gen == gen }

// lru returns the established slot of sock whose last use is oldest, or 0.
func (s *slots) lru(sock Sock) uint32 {
	return s.socks[s.findSock(sock)].oldest // 0 in socks[0]
}

func (s *slots) sockHead(sock Sock) *uint32 {
	return &s.sockHeads[sock.id&uint64(len(s.sockHeads)-1)]
}

// findSock returns the entry of a sock that holds sessions, or 0.
func (s *slots) findSock(sock Sock) uint32 {
	n := *s.sockHead(sock)
	for n != 0 && s.socks[n].id != sock.id {
		n = s.socks[n].next
	}
	return n
}

// joinSock counts a session in, and returns its sock's entry.
func (s *slots) joinSock(sock Sock) uint32 {
	n := s.findSock(sock)
	if n == 0 {
		if n = s.freeSock; n != 0 {
			s.freeSock = s.socks[n].next
		} else {
			n = uint32(len(s.socks))
			s.socks = append(s.socks, sockList{})
		}
		head := s.sockHead(sock)
		s.socks[n] = sockList{id: sock.id, next: *head}
		*head = n
	}
	s.socks[n].sessions++
	return n
}

// leaveSock counts a session out.
func (s *slots) leaveSock(n uint32) {
	list := &s.socks[n]
	if list.sessions--; list.sessions > 0 {
		return
	}
	at := s.sockHead(Sock{list.id})
	for *at != n {
		at = &s.socks[*at].next
	}
	*at = list.next
	*list = sockList{next: s.freeSock}
	s.freeSock = n
}

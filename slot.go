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
	// maxSlots bounds a table, for an index entry holds a slot's number and its
	// distance in 32 bits.
	maxSlots = 1 << 26
	// distBits is how many bits of an index entry tell its distance from home.
	distBits = 5
	maxDist  = 1<<distBits - 1
	// minIndex keeps the probing short in small tables, for nearly no memory.
	minIndex = 64
	// minSocks and slotsPerSock say for how many socks New takes memory: that
	// many, and one more for so many slots. Should ever more of them hold
	// sessions at one time, their list grows by appending.
	minSocks     = 64
	slotsPerSock = 64
)

// slot is room for one session, its value apart. It is 64 bytes, a cache line, so
// that finding a session and marking its use meet few lines. A free slot is zero
// but for gen, and next in rings[allRing], which is the next free slot.
type slot struct {
	addr  netip.Addr
	port  uint16
	hash  uint32         // of (sock, peer)
	used  uint64         // the access counter at the last use; 0: the slot is free
	rings [numRings]ring // in sockRing if and only if the session is established
	sock  uint32         // an index into slots.socks
	gen   uint32         // how often the slot was freed: what tells handles apart
}

// sockList is a sock that holds sessions.
type sockList struct {
	id       uint64
	oldest   uint32 // where the ring of its established sessions begins; 0: there is none
	sessions uint32 // its sessions in either state; 0: the entry is free
	next     uint32 // the next sock of the same head, or the next free entry
}

// slots is the slot array without its values: which sessions there are, where
// they are found and in what order they were used. It is plain data; Table locks.
//
// Slots are numbered from 1, so that 0 is "none" everywhere. Invariants:
//   - a slot is either in the free list, or in the index, in the ring of all
//     sessions and counted by its sock;
//   - used = established + half-open, and the free list holds the rest;
//   - an index entry is (tag, distance from home, slot); from its home to its
//     place no entry is empty.
type slots struct {
	// Set in newSlots, never changed.
	// The secrets of the hash, for peers choose their addresses and ports.
	seed   maphash.Seed // for IPv6
	secret [3]uint64    // for IPv4; the factors are odd

	slotBits uint8 // the low bits of an index entry: the slot

	index []uint32 // open addressing with linear probing; 0: empty
	array []slot   // array[0] stands for "no slot"

	uses   uint64 // the access counter: how many uses there were
	oldest uint32 // where the ring of all sessions begins; 0: there is none

	free        uint32 // the first free slot; the next is links[free].rings[allRing].next
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
		slotBits:  uint8(bits.Len(uint(n))),
		index:     make([]uint32, max(n+n*3/4, minIndex)), // at most 4/7 full
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

// home is where in the index the probing for a hash begins.
func (s *slots) home(hash uint32) uint32 {
	return uint32(uint64(hash) * uint64(len(s.index)) >> 32)
}

// entry packs an index entry. The tag is as much of the hash as there is room
// for; the hash's high bits made the home, so it is taken from the low ones.
func (s *slots) entry(hash, dist, slot uint32) uint32 {
	return (hash<<distBits|min(dist, maxDist))<<(s.slotBits&31) | slot
}

func (s *slots) slotOf(entry uint32) uint32 {
	return entry & (1<<(s.slotBits&31) - 1)
}

// place is where in the index a session is or belongs.
type place struct {
	pos   uint32
	entry uint32 // what it looks like there, without the slot
}

// find returns the slot of (sock, peer), or 0, and its place.
func (s *slots) find(hash uint32, sock Sock, peer netip.AddrPort) (uint32, place) {
	index := s.index
	pos := s.home(hash)
	// want is what an entry of this hash looks like at this distance.
	for want := s.entry(hash, 0, 0); ; want = s.further(want) {
		e := index[pos]
		if slot := s.slotOf(e); e-slot == want && slot != 0 {
			p := &s.array[slot]
			if p.addr == peer.Addr() && p.port == peer.Port() && s.socks[p.sock].id == sock.id {
				return slot, place{pos, want}
			}
		} else if e == 0 {
			return 0, place{pos, want}
		}
		if pos++; int(pos) == len(index) {
			pos = 0
		}
	}
}

// further is an entry at the next distance.
func (s *slots) further(entry uint32) uint32 {
	if entry>>(s.slotBits&31)&maxDist == maxDist {
		return entry
	}
	return entry + 1<<(s.slotBits&31)
}

// placeOf returns the place of a taken slot.
func (s *slots) placeOf(slot uint32) place {
	pos := s.home(s.array[slot].hash)
	for s.slotOf(s.index[pos]) != slot {
		pos = s.after(pos)
	}
	return place{pos: pos}
}

// dropIndex removes an entry. It moves up the entries behind that would no
// longer be found across the gap, so that removals leave no trace.
func (s *slots) dropIndex(at place) {
	gap := at.pos
	for pos := s.after(gap); s.index[pos] != 0; pos = s.after(pos) {
		e := s.index[pos]
		shift := s.distance(gap, pos)
		dist := e >> (s.slotBits & 31) & maxDist
		if dist == maxDist { // or more
			dist = s.distance(s.home(s.array[s.slotOf(e)].hash), pos)
		}
		if dist < shift {
			continue // its home is behind the gap
		}
		if dist-shift < maxDist {
			e = e&^(maxDist<<(s.slotBits&31)) | (dist-shift)<<(s.slotBits&31)
		}
		s.index[gap] = e
		gap = pos
	}
	s.index[gap] = 0
}

func (s *slots) after(pos uint32) uint32 {
	if pos++; int(pos) < len(s.index) {
		return pos
	}
	return 0
}

// distance is how many places to lies behind from, around the end.
func (s *slots) distance(from, to uint32) uint32 {
	if to < from {
		to += uint32(len(s.index))
	}
	return to - from
}

// take gives (sock, peer), which find did not find, a slot in StateHandshake,
// used now. One must be free.
func (s *slots) take(at place, hash uint32, sock Sock, peer netip.AddrPort) uint32 {
	i := s.free
	p := &s.array[i]
	s.free = p.rings[allRing].next
	s.used++
	s.index[at.pos] = at.entry | i
	p.addr, p.port, p.hash = peer.Addr(), peer.Port(), hash
	p.sock = s.joinSock(sock)
	s.uses++
	p.used = s.uses
	enter(s.array, allRing, &s.oldest, i)
	return i
}

// drop frees a taken slot. Handles to it do nothing from now on.
func (s *slots) drop(at place, i uint32) {
	p := &s.array[i]
	s.dropIndex(at)
	if s.state(i) == StateEstablished {
		leave(s.array, sockRing, &s.socks[p.sock].oldest, i)
		s.established--
	}
	leave(s.array, allRing, &s.oldest, i)
	s.leaveSock(p.sock)
	s.used--
	*p = slot{gen: p.gen + 1}
	s.release(i)
}

// release puts a slot at the front of the free list.
func (s *slots) release(i uint32) {
	s.array[i].rings[allRing].next = s.free
	s.free = i
}

// use makes a taken slot the one used last.
func (s *slots) use(i uint32) {
	p := &s.array[i]
	s.uses++
	p.used = s.uses
	toNewest(s.array, allRing, &s.oldest, i)
	if s.state(i) == StateEstablished {
		toNewest(s.array, sockRing, &s.socks[p.sock].oldest, i)
	}
}

// establish ends the handshake of a slot that was used just now.
func (s *slots) establish(i uint32) {
	enter(s.array, sockRing, &s.socks[s.array[i].sock].oldest, i)
	s.established++
}

// state of a taken slot.
func (s *slots) state(i uint32) State {
	if s.array[i].rings[sockRing].next == 0 {
		return StateHandshake
	}
	return StateEstablished
}

func (s *slots) peer(i uint32) netip.AddrPort {
	return netip.AddrPortFrom(s.array[i].addr, s.array[i].port)
}

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

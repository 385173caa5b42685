// SPDX-License-Identifier: MIT

package dsm

import (
	"hash/maphash"
	"math/bits"
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
	// minSocks and slotsPerSock say for how many socks New takes memory: that
	// many, and one more for so many slots. Should ever more of them hold
	// sessions at one time, their list grows by appending.
	minSocks     = 64
	slotsPerSock = 64
)

// peerKey is a slot's peer and its hash: 32 bytes, two to a cache line.
type peerKey struct {
	addr netip.Addr
	port uint16
	hash uint32
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
	seed     maphash.Seed // peers choose their addresses and ports
	slotBits uint8        // the low bits of an index entry: the slot

	index []uint32 // open addressing with linear probing; 0: empty
	peers []peerKey
	order order

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
		slotBits:  uint8(bits.Len(uint(n))),
		index:     make([]uint32, n+n/2+1), // at most two thirds full, never full
		peers:     make([]peerKey, n+1),
		order:     order{links: make([]link, n+1)},
		socks:     make([]sockList, 1, socks+1),
		sockHeads: make([]uint32, 1<<bits.Len(uint(socks-1))),
	}
	for i := n; i > 0; i-- {
		s.release(uint32(i))
	}
	return s
}

// hash needs no lock.
func (s *slots) hash(sock Sock, peer netip.AddrPort) uint32 {
	// Only the peer is chosen by strangers. The odd factor (2^64 over the golden
	// ratio) spreads the sock's counter over the high bits, which are kept.
	return uint32((maphash.Comparable(s.seed, peer) + sock.id*0x9E3779B97F4A7C15) >> 32)
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

// find returns the slot of (sock, peer), or 0.
func (s *slots) find(hash uint32, sock Sock, peer netip.AddrPort) uint32 {
	index := s.index
	pos := s.home(hash)
	// What an entry of this hash looks like at this distance, slot apart.
	dist := uint32(0)
	for {
		e := index[pos]
		if e == 0 {
			return 0
		}
		if slot := s.slotOf(e); e == s.entry(hash, dist, slot) {
			p := &s.peers[slot]
			if p.port == peer.Port() && p.addr == peer.Addr() && s.socks[s.order.links[slot].sock].id == sock.id {
				return slot
			}
		}
		dist++
		if pos++; int(pos) == len(index) {
			pos = 0
		}
	}
}

// addIndex enters slot under hash.
func (s *slots) addIndex(hash, slot uint32) {
	pos := s.home(hash)
	for dist := uint32(0); ; dist++ {
		if s.index[pos] == 0 {
			s.index[pos] = s.entry(hash, dist, slot)
			return
		}
		pos = s.after(pos)
	}
}

// dropIndex removes the entry of slot. It moves up the entries behind that would
// no longer be found across the gap, so that removals leave no trace.
func (s *slots) dropIndex(slot uint32) {
	gap := s.home(s.peers[slot].hash)
	for s.slotOf(s.index[gap]) != slot {
		gap = s.after(gap)
	}
	for pos := s.after(gap); s.index[pos] != 0; pos = s.after(pos) {
		e := s.index[pos]
		shift := s.distance(gap, pos)
		dist := e >> (s.slotBits & 31) & maxDist
		if dist == maxDist { // or more
			dist = s.distance(s.home(s.peers[s.slotOf(e)].hash), pos)
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

// take gives (sock, peer), which is not there, a slot in StateHandshake, used
// now; 0 if none is free.
func (s *slots) take(hash uint32, sock Sock, peer netip.AddrPort) uint32 {
	i := s.free
	if i == 0 {
		return 0
	}
	l := &s.order.links[i]
	s.free = l.rings[allRing].next
	s.used++
	s.peers[i] = peerKey{addr: peer.Addr(), port: peer.Port(), hash: hash}
	s.addIndex(hash, i)
	l.sock = s.joinSock(sock)
	s.order.stamp(i)
	s.order.oldest = s.order.insert(allRing, s.order.oldest, i)
	return i
}

// drop frees a taken slot. Handles to it do nothing from now on.
func (s *slots) drop(i uint32) {
	s.dropIndex(i)
	s.peers[i] = peerKey{}
	l := &s.order.links[i]
	if s.state(i) == StateEstablished {
		list := &s.socks[l.sock]
		list.oldest = s.order.remove(sockRing, list.oldest, i)
		s.established--
	}
	s.order.oldest = s.order.remove(allRing, s.order.oldest, i)
	s.leaveSock(l.sock)
	l.used = 0
	l.sock = 0
	l.gen++
	s.used--
	s.release(i)
}

// release puts a slot at the front of the free list.
func (s *slots) release(i uint32) {
	s.order.links[i].rings[allRing].next = s.free
	s.free = i
}

// use makes a taken slot the one used last.
func (s *slots) use(i uint32) {
	o := &s.order
	o.stamp(i)
	o.oldest = o.toNewest(allRing, o.oldest, i)
	if s.state(i) == StateEstablished {
		list := &s.socks[o.links[i].sock]
		list.oldest = o.toNewest(sockRing, list.oldest, i)
	}
}

// establish ends the handshake of a slot that was used just now.
func (s *slots) establish(i uint32) {
	list := &s.socks[s.order.links[i].sock]
	list.oldest = s.order.insert(sockRing, list.oldest, i)
	s.established++
}

// state of a taken slot.
func (s *slots) state(i uint32) State {
	if s.order.links[i].rings[sockRing].next == 0 {
		return StateHandshake
	}
	return StateEstablished
}

func (s *slots) peer(i uint32) netip.AddrPort {
	return netip.AddrPortFrom(s.peers[i].addr, s.peers[i].port)
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

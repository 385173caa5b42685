// SPDX-License-Identifier: MIT

package dsm

import (
	"net"
	"net/netip"
	"sync/atomic"
)

// Sock identifies a local DTLS socket: RIOT's sock_dtls_t *. A Sock is opaque,
// belongs to no table, and may be copied and compared with ==. The zero Sock is
// valid; a program with one socket needs no other.
type Sock struct{ id uint64 }

var lastSockID atomic.Uint64

// NewSock returns a Sock that differs from the zero Sock and from every other one
// that NewSock returned in this process. NewSock is safe for concurrent use.
func NewSock() Sock { return Sock{id: lastSockID.Add(1)} }

// PeerOf returns the endpoint of addr as a table stores it: an IPv4-mapped IPv6
// address as the IPv4 address, and with the zone. It returns false if addr has no
// IP address and port. PeerOf calls the AddrPort method of addr, as *net.UDPAddr
// has it, and parses the result of String if there is no such method.
func PeerOf(addr net.Addr) (netip.AddrPort, bool) {
	var peer netip.AddrPort
	switch a := addr.(type) {
	case nil:
		return netip.AddrPort{}, false
	case interface{ AddrPort() netip.AddrPort }:
		peer = a.AddrPort()
	default:
		var err error
		if peer, err = netip.ParseAddrPort(a.String()); err != nil {
			return netip.AddrPort{}, false
		}
	}
	return unmap(peer), peer.IsValid()
}

// unmap returns peer with an IPv4-mapped IPv6 address replaced by the IPv4 address.
// A dual-stack socket reports the peer 192.0.2.1 as ::ffff:192.0.2.1.
func unmap(peer netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port())
}

const (
	// New reserves room for minSocks socks, and for one more for each slotsPerSock
	// slots. The list of socks grows if more socks have sessions at one time.
	minSocks     = 64
	slotsPerSock = 64
)

// sockEntry is a sock that has sessions in the table.
type sockEntry struct {
	id       uint64 // Sock.id
	oldest   uint32 // the list of its established sessions; 0: the list is empty
	sessions uint32 // the number of its sessions in either state; 0: the entry is free
	next     uint32 // the next entry of the same bucket, or the next free entry
}

// sockBucket returns the first entry of the bucket of sock. The low bits of the id
// select the bucket; NewSock counts the ids up, so they spread evenly.
func (s *slots) sockBucket(sock Sock) *uint32 {
	return &s.sockBuckets[sock.id&uint64(len(s.sockBuckets)-1)]
}

// findSock returns the entry of sock, or 0 if sock has no sessions.
func (s *slots) findSock(sock Sock) uint32 {
	n := *s.sockBucket(sock)
	for n != 0 && s.socks[n].id != sock.id {
		n = s.socks[n].next
	}
	return n
}

// acquireSock returns the entry of sock, which it adds if necessary, and counts one
// more session of it.
func (s *slots) acquireSock(sock Sock) uint32 {
	n := s.findSock(sock)
	if n == 0 {
		if n = s.firstFreeSock; n != 0 {
			s.firstFreeSock = s.socks[n].next
		} else {
			n = uint32(len(s.socks))
			s.socks = append(s.socks, sockEntry{})
		}
		bucket := s.sockBucket(sock)
		s.socks[n] = sockEntry{id: sock.id, next: *bucket}
		*bucket = n
	}
	s.socks[n].sessions++
	return n
}

// releaseSock counts one session less of the sock in entry n, and frees the entry
// after the last session.
func (s *slots) releaseSock(n uint32) {
	entry := &s.socks[n]
	if entry.sessions--; entry.sessions > 0 {
		return
	}
	link := s.sockBucket(Sock{entry.id})
	for *link != n {
		link = &s.socks[*link].next
	}
	*link = entry.next
	*entry = sockEntry{next: s.firstFreeSock}
	s.firstFreeSock = n
}

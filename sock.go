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

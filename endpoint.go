// SPDX-License-Identifier: MIT

package dsm

import (
	"encoding/binary"
	"net/netip"
)

// endpoint is the peer of a session without pointers, so that the garbage collector
// does not visit the slots, and in words that are compared without branches. Equal
// peers have equal endpoints.
type endpoint struct {
	high, low uint64 // the address; an IPv4 address in its IPv4-mapped form
	zone      uint32 // noZone, noAddress, or the number of a zone, which is an index into slots.zones
	port      uint16
}

const (
	noZone    = iota // a valid address without a zone
	noAddress        // the zero netip.Addr
	namedZone        // an address with a zone whose number is not known yet
	firstZone        // the lowest number of a zone
)

// ipv4Mapped is the low word of an IPv4-mapped address without the IPv4 address.
const ipv4Mapped = 0xffff << 32

// endpoint6 returns the endpoint of a peer whose address is not an IPv4 or IPv4-mapped
// one. If the address has a zone, the zone of the endpoint is namedZone; withZone sets
// its number.
func endpoint6(peer netip.AddrPort) endpoint {
	addr := peer.Addr()
	a := addr.As16()
	e := endpoint{high: binary.BigEndian.Uint64(a[:8]), low: binary.BigEndian.Uint64(a[8:]), port: peer.Port()}
	if addr.Zone() != "" {
		e.zone = namedZone
	} else if !addr.IsValid() {
		e.zone = noAddress
	}
	return e
}

// differs returns 0 if e is the endpoint of the session in a taken slot.
func (p *slot) differs(e endpoint) uint64 {
	return p.high ^ e.high | p.low ^ e.low | uint64(p.zone^e.zone) | uint64(p.port^e.port)
}

// peer returns the peer of the session in a taken slot.
func (s *slots) peer(i uint32) netip.AddrPort {
	p := &s.array[i]
	var addr netip.Addr
	switch {
	case p.high == 0 && p.low>>32 == ipv4Mapped>>32:
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], uint32(p.low))
		addr = netip.AddrFrom4(a)
	case p.zone != noAddress:
		var a [16]byte
		binary.BigEndian.PutUint64(a[:8], p.high)
		binary.BigEndian.PutUint64(a[8:], p.low)
		addr = netip.AddrFrom16(a)
		if p.zone != noZone {
			addr = addr.WithZone(s.zones[p.zone].addr.Zone())
		}
	}
	return netip.AddrPortFrom(addr, p.port)
}

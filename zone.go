// SPDX-License-Identifier: MIT

package dsm

import "net/netip"

// reservedZones is the number of zones that New reserves room for.
const reservedZones = 16

// zone is the zone of the IPv6 addresses of some peers: the name of a network
// interface. A machine has few, so a search visits them all. Interfaces come and go in
// the life of a table, so a zone without sessions gives its number to another zone.
type zone struct {
	addr     netip.Addr // an address with the zone, so that WithZone finds the name and allocates nothing
	sessions uint32     // the number of sessions whose peer has the zone
}

// withZone returns the endpoint of peer with the number of its zone. The number is
// valid while a session has the zone, and else until the next call.
func (s *slots) withZone(e endpoint, peer netip.AddrPort) endpoint {
	if e.zone == namedZone {
		e.zone = s.zoneNumber(peer.Addr())
	}
	return e
}

// zoneNumber returns the number of the zone of addr, which it adds if necessary.
func (s *slots) zoneNumber(addr netip.Addr) uint32 {
	unused := 0
	for n := firstZone; n < len(s.zones); n++ {
		if s.zones[n].addr.Zone() == addr.Zone() {
			return uint32(n)
		}
		if s.zones[n].sessions == 0 {
			unused = n
		}
	}
	if unused == 0 {
		unused = len(s.zones)
		s.zones = append(s.zones, zone{})
	}
	s.zones[unused].addr = addr
	return uint32(unused)
}

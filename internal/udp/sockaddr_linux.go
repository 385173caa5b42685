// SPDX-License-Identifier: MIT

package udp

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// sockaddr has room for a struct sockaddr_in6, or for a struct sockaddr_in, which is shorter.
type sockaddr [unix.SizeofSockaddrInet6]byte

// set stores an address and returns its length in bytes. An IPv4-mapped address becomes an
// IPv4 address, which a dual-stack socket accepts too. The zero AddrPort becomes [::]:0, to
// which the kernel sends nothing.
func (s *sockaddr) set(a netip.AddrPort) (length uint32) {
	ip := a.Addr()
	binary.BigEndian.PutUint16(s[2:], a.Port())
	if ip.Is4() || ip.Is4In6() {
		binary.NativeEndian.PutUint16(s[:], unix.AF_INET)
		ip4 := ip.As4()
		copy(s[4:8], ip4[:])
		clear(s[8:unix.SizeofSockaddrInet4])
		return unix.SizeofSockaddrInet4
	}
	binary.NativeEndian.PutUint16(s[:], unix.AF_INET6)
	clear(s[4:8]) // the flow label
	ip16 := ip.As16()
	copy(s[8:24], ip16[:])
	binary.NativeEndian.PutUint32(s[24:], zoneIndex(ip.Zone()))
	return unix.SizeofSockaddrInet6
}

// addrPort returns the address that the kernel has stored, with an IPv4-mapped address as an
// IPv4 address. length is the one that the kernel has set. The address is zero if there is none.
func (s *sockaddr) addrPort(length uint32) netip.AddrPort {
	var ip netip.Addr
	switch family := binary.NativeEndian.Uint16(s[:]); {
	case family == unix.AF_INET && length >= unix.SizeofSockaddrInet4:
		ip = netip.AddrFrom4([4]byte(s[4:8]))
	case family == unix.AF_INET6 && length >= unix.SizeofSockaddrInet6:
		ip = netip.AddrFrom16([16]byte(s[8:24])).Unmap()
		if index := binary.NativeEndian.Uint32(s[24:]); index != 0 {
			ip = ip.WithZone(zoneName(index)) // ignored for an IPv4 address
		}
	default:
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(s[2:]))
}

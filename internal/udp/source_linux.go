// SPDX-License-Identifier: MIT

package udp

import (
	"encoding/binary"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"
)

// Addr returns the local address of a Source, or the zero Addr. A link-local address has the
// number of its interface as zone.
func (s Source) Addr() netip.Addr {
	if s.n == 0 {
		return netip.Addr{}
	}
	h, data, _, err := unix.ParseOneSocketControlMessage(s.oob[:s.n])
	switch {
	case err != nil:
	case h.Level == unix.IPPROTO_IP && len(data) >= unix.SizeofInet4Pktinfo:
		// ipi_spec_dst, from which an answer leaves, and not ipi_addr.
		return netip.AddrFrom4([4]byte(data[4:8]))
	case h.Level == unix.IPPROTO_IPV6 && len(data) >= unix.SizeofInet6Pktinfo:
		addr := netip.AddrFrom16([16]byte(data)).Unmap()
		if index := binary.NativeEndian.Uint32(data[16:]); index != 0 {
			addr = addr.WithZone(strconv.FormatUint(uint64(index), 10))
		}
		return addr
	}
	return netip.Addr{}
}

// SourceOf returns the Source with a local address, for datagrams that this socket writes. It
// returns the zero Source for the zero Addr, for a socket that is bound to an address, and
// for an address of a family that the socket does not have.
func (s *Socket) SourceOf(addr netip.Addr) (source Source) {
	b, ok := s.io.(*batchIO)
	if !ok || !addr.IsValid() || b.in.control == nil {
		return Source{}
	}
	var message []byte
	if !b.isIPv4 {
		index, _ := strconv.ParseUint(addr.Zone(), 10, 32) // 0 if there is none
		// An IPv4 address becomes a mapped one, for an IPv4 peer.
		message = unix.PktInfo6(&unix.Inet6Pktinfo{Addr: addr.As16(), Ifindex: uint32(index)})
	} else if addr.Is4() {
		message = unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: addr.As4()})
	}
	source.n = uint8(copy(source.oob[:], message))
	return source
}

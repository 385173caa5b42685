// SPDX-License-Identifier: MIT

package udp

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"golang.org/x/sys/unix"
)

func TestSockaddrHasFormOfKernel(t *testing.T) {
	inet := binary.NativeEndian.AppendUint16(nil, unix.AF_INET)
	inet6 := binary.NativeEndian.AppendUint16(nil, unix.AF_INET6)
	var s sockaddr
	for i := range s {
		s[i] = 0xff // the memory is reused
	}
	for _, tc := range []struct {
		addr, again string
		want        []byte
	}{
		{"192.0.2.1:258", "192.0.2.1:258", append(inet, 1, 2, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0)},
		{"[fe80::1%7654321]:258", "[fe80::1%7654321]:258", binary.NativeEndian.AppendUint32(
			append(inet6, 1, 2, 0, 0, 0, 0, 0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1), 7654321)},
		{"[2001:db8::1]:2", "[2001:db8::1]:2", append(inet6, 0, 2, 0, 0, 0, 0, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0)},
		{"[::ffff:192.0.2.1]:3", "192.0.2.1:3", append(inet, 0, 3, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0)},
		{"", "[::]:0", append(inet6, make([]byte, 26)...)},
	} {
		var a netip.AddrPort
		if tc.addr != "" {
			a = netip.MustParseAddrPort(tc.addr)
		}
		n := s.set(a)
		assert.Equal(t, tc.want, s[:n], tc.addr)
		assert.Equal(t, netip.MustParseAddrPort(tc.again), s.addrPort(n))
		assert.Zero(t, s.addrPort(n-1), "too short")
	}
	var mapped sockaddr // as a dual-stack socket delivers the address of an IPv4 peer
	mapped.set(netip.MustParseAddrPort("[2001:db8::1]:2"))
	ip := netip.MustParseAddr("::ffff:192.0.2.1").As16()
	copy(mapped[8:], ip[:])
	assert.Equal(t, netip.MustParseAddrPort("192.0.2.1:2"), mapped.addrPort(unix.SizeofSockaddrInet6))
	binary.NativeEndian.PutUint16(s[:], unix.AF_UNIX)
	assert.Zero(t, s.addrPort(unix.SizeofSockaddrInet6), "not an IP address")
}

func TestAddressWithZoneAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	interfaces, err := net.Interfaces()
	if err != nil || len(interfaces) == 0 {
		t.Skip("no network interface")
	}
	a := netip.MustParseAddrPort("[fe80::1%" + interfaces[0].Name + "]:7")
	var s sockaddr
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		if s.addrPort(s.set(a)) != a {
			t.Error("another address")
		}
	}))
}

func FuzzSockaddr(f *testing.F) {
	for _, a := range []string{"192.0.2.1:258", "[fe80::1%1]:2", "[2001:db8::1]:2"} {
		var s sockaddr
		n := s.set(netip.MustParseAddrPort(a))
		f.Add(s[:], n)
	}
	f.Fuzz(func(t *testing.T, b []byte, length uint32) {
		var s sockaddr
		copy(s[:], b)
		a := s.addrPort(length)
		if !a.IsValid() {
			return
		}
		assert.False(t, a.Addr().Is4In6())
		var again sockaddr
		assert.Equal(t, a, again.addrPort(again.set(a)))
	})
}

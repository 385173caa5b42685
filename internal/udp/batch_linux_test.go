// SPDX-License-Identifier: MIT

package udp

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"golang.org/x/sys/unix"
)

// control makes a control message.
func control(level, kind int32, data []byte) []byte {
	b := make([]byte, unix.CmsgSpace(len(data)))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = level, kind
	h.SetLen(unix.CmsgLen(len(data)))
	copy(b[unix.CmsgLen(0):], data)
	return b
}

// pktinfo4 and pktinfo6 are what the kernel says about a datagram.
func pktinfo4(index uint32, answer, to string) []byte {
	b := binary.NativeEndian.AppendUint32(nil, index)
	for _, a := range []string{answer, to} {
		b = append(b, netip.MustParseAddr(a).AsSlice()...)
	}
	return control(unix.IPPROTO_IP, unix.IP_PKTINFO, b)
}

func pktinfo6(to string, index uint32) []byte {
	a := netip.MustParseAddr(to).As16()
	return control(unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, binary.NativeEndian.AppendUint32(a[:], index))
}

func TestSourceOf(t *testing.T) {
	stamp := control(unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, make([]byte, 16))
	for _, tc := range []struct {
		name      string
		got, want []byte
	}{
		{"nothing", nil, nil},
		{"another message", stamp, nil},
		{"IPv4", pktinfo4(3, "192.0.2.1", "192.0.2.1"), pktinfo4(0, "192.0.2.1", "192.0.2.1")},
		{"IPv4 multicast", pktinfo4(3, "192.0.2.1", "224.0.1.187"), pktinfo4(0, "192.0.2.1", "224.0.1.187")},
		{"IPv6", pktinfo6("2001:db8::1", 3), pktinfo6("2001:db8::1", 0)},
		{"IPv6 link-local", pktinfo6("fe80::1", 3), pktinfo6("fe80::1", 3)},
		{"IPv6 multicast", pktinfo6("ff02::fd", 3), nil},
		{"mapped", pktinfo6("::ffff:192.0.2.1", 3), pktinfo6("::ffff:192.0.2.1", 0)},
		{"mapped link-local", pktinfo6("::ffff:169.254.0.1", 3), pktinfo6("::ffff:169.254.0.1", 0)},
		{"mapped multicast", pktinfo6("::ffff:224.0.1.187", 3), nil},
		{"after another", slices.Concat(stamp, pktinfo4(3, "192.0.2.1", "192.0.2.1")), pktinfo4(0, "192.0.2.1", "192.0.2.1")},
		{"before another", slices.Concat(pktinfo6("2001:db8::1", 3), stamp), pktinfo6("2001:db8::1", 0)},
		{"two", slices.Concat(pktinfo6("2001:db8::1", 3), pktinfo6("2001:db8::2", 3)), pktinfo6("2001:db8::1", 0)},
		{"cut short", pktinfo6("2001:db8::1", 3)[:unix.CmsgLen(16)], nil},
		{"too short", control(unix.IPPROTO_IP, unix.IP_PKTINFO, make([]byte, 8)), nil},
		{"too long", control(unix.IPPROTO_IP, unix.IP_PKTINFO, make([]byte, 64)), nil},
		{"no length", make([]byte, 64), nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := sourceOf(tc.got)
			assert.True(t, bytes.Equal(tc.want, s.oob[:s.n]), "%x", s.oob[:s.n])
			assert.Equal(t, make([]byte, maxSource-s.n), s.oob[s.n:])
		})
	}
}

func FuzzSourceOf(f *testing.F) {
	f.Add(pktinfo4(3, "192.0.2.1", "192.0.2.1"))
	f.Add(pktinfo6("fe80::1", 3))
	f.Add(slices.Concat(control(unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, make([]byte, 16)), pktinfo6("2001:db8::1", 3)))
	f.Fuzz(func(t *testing.T, oob []byte) {
		s := sourceOf(oob)
		assert.True(t, bytes.Contains(oob, s.oob[:s.n]), "is copied from there, but for the interface")
		assert.Equal(t, s, sourceOf(s.oob[:s.n]))
	})
}

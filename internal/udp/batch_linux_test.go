// SPDX-License-Identifier: MIT

package udp

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"os"
	"slices"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestReadReturnsSeveralDatagramsPerCall(t *testing.T) {
	from, to := listenOne(t, "udp4", "127.0.0.1:0"), listenOne(t, "udp4", "127.0.0.1:0")
	ds := make([]Datagram, 16)
	for i := range ds {
		ds[i] = Datagram{Buf: []byte("x"), Peer: addrPort(to.LocalAddr())}
	}
	// On loopback a datagram has nearly always arrived when Write returns, but a
	// busy kernel may deliver it later.
	for range 100 {
		_, err := from.Write(ds)
		require.NoError(t, err)
		if _, calls := readAll(t, to, len(ds), 100); calls < len(ds) {
			return
		}
	}
	assert.Fail(t, "each call of Read returned one datagram")
}

// TestAnswerWithoutSourceLeavesFromOtherAddress shows that the answers of
// TestAnswerLeavesFromAddressOfRequest depend on the Source.
func TestAnswerWithoutSourceLeavesFromOtherAddress(t *testing.T) {
	s := listenOne(t, "udp4", "0.0.0.0:0")
	client := dial(t, s, "127.0.0.2")
	_, err := client.Write([]byte("hello"))
	require.NoError(t, err)
	d := readOne(t, s)
	_, err = s.Write([]Datagram{
		{Buf: []byte("from another address"), Peer: d.Peer},
		{Buf: []byte("from the address of the request"), Peer: d.Peer, Source: d.Source},
	})
	require.NoError(t, err)
	assert.Equal(t, "from the address of the request", receive(t, client))
}

func TestWriteSkipsDatagramWhoseSourceIsNotLocal(t *testing.T) {
	needIPv6(t)
	s := listenOne(t, "udp", "[::]:0")
	client := dial(t, s, "127.0.0.1")
	_, err := client.Write([]byte("hello"))
	require.NoError(t, err)
	d := readOne(t, s)
	notLocal := d
	at := bytes.Index(notLocal.Source.oob[:], []byte{127, 0, 0, 1})
	require.Positive(t, at)
	copy(notLocal.Source.oob[at:], []byte{203, 0, 113, 99})
	n, err := s.Write([]Datagram{notLocal, d})
	assert.Equal(t, 1, n)
	assert.ErrorAs(t, err, new(*os.SyscallError))
	n, err = s.Write([]Datagram{notLocal})
	assert.Zero(t, n)
	assert.ErrorAs(t, err, new(*os.SyscallError))
	assert.Equal(t, "hello", receive(t, client))
}

// controlMessage returns a control message as the kernel delivers it.
func controlMessage(level, messageType int32, data []byte) []byte {
	b := make([]byte, unix.CmsgSpace(len(data)))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = level, messageType
	h.SetLen(unix.CmsgLen(len(data)))
	copy(b[unix.CmsgLen(0):], data)
	return b
}

// pktinfo4 is the message for an IPv4 datagram: the interface on which it arrived,
// the local address for an answer and the destination address of the header.
func pktinfo4(index uint32, local, destination string) []byte {
	b := binary.NativeEndian.AppendUint32(nil, index)
	for _, a := range []string{local, destination} {
		b = append(b, netip.MustParseAddr(a).AsSlice()...)
	}
	return controlMessage(unix.IPPROTO_IP, unix.IP_PKTINFO, b)
}

// pktinfo6 is the message for an IPv6 datagram: the destination address and the
// interface on which it arrived.
func pktinfo6(destination string, index uint32) []byte {
	a := netip.MustParseAddr(destination).As16()
	return controlMessage(unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, binary.NativeEndian.AppendUint32(a[:], index))
}

func TestSourceOf(t *testing.T) {
	timestamp := controlMessage(unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, make([]byte, 16))
	for _, tc := range []struct {
		name      string
		oob, want []byte
	}{
		{"no message", nil, nil},
		{"another message", timestamp, nil},
		{"IPv4", pktinfo4(3, "192.0.2.1", "192.0.2.1"), pktinfo4(0, "192.0.2.1", "192.0.2.1")},
		{"IPv4 multicast", pktinfo4(3, "192.0.2.1", "224.0.1.187"), pktinfo4(0, "192.0.2.1", "224.0.1.187")},
		{"IPv6", pktinfo6("2001:db8::1", 3), pktinfo6("2001:db8::1", 0)},
		{"IPv6 link-local", pktinfo6("fe80::1", 3), pktinfo6("fe80::1", 3)},
		{"IPv6 multicast", pktinfo6("ff02::fd", 3), nil},
		{"mapped", pktinfo6("::ffff:192.0.2.1", 3), pktinfo6("::ffff:192.0.2.1", 0)},
		{"mapped link-local", pktinfo6("::ffff:169.254.0.1", 3), pktinfo6("::ffff:169.254.0.1", 0)},
		{"mapped multicast", pktinfo6("::ffff:224.0.1.187", 3), nil},
		{"after another message", slices.Concat(timestamp, pktinfo4(3, "192.0.2.1", "192.0.2.1")), pktinfo4(0, "192.0.2.1", "192.0.2.1")},
		{"before another message", slices.Concat(pktinfo6("2001:db8::1", 3), timestamp), pktinfo6("2001:db8::1", 0)},
		{"two addresses", slices.Concat(pktinfo6("2001:db8::1", 3), pktinfo6("2001:db8::2", 3)), pktinfo6("2001:db8::1", 0)},
		{"truncated", pktinfo6("2001:db8::1", 3)[:unix.CmsgLen(16)], nil},
		{"data too short", controlMessage(unix.IPPROTO_IP, unix.IP_PKTINFO, make([]byte, 8)), nil},
		{"data too long", controlMessage(unix.IPPROTO_IP, unix.IP_PKTINFO, make([]byte, 64)), nil},
		{"length zero", make([]byte, 64), nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := sourceOf(tc.oob)
			assert.True(t, bytes.Equal(tc.want, s.oob[:s.n]), "%x", s.oob[:s.n])
			assert.Equal(t, make([]byte, sourceSize-s.n), s.oob[s.n:])
		})
	}
}

func FuzzSourceOf(f *testing.F) {
	f.Add(pktinfo4(3, "192.0.2.1", "192.0.2.1"))
	f.Add(pktinfo6("fe80::1", 3))
	f.Add(slices.Concat(controlMessage(unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, make([]byte, 16)), pktinfo6("2001:db8::1", 3)))
	f.Fuzz(func(t *testing.T, oob []byte) {
		s := sourceOf(oob) // clears the interface in oob too
		assert.True(t, bytes.Contains(oob, s.oob[:s.n]), "the message is a part of oob")
		assert.Equal(t, s, sourceOf(s.oob[:s.n]))
	})
}

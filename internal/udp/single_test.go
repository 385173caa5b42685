// SPDX-License-Identifier: MIT

package udp

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fakeConn is a net.PacketConn that embeds a *net.UDPConn and has methods of its own.
type fakeConn struct {
	*net.UDPConn                                     // nil: none of its methods may be called
	reads        []fakeRead                          // the results of ReadFrom, which then waits for Close
	write        func(b []byte, peer net.Addr) error // called by WriteTo
	closed       chan struct{}
}

type fakeRead struct {
	text string
	peer net.Addr
	err  error
}

var (
	errFake = errors.New("fakeConn is closed")
	// errKernel is an error as package net returns it for a system call.
	errKernel = &net.OpError{Op: "read", Err: os.NewSyscallError("recvfrom", syscall.ECONNREFUSED)}
)

func newFakeConn(reads ...fakeRead) *fakeConn {
	return &fakeConn{reads: reads, closed: make(chan struct{})}
}

func (f *fakeConn) ReadFrom(b []byte) (int, net.Addr, error) {
	if len(f.reads) == 0 {
		<-f.closed
		return 0, nil, errFake
	}
	r := f.reads[0]
	f.reads = f.reads[1:]
	return copy(b, r.text), r.peer, r.err
}

func (f *fakeConn) WriteTo(b []byte, peer net.Addr) (int, error) { return len(b), f.write(b, peer) }

func (f *fakeConn) Close() error { close(f.closed); return nil }

// otherAddr is a net.Addr that is not a *net.UDPAddr.
type otherAddr string

func (a otherAddr) Network() string { return "other" }
func (a otherAddr) String() string  { return string(a) }

func TestPacketConnReadsDatagramsOfUDPAddresses(t *testing.T) {
	peer := &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 7} // the IP has 16 bytes
	s := New(newFakeConn(
		fakeRead{text: "one", peer: peer},
		fakeRead{err: errKernel}, fakeRead{err: errKernel},
		fakeRead{text: "not a UDP address", peer: otherAddr("/tmp/x")},
		fakeRead{text: "no address"},
		fakeRead{text: "two", peer: otherAddr("[2001:db8::1]:8")},
		fakeRead{peer: peer, err: io.ErrShortBuffer},
		fakeRead{err: os.ErrDeadlineExceeded},
		fakeRead{text: "after the deadline", peer: peer},
	))
	ds := newDatagrams(2, 20)
	for _, want := range []Datagram{
		{Buf: []byte("one"), Peer: netip.MustParseAddrPort("192.0.2.1:7")},
		{Buf: []byte("two"), Peer: netip.MustParseAddrPort("[2001:db8::1]:8")},
		{Buf: make([]byte, 20), Peer: netip.MustParseAddrPort("192.0.2.1:7"), Truncated: true},
	} {
		n, err := s.Read(ds)
		require.NoError(t, err)
		assert.Equal(t, 1, n)
		if want.Truncated {
			ds[0].Buf = want.Buf // the payload of a truncated datagram does not matter
		}
		assert.Equal(t, want, ds[0])
	}
	_, err := s.Read(ds)
	assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
	_, err = s.Read(ds)
	require.NoError(t, err)
	assert.Equal(t, "after the deadline", string(ds[0].Buf))
}

func TestReadFailsAfterManySuccessiveKernelErrors(t *testing.T) {
	f := newFakeConn(make([]fakeRead, 2*maxReadErrors)...)
	for i := range f.reads {
		f.reads[i].err = errKernel
	}
	_, err := New(f).Read(newDatagrams(2, 20))
	assert.ErrorIs(t, err, syscall.ECONNREFUSED)
	assert.Len(t, f.reads, maxReadErrors)
}

func TestPacketConnMayKeepAddressOfWriteTo(t *testing.T) {
	f := newFakeConn()
	var kept []net.Addr
	f.write = func(b []byte, peer net.Addr) error {
		kept = append(kept, peer)
		if string(b) == "fails" {
			return errKernel
		}
		return nil
	}
	n, err := New(f).Write([]Datagram{
		{Buf: []byte("fails"), Peer: netip.MustParseAddrPort("192.0.2.1:1")},
		{Buf: []byte("sent"), Peer: netip.MustParseAddrPort("192.0.2.1:2")},
		{Buf: []byte("sent"), Peer: netip.MustParseAddrPort("[fe80::1%x]:3")},
	})
	assert.Equal(t, 2, n)
	assert.ErrorIs(t, err, syscall.ECONNREFUSED)
	require.Len(t, kept, 3)
	for i, want := range []string{"192.0.2.1:1", "192.0.2.1:2", "[fe80::1%x]:3"} {
		assert.Equal(t, want, kept[i].String())
	}
}

func TestErrorOfClosedPacketConnIsErrClosed(t *testing.T) {
	checkGoroutines(t)
	f := newFakeConn()
	s := New(f)
	ended := make(chan error, 1)
	go func() {
		_, err := s.Read(newDatagrams(2, 20))
		ended <- err
	}()
	require.NoError(t, s.Close())
	err := <-ended
	assert.ErrorIs(t, err, net.ErrClosed)
	assert.ErrorIs(t, err, errFake)
	assert.ErrorContains(t, err, "udp: ")

	f.write = func([]byte, net.Addr) error { return net.ErrClosed }
	n, err := s.Write(make([]Datagram, 3))
	assert.Zero(t, n)
	assert.ErrorIs(t, err, net.ErrClosed)
}

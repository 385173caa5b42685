// SPDX-License-Identifier: MIT

// Package udp reads and writes a UDP socket in batches. On Linux a batch takes one
// system call (recvmmsg, sendmmsg), and an answer leaves from the local address to
// which the peer sent its datagram. On other systems, and on a net.PacketConn that
// is not a *net.UDPConn, each datagram takes its own system call, and the kernel
// chooses the local address of an answer.
package udp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"
)

const (
	// maxBatch bounds the datagrams of one system call. Larger batches are not
	// faster, and each datagram costs memory in every receiver and sender.
	maxBatch = 64
	// maxReadErrors bounds how many errors of single datagrams one Read skips in a
	// row, so that a broken socket does not keep its reader busy for ever.
	maxReadErrors = 1000
	// sourceSize is the length in bytes of a control message with an IPv6 address
	// and an interface index. The one with an IPv4 address is shorter.
	sourceSize = 40
)

// Source is the local address to which a datagram was sent. An answer that is
// written with the Source leaves from that address. Source is opaque; it may be
// copied, compared and kept. With the zero Source the kernel chooses the address.
// Read returns the zero Source if the socket is bound to one address, or if the
// system has no batches.
type Source struct {
	// oob is the control message that the kernel delivered with the datagram. The
	// kernel accepts the same message for sending.
	oob [sourceSize]byte
	n   uint8 // length of the message
}

// Datagram is a datagram to read or to write.
type Datagram struct {
	// Buf is the payload to write. Read stores the payload in the capacity of Buf
	// and sets the length.
	Buf []byte
	// Peer is the remote address. Read returns an IPv4 address as such, never
	// mapped to IPv6, and a link-local address with its zone.
	Peer netip.AddrPort
	// Source is set by Read. Write sends from this address.
	Source Source
	// Truncated is set by Read if the datagram was longer than the capacity of
	// Buf. On systems without batches it is also set if the lengths were equal, so
	// the capacity should be one byte more than the longest datagram of interest.
	// The remainder of the datagram is lost, and Peer may be missing.
	Truncated bool
}

// Socket is a UDP socket. [Listen] and [New] make one. It must not be copied.
type Socket struct {
	pc     net.PacketConn
	io     datagramIO
	closed atomic.Bool
}

// datagramIO transfers datagrams between a Socket and its conn: in batches
// (batchIO) or one at a time (singleIO).
type datagramIO interface {
	// read waits for a datagram and returns the number of datagrams read. ds has at
	// least one element. The number is zero if there is an error.
	read(ds []Datagram) (int, error)
	// write returns the number of datagrams sent and the first error. It skips a
	// datagram that cannot be sent, and stops at net.ErrClosed.
	write(ds []Datagram) (int, error)
}

// New returns a Socket that reads and writes pc, which must not be connected to a
// peer. Closing the Socket closes pc. A *net.UDPConn is used in batches where the
// system has them. Any other type, including one that embeds a *net.UDPConn, is
// used through its methods ReadFrom and WriteTo.
func New(pc net.PacketConn) *Socket {
	if conn, ok := pc.(*net.UDPConn); ok {
		// An error means that the kernel delivers no control messages. Every
		// Source is zero then, and the socket works.
		io, _ := newDatagramIO(conn)
		return &Socket{pc: pc, io: io}
	}
	return &Socket{pc: pc, io: &singleIO{pc: pc}}
}

// Read waits for a datagram, then reads it and the datagrams that have already
// arrived: at most len(ds) and at most 64. It returns the number of datagrams read.
// Read must not be called concurrently.
//
// Read ignores an error that the kernel reports about a single datagram. An error
// that Read returns is final: net.ErrClosed after Close, an error of the conn's
// ReadFrom that is not the kernel's, or the last of 1000 successive errors of the
// kernel. The exception is os.ErrDeadlineExceeded, if the owner of the conn has set
// a deadline.
func (s *Socket) Read(ds []Datagram) (n int, err error) {
	if len(ds) == 0 {
		return 0, nil
	}
	for range maxReadErrors {
		n, err = s.io.read(ds)
		if err == nil {
			return n, nil
		}
		if kernel := (*os.SyscallError)(nil); !errors.As(err, &kernel) {
			break
		}
	}
	return 0, s.wrapClosed(err)
}

// Write sends the datagrams and returns how many of them the kernel accepted. It is
// safe for concurrent use. Write skips a datagram that cannot be sent (too long, no
// route, a Source that is no longer an address of this host) and sends the others;
// the error is the one of the first datagram skipped. Only closing the socket makes
// Write return early, with net.ErrClosed.
func (s *Socket) Write(ds []Datagram) (n int, err error) {
	n, err = s.io.write(ds)
	return n, s.wrapClosed(err)
}

// Batches reports whether Write sends several datagrams by one system call.
func (s *Socket) Batches() bool {
	_, single := s.io.(*singleIO)
	return !single
}

// LocalAddr returns the address to which the socket is bound.
func (s *Socket) LocalAddr() net.Addr { return s.pc.LocalAddr() }

// SetReadDeadline makes Read return os.ErrDeadlineExceeded from a time on, also one that
// waits. The zero time means never. What has arrived stays in the kernel.
func (s *Socket) SetReadDeadline(at time.Time) error { return s.pc.SetReadDeadline(at) }

// File returns a duplicate of the socket, for a process to inherit. The caller closes it. Its
// Fd leaves it nonblocking, and with it the Socket. It is an error if the socket is not a
// *net.UDPConn.
func (s *Socket) File() (*os.File, error) {
	conn, ok := s.pc.(*net.UDPConn)
	if !ok {
		return nil, fmt.Errorf("udp: a %T has no file: %w", s.pc, errors.ErrUnsupported)
	}
	return duplicate(conn)
}

// Close closes the socket. A waiting Read returns net.ErrClosed.
func (s *Socket) Close() error {
	s.closed.Store(true)
	return s.pc.Close()
}

// wrapClosed returns err as net.ErrClosed after Close. A net.PacketConn other than a
// *net.UDPConn may report the end with an error of its own.
func (s *Socket) wrapClosed(err error) error {
	if err == nil || !s.closed.Load() || errors.Is(err, net.ErrClosed) {
		return err
	}
	return fmt.Errorf("udp: %w: %w", net.ErrClosed, err)
}

// unmap returns the address with an IPv4-mapped IPv6 address as an IPv4 address.
func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

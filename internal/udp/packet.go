// SPDX-License-Identifier: MIT

// Package udp is one UDP socket, read and written in batches. On Linux a batch
// is one system call (recvmmsg, sendmmsg), and an answer leaves from the address
// that its peer sent to. Elsewhere, and on a net.PacketConn that is not a
// *net.UDPConn, datagrams go one at a time and the kernel chooses the address.
package udp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
)

const (
	maxBatch      = 64   // datagrams in a system call: more gain nothing, and each costs memory in every scratch
	maxReadErrors = 1000 // in a row, each about one datagram, before Read gives up: no spinning on a broken socket
	maxSource     = 40   // bytes of a control message that holds an IPv6 address and an interface
)

// Config of the sockets that [Listen] opens. The zero value works.
type Config struct {
	// ReadBuffer and WriteBuffer are the kernel's buffers of each socket, in bytes.
	// The kernel may give less without saying so (Linux: net.core.rmem_max and
	// wmem_max). 0 leaves the system's default, negative is an error.
	ReadBuffer, WriteBuffer int
	// Sockets is how many sockets share the port (SO_REUSEPORT), for a reader each.
	// 0 means 1, negative is an error. With more than 1, other processes of the same
	// user may share the port too, and only Linux and DragonFly BSD spread the peers
	// over the sockets: other systems may give everything to one of them, and
	// Windows, Solaris and Plan 9 refuse with errors.ErrUnsupported.
	Sockets int
}

// Source is the local address that a datagram was sent to, for the answer to leave
// from there. It is opaque and may be compared and kept. The zero Source leaves the
// choice to the kernel, and is all that Read gives if the socket is bound to one
// address or has no batches.
type Source struct {
	// The control message with the address as the kernel gave it, which is also the
	// one that it takes.
	oob [maxSource]byte
	n   uint8
}

// Datagram is one to read or to write.
type Datagram struct {
	// Buf is what to write. Read takes its capacity as room, and sets its length.
	Buf []byte
	// Peer is who sent it or is to get it. Read gives IPv4 addresses as such, never
	// mapped to IPv6, and link-local addresses with their zone.
	Peer netip.AddrPort
	// Source is set by Read. Write sends from it.
	Source Source
	// Truncated is set by Read if the datagram was longer than the room, or, where
	// there are no batches, at least as long: so give one byte more than the longest
	// datagram that is wanted. The rest of it is lost, and Peer may be missing.
	Truncated bool
}

// Socket is one UDP socket, made by [Listen] or [New]. It must not be copied.
type Socket struct {
	pc     net.PacketConn
	path   path
	closed atomic.Bool
}

// path is how datagrams go in and out: batch or plain.
type path interface {
	read(ds []Datagram) (int, error) // ds is not empty; no datagrams if there is an error
	write(ds []Datagram) (int, error)
}

// Listen opens Config.Sockets sockets on one address. Network is "udp", "udp4" or
// "udp6", and both it and address mean what they mean to [net.ListenPacket]: "udp"
// with no host, 0.0.0.0 or [::] takes IPv4 and IPv6. With port 0 all get the same
// free port. Close them together: when one closes, some peers move to another.
func Listen(network, address string, c Config) ([]*Socket, error) {
	if c.ReadBuffer < 0 || c.WriteBuffer < 0 || c.Sockets < 0 {
		return nil, fmt.Errorf("udp: negative number in Config: %+v", c)
	}
	addr, err := net.ResolveUDPAddr(network, address) // once: a name may have several addresses
	if err != nil {
		return nil, err
	}
	var sockets []*Socket
	for range max(c.Sockets, 1) {
		s, err := listen(network, addr, c)
		if err != nil {
			for _, s := range sockets {
				_ = s.Close()
			}
			return nil, err
		}
		sockets = append(sockets, s)
		addr.Port = s.LocalAddr().(*net.UDPAddr).Port
	}
	return sockets, nil
}

func listen(network string, addr *net.UDPAddr, c Config) (*Socket, error) {
	var lc net.ListenConfig
	if c.Sockets > 1 && addr.Port != 0 {
		lc.Control = reusePort
	}
	pc, err := lc.ListenPacket(context.Background(), network, addr.String())
	if err != nil {
		return nil, err
	}
	s, err := setUp(pc.(*net.UDPConn), addr.Port == 0, c)
	if err != nil {
		_ = pc.Close()
		return nil, err
	}
	return s, nil
}

func setUp(conn *net.UDPConn, anyPort bool, c Config) (*Socket, error) {
	if c.Sockets > 1 && anyPort {
		// Only now that it is bound: a socket that shares its port may be given, as a
		// free port, one that other such sockets of the same user already have.
		raw, err := conn.SyscallConn()
		if err != nil {
			return nil, err
		}
		if err := reusePort("", "", raw); err != nil {
			return nil, err
		}
	}
	if c.ReadBuffer > 0 {
		if err := conn.SetReadBuffer(c.ReadBuffer); err != nil {
			return nil, err
		}
	}
	if c.WriteBuffer > 0 {
		if err := conn.SetWriteBuffer(c.WriteBuffer); err != nil {
			return nil, err
		}
	}
	p, err := newPath(conn)
	return &Socket{pc: conn, path: p}, err
}

// New makes a Socket of a user's own conn, which must not be connected to a peer.
// The Socket closes it. A *net.UDPConn is read and written in batches where they
// exist. Anything else, also what embeds a *net.UDPConn, is used through ReadFrom
// and WriteTo.
func New(pc net.PacketConn) *Socket {
	if conn, ok := pc.(*net.UDPConn); ok {
		// Without the control messages there is no Source, the rest works.
		p, _ := newPath(conn)
		return &Socket{pc: pc, path: p}
	}
	return &Socket{pc: pc, path: &plain{pc: pc}}
}

// Read waits for a datagram and reads it and those that are there already: at most
// len(ds), and at most 64. One caller at a time.
//
// What the kernel reports about a single datagram does not end it. An error is
// final: the socket was closed (then it is net.ErrClosed), its own ReadFrom gave
// an error that is not the kernel's, or the kernel failed 1000 times in a row.
// The exception is a deadline that was set on the conn given to New.
func (s *Socket) Read(ds []Datagram) (n int, err error) {
	if len(ds) == 0 {
		return 0, nil
	}
	for range maxReadErrors {
		n, err = s.path.read(ds)
		if err == nil {
			return n, nil
		}
		if kernel := (*os.SyscallError)(nil); !errors.As(err, &kernel) {
			break
		}
	}
	return 0, s.orClosed(err)
}

// Write sends ds, and says how many of them were given to the kernel. It is safe
// for concurrent use. A datagram that cannot be sent (too long, no route, a Source
// that is no longer an address of this host) is skipped and the others are sent;
// the error is that of the first one skipped. Only closing the socket ends it
// early, with net.ErrClosed.
func (s *Socket) Write(ds []Datagram) (n int, err error) {
	n, err = s.path.write(ds)
	return n, s.orClosed(err)
}

// LocalAddr is the address that the socket is bound to.
func (s *Socket) LocalAddr() net.Addr { return s.pc.LocalAddr() }

// Close closes the socket. A Read that waits then returns net.ErrClosed.
func (s *Socket) Close() error {
	s.closed.Store(true)
	return s.pc.Close()
}

// orClosed makes the error net.ErrClosed after Close: a user's own conn may call it
// something else.
func (s *Socket) orClosed(err error) error {
	if err == nil || !s.closed.Load() || errors.Is(err, net.ErrClosed) {
		return err
	}
	return fmt.Errorf("%w: %w", net.ErrClosed, err)
}

// SPDX-License-Identifier: MIT

package udp

import (
	"errors"
	"io"
	"net"
	"net/netip"
)

// errMessageSize is the error with which a system reports a datagram that is longer
// than the buffer. Only Windows does; other systems truncate the datagram without an
// error.
var errMessageSize = io.ErrShortBuffer

// singleIO reads and writes one datagram at a time.
type singleIO struct {
	pc net.PacketConn
	// conn is pc if its type is *net.UDPConn, else nil. The methods of *net.UDPConn
	// with a netip.AddrPort allocate nothing. An interface of these methods would
	// not do in place of the type: a type that embeds a *net.UDPConn has them, but
	// its own ReadFrom and WriteTo must be called.
	conn *net.UDPConn
}

func (s *singleIO) read(ds []Datagram) (int, error) {
	d := &ds[0]
	buf := d.Buf[:cap(d.Buf)]
	for {
		n, peer, err := s.readFrom(buf)
		if errors.Is(err, io.ErrShortBuffer) || errors.Is(err, errMessageSize) {
			n, err = len(buf), nil
		}
		if err != nil {
			return 0, err
		}
		if truncated := n == len(buf); truncated || peer.IsValid() {
			*d = Datagram{Buf: buf[:n], Peer: unmap(peer), Truncated: truncated}
			return 1, nil
		}
		// The sender has no UDP address, so nothing can be sent to it.
	}
}

func (s *singleIO) readFrom(buf []byte) (int, netip.AddrPort, error) {
	if s.conn != nil {
		return s.conn.ReadFromUDPAddrPort(buf)
	}
	n, addr, err := s.pc.ReadFrom(buf)
	var peer netip.AddrPort
	if udpAddr, ok := addr.(*net.UDPAddr); ok {
		peer = udpAddr.AddrPort()
	} else if addr != nil {
		peer, _ = netip.ParseAddrPort(addr.String())
	}
	return n, peer, err
}

func (s *singleIO) write(ds []Datagram) (sent int, first error) {
	for i := range ds {
		err := s.writeTo(ds[i].Buf, ds[i].Peer)
		if err == nil {
			sent++
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return sent, err
		}
		if first == nil {
			first = err
		}
	}
	return sent, first
}

func (s *singleIO) writeTo(b []byte, peer netip.AddrPort) (err error) {
	if s.conn != nil {
		_, err = s.conn.WriteToUDPAddrPort(b, peer)
	} else {
		// A new address each time, because the conn may keep it.
		_, err = s.pc.WriteTo(b, net.UDPAddrFromAddrPort(peer))
	}
	return err
}

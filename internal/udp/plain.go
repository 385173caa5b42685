// SPDX-License-Identifier: MIT

package udp

import (
	"errors"
	"io"
	"net"
	"net/netip"
)

// errTooLong is what the system says if it does not just cut a datagram that is too
// long for the room. Only Windows has one of its own.
var errTooLong = io.ErrShortBuffer

// plain reads and writes one datagram at a time.
type plain struct {
	pc net.PacketConn
	// udp is set if pc is one, and allocates nothing. It is not looked for with an
	// interface: what embeds a *net.UDPConn has its methods, but wants its own
	// ReadFrom to be called.
	udp *net.UDPConn
}

func (p *plain) read(ds []Datagram) (int, error) {
	d := &ds[0]
	room := d.Buf[:cap(d.Buf)]
	for {
		n, peer, err := p.readFrom(room)
		if errors.Is(err, io.ErrShortBuffer) || errors.Is(err, errTooLong) {
			n, err = len(room), nil
		}
		if err != nil {
			return 0, err
		}
		if truncated := n == len(room); truncated || peer.IsValid() {
			*d = Datagram{Buf: room[:n], Peer: unmapped(peer), Truncated: truncated}
			return 1, nil
		}
		// From an address that is not UDP's: nobody whom we could answer.
	}
}

func (p *plain) readFrom(room []byte) (int, netip.AddrPort, error) {
	if p.udp != nil {
		return p.udp.ReadFromUDPAddrPort(room)
	}
	n, addr, err := p.pc.ReadFrom(room)
	var peer netip.AddrPort
	if udp, ok := addr.(*net.UDPAddr); ok {
		peer = udp.AddrPort()
	} else if addr != nil {
		peer, _ = netip.ParseAddrPort(addr.String())
	}
	return n, peer, err
}

func (p *plain) write(ds []Datagram) (sent int, first error) {
	for i := range ds {
		err := p.writeTo(ds[i].Buf, ds[i].Peer)
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

func (p *plain) writeTo(b []byte, peer netip.AddrPort) (err error) {
	if p.udp != nil {
		_, err = p.udp.WriteToUDPAddrPort(b, peer)
	} else {
		// A new address each time, for a user's conn may keep it.
		_, err = p.pc.WriteTo(b, net.UDPAddrFromAddrPort(peer))
	}
	return err
}

func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

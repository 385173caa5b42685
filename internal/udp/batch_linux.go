// SPDX-License-Identifier: MIT

package udp

import (
	"errors"
	"net"
	"net/netip"
	"sync"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// oobRoom is for the control message with the address, and for others (as time
// stamps) that the owner of a conn given to New may have asked for.
const oobRoom = 128

// batch reads and writes many datagrams with one system call.
type batch struct {
	udp  *net.UDPConn
	conn interface {
		ReadBatch(ms []ipv4.Message, flags int) (int, error) // ipv6.Message is the same type
		WriteBatch(ms []ipv4.Message, flags int) (int, error)
	}
	in *scratch // Read's
}

// scratch is what a batch needs besides the datagrams, so that none of it is
// allocated anew. Its messages point into it.
type scratch struct {
	msgs [maxBatch]ipv4.Message
	bufs [maxBatch][1][]byte
	// For writing: the peers.
	addrs [maxBatch]net.UDPAddr
	ips   [maxBatch][16]byte
}

var scratches = sync.Pool{New: func() any { return newScratch() }}

func newScratch() *scratch {
	sc := new(scratch)
	for i := range sc.msgs {
		sc.msgs[i].Buffers = sc.bufs[i][:]
		sc.addrs[i].IP = sc.ips[i][:]
	}
	return sc
}

// newPath gives a batch that works also if there is an error: then it has no Source.
func newPath(conn *net.UDPConn) (path, error) {
	b := &batch{udp: conn, in: newScratch()}
	ip := conn.LocalAddr().(*net.UDPAddr).IP
	var err error
	if ip.To4() != nil {
		c := ipv4.NewPacketConn(conn)
		b.conn = c
		if ip.IsUnspecified() {
			err = c.SetControlMessage(ipv4.FlagDst, true)
		}
	} else {
		c := ipv6.NewPacketConn(conn)
		b.conn = c
		if ip.IsUnspecified() {
			err = c.SetControlMessage(ipv6.FlagDst, true)
		}
	}
	// A socket bound to one address answers from there anyway.
	if ip.IsUnspecified() && err == nil {
		oob := make([]byte, maxBatch*oobRoom)
		for i := range b.in.msgs {
			b.in.msgs[i].OOB = oob[i*oobRoom:][:oobRoom]
		}
	}
	return b, err
}

func (b *batch) read(ds []Datagram) (int, error) {
	ms := b.in.msgs[:min(len(ds), maxBatch)]
	for i := range ms {
		b.in.bufs[i][0] = ds[i].Buf[:cap(ds[i].Buf)]
	}
	// This allocates two objects for each peer's address, and its API has no way around.
	n, err := b.conn.ReadBatch(ms, 0)
	if err != nil {
		return 0, err
	}
	for i := range ms[:n] {
		m, d := &ms[i], &ds[i]
		d.Buf = d.Buf[:m.N]
		d.Peer = unmapped(m.Addr.(*net.UDPAddr).AddrPort())
		d.Source = sourceOf(m.OOB[:m.NN])
		d.Truncated = m.Flags&unix.MSG_TRUNC != 0
	}
	return n, nil
}

func (b *batch) write(ds []Datagram) (sent int, first error) {
	if len(ds) == 1 { // a batch of one would take a tenth longer
		d := &ds[0]
		if _, _, err := b.udp.WriteMsgUDPAddrPort(d.Buf, d.Source.oob[:d.Source.n], d.Peer); err != nil {
			return 0, err
		}
		return 1, nil
	}
	sc := scratches.Get().(*scratch)
	defer sc.release()
	for len(ds) > 0 {
		ms := sc.fill(ds[:min(len(ds), maxBatch)])
		ds = ds[len(ms):]
		for len(ms) > 0 {
			n, err := b.conn.WriteBatch(ms, 0)
			if err == nil {
				// If fewer than asked: the next one cannot be sent, and the next call says why.
				sent += n
				ms = ms[n:]
				continue
			}
			if errors.Is(err, net.ErrClosed) {
				return sent, err
			}
			if first == nil {
				first = err
			}
			ms = ms[1:]
		}
	}
	return sent, first
}

// fill makes messages of at most maxBatch datagrams.
func (sc *scratch) fill(ds []Datagram) []ipv4.Message {
	ms := sc.msgs[:len(ds)]
	for i := range ds {
		d := &ds[i]
		sc.bufs[i][0] = d.Buf
		sc.ips[i] = d.Peer.Addr().As16() // x/net sends a mapped address as IPv4, which a socket for both takes too
		sc.addrs[i].Port = int(d.Peer.Port())
		sc.addrs[i].Zone = d.Peer.Addr().Zone()
		ms[i].Addr = &sc.addrs[i]
		ms[i].OOB = d.Source.oob[:d.Source.n]
	}
	return ms
}

// release forgets the datagrams, for the pool must not keep their memory alive.
func (sc *scratch) release() {
	clear(sc.bufs[:])
	for i := range sc.msgs {
		sc.msgs[i].OOB = nil
	}
	scratches.Put(sc)
}

// sourceOf finds the address that a datagram was sent to among its control messages.
//
// The interface that it came in by is taken out, or the answer would have to leave
// by it, which is not always the way to the peer. Only a link-local address means
// nothing without it.
func sourceOf(oob []byte) (s Source) {
	for len(oob) >= unix.SizeofCmsghdr {
		h, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			return s
		}
		message := oob[:len(oob)-len(rest)]
		oob = rest
		switch {
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			clear(data[:4])
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			// IPv4 too, as a mapped address, on a socket for both.
			ip := netip.AddrFrom16([16]byte(data))
			if ip.IsMulticast() {
				return s // nothing can be sent from there; for IPv4 the kernel gives the interface's address
			}
			if ip.Is4In6() || !ip.IsLinkLocalUnicast() {
				clear(data[16:20])
			}
		default:
			continue
		}
		if len(message) <= len(s.oob) {
			s.n = uint8(copy(s.oob[:], message))
		}
		return s
	}
	return s
}

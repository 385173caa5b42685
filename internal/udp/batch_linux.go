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

// oobSize bounds the control messages of a datagram, in bytes. The owner of a conn
// may have requested more of them than the local address, such as time stamps.
const oobSize = 128

// batchIO reads and writes many datagrams with one system call.
type batchIO struct {
	conn  *net.UDPConn
	batch interface {
		ReadBatch(ms []ipv4.Message, flags int) (int, error) // ipv6.Message is the same type
		WriteBatch(ms []ipv4.Message, flags int) (int, error)
	}
	in *scratch // used by read
}

// scratch is the memory that a batch needs in addition to the datagrams. It is
// reused and not allocated for each batch. The messages point to the other fields.
type scratch struct {
	msgs [maxBatch]ipv4.Message
	bufs [maxBatch][1][]byte
	// The addresses of the peers, for writing.
	addrs [maxBatch]net.UDPAddr
	ips   [maxBatch][16]byte
}

var scratchPool = sync.Pool{New: func() any { return newScratch() }}

func newScratch() *scratch {
	sc := new(scratch)
	for i := range sc.msgs {
		sc.msgs[i].Buffers = sc.bufs[i][:]
		sc.addrs[i].IP = sc.ips[i][:]
	}
	return sc
}

// newDatagramIO always returns a batchIO. An error means that the kernel delivers no
// control messages, so the batchIO reads datagrams without their Source.
func newDatagramIO(conn *net.UDPConn) (datagramIO, error) {
	b := &batchIO{conn: conn, in: newScratch()}
	ip := conn.LocalAddr().(*net.UDPAddr).IP
	// Answers of a socket that is bound to one address leave from that address in
	// any case.
	wildcard := ip.IsUnspecified()
	var err error
	if ip.To4() != nil {
		c := ipv4.NewPacketConn(conn)
		b.batch = c
		if wildcard {
			err = c.SetControlMessage(ipv4.FlagDst, true)
		}
	} else {
		c := ipv6.NewPacketConn(conn)
		b.batch = c
		if wildcard {
			err = c.SetControlMessage(ipv6.FlagDst, true)
		}
	}
	if wildcard && err == nil {
		oob := make([]byte, maxBatch*oobSize)
		for i := range b.in.msgs {
			b.in.msgs[i].OOB = oob[i*oobSize:][:oobSize]
		}
	}
	return b, err
}

func (b *batchIO) read(ds []Datagram) (int, error) {
	ms := b.in.msgs[:min(len(ds), maxBatch)]
	for i := range ms {
		b.in.bufs[i][0] = ds[i].Buf[:cap(ds[i].Buf)]
	}
	// ReadBatch allocates two objects for the address of each peer. Its API has no
	// way to avoid them.
	n, err := b.batch.ReadBatch(ms, 0)
	if err != nil {
		return 0, err
	}
	for i := range ms[:n] {
		m, d := &ms[i], &ds[i]
		d.Buf = d.Buf[:m.N]
		d.Peer = unmap(m.Addr.(*net.UDPAddr).AddrPort())
		d.Source = sourceOf(m.OOB[:m.NN])
		d.Truncated = m.Flags&unix.MSG_TRUNC != 0
	}
	return n, nil
}

func (b *batchIO) write(ds []Datagram) (sent int, first error) {
	if len(ds) == 1 { // a batch of one takes a tenth longer
		d := &ds[0]
		if _, _, err := b.conn.WriteMsgUDPAddrPort(d.Buf, d.Source.oob[:d.Source.n], d.Peer); err != nil {
			return 0, err
		}
		return 1, nil
	}
	sc := scratchPool.Get().(*scratch)
	defer sc.release()
	for len(ds) > 0 {
		ms := sc.fill(ds[:min(len(ds), maxBatch)])
		ds = ds[len(ms):]
		for len(ms) > 0 {
			n, err := b.batch.WriteBatch(ms, 0)
			if err == nil {
				// If n is less than len(ms), the datagram after the n sent cannot be
				// sent, and the next call returns its error.
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

// fill returns the messages that send ds, at most maxBatch datagrams.
func (sc *scratch) fill(ds []Datagram) []ipv4.Message {
	ms := sc.msgs[:len(ds)]
	for i := range ds {
		d := &ds[i]
		sc.bufs[i][0] = d.Buf
		// An IPv4 address becomes a mapped one. x/net passes it to the kernel as an
		// IPv4 address, which a dual-stack socket accepts too.
		sc.ips[i] = d.Peer.Addr().As16()
		sc.addrs[i].Port = int(d.Peer.Port())
		sc.addrs[i].Zone = d.Peer.Addr().Zone()
		ms[i].Addr = &sc.addrs[i]
		ms[i].OOB = d.Source.oob[:d.Source.n]
	}
	return ms
}

// release puts the scratch into the pool, without the references to the datagrams:
// the pool would keep their memory alive.
func (sc *scratch) release() {
	clear(sc.bufs[:])
	for i := range sc.msgs {
		sc.msgs[i].OOB = nil
	}
	scratchPool.Put(sc)
}

// sourceOf returns the local address among the control messages of a datagram, or
// the zero Source.
//
// The index of the interface is cleared. With the index the answer would leave by
// the interface on which the datagram arrived, which is not always the route to the
// peer. Only a link-local address is meaningless without its interface.
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
			// On a dual-stack socket an IPv4 address comes here, as a mapped address.
			ip := netip.AddrFrom16([16]byte(data))
			if ip.IsMulticast() {
				// A multicast address cannot be a source. For IPv4 the kernel
				// reports the address of the interface instead.
				return s
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

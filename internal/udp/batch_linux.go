// SPDX-License-Identifier: MIT

package udp

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// batchIO reads and writes many datagrams with one system call, without allocation.
type batchIO struct {
	raw    syscall.RawConn
	isIPv4 bool     // whether the socket is bound to an IPv4 address; else it has IPv6, or both
	in     receiver // used by read
}

// senders are those of all batchIOs. Writers are concurrent, and each needs a sender.
var senders = sync.Pool{New: func() any { return newSender() }}

// newDatagramIO returns a batchIO. If there is an error the kernel delivers no control
// messages, and the datagramIO reads datagrams without their Source.
func newDatagramIO(conn *net.UDPConn) (datagramIO, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return &singleIO{pc: conn, conn: conn}, err
	}
	ip := conn.LocalAddr().(*net.UDPAddr).IP
	b := &batchIO{raw: raw, isIPv4: ip.To4() != nil}
	if ip.IsUnspecified() {
		// Answers of a socket that is bound to one address leave from that address in
		// any case.
		err = requestControl(raw, b.isIPv4)
	}
	b.in.init(ip.IsUnspecified() && err == nil)
	return b, err
}

// requestControl makes the kernel deliver the local address of each datagram in a control
// message.
func requestControl(raw syscall.RawConn, isIPv4 bool) (err error) {
	level, option := unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO
	if isIPv4 {
		level, option = unix.IPPROTO_IP, unix.IP_PKTINFO
	}
	controlErr := raw.Control(func(fd uintptr) {
		err = os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), level, option, 1))
	})
	return errors.Join(controlErr, err)
}

func (b *batchIO) read(ds []Datagram) (int, error) {
	ds = ds[:min(len(ds), maxBatch)]
	n, err := b.in.receive(b.raw, ds)
	if err != nil {
		return 0, err
	}
	for i := range ds[:n] {
		d, m := &ds[i], &b.in.messages[i]
		d.Buf = d.Buf[:m.len]
		d.Peer = b.in.names[i].addrPort(m.hdr.Namelen)
		d.Source = Source{}
		if b.in.control != nil {
			d.Source = sourceOf(b.in.control[i][:m.hdr.Controllen])
		}
		d.Truncated = m.hdr.Flags&unix.MSG_TRUNC != 0
	}
	raceWrite(ds[:n])
	return n, nil
}

func (b *batchIO) write(ds []Datagram) (sent int, first error) {
	raceRead(ds)
	s := senders.Get().(*sender)
	defer senders.Put(s)
	for len(ds) > 0 {
		batch := ds[:min(len(ds), maxBatch)]
		ds = ds[len(batch):]
		n, err := s.send(b.raw, batch)
		sent += n
		if errors.Is(err, net.ErrClosed) {
			return sent, err
		}
		if first == nil {
			first = err
		}
	}
	return sent, first
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

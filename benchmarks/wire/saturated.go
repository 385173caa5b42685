// SPDX-License-Identifier: MIT

package main

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/internal/udp"
)

// together is a client of many sessions that all use one socket, which is bound to every
// address. Each session has an address of its own, and the port is the same. With one system
// call for many datagrams such a client is faster than every server, so that the server always
// finds datagrams to read: a session waits for its answer while the others are handled.
type together struct {
	socket   *udp.Socket
	sessions []*session
	index    map[netip.Addr]int
	out      []udp.Datagram // by session: the datagram that was sent last
	sentAt   []time.Time
	count    int64
}

// addressOf returns the address of session i.
func addressOf(i int) net.IP { return net.IPv4(127, 1, byte(i>>8), byte(i)) }

// connectTogether establishes n sessions.
func connectTogether(server string, n int) *together {
	free, err := net.ListenUDP("udp4", nil)
	check(err)
	port := free.LocalAddr().(*net.UDPAddr).Port
	check(free.Close())
	t := &together{sessions: make([]*session, n), index: map[netip.Addr]int{}, out: make([]udp.Datagram, n), sentAt: make([]time.Time, n)}
	forEachClient(n, func(i int) {
		t.sessions[i] = connectFrom(server, &net.UDPAddr{IP: addressOf(i), Port: port})
		_ = t.sessions[i].socket.Close()
	})
	sockets, err := udp.Listen("udp4", netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(port)).String(), udp.Config{ReadBuffer: readBuffer})
	check(err)
	t.socket = sockets[0]
	to := netip.MustParseAddrPort(*address)
	for i := range t.out {
		addr, _ := netip.AddrFromSlice(addressOf(i).To4())
		t.index[addr] = i
		t.out[i] = udp.Datagram{Buf: make([]byte, 0, 256), Peer: to, Source: t.socket.SourceOf(addr)}
	}
	return t
}

// exchange keeps one datagram of each session in flight. A datagram whose answer is lost is
// sent again.
func (t *together) exchange(duration time.Duration) result {
	const lostAfter = 100 * time.Millisecond
	t.count = 0
	in := make([]udp.Datagram, 64)
	for i := range in {
		in[i].Buf = make([]byte, 0, 2048)
	}
	begin := time.Now()
	now := begin
	var deadline time.Time
	batch := make([]udp.Datagram, 0, len(t.out))
	for i := range t.out {
		batch = t.next(batch, i, now)
	}
	for now.Sub(begin) < duration {
		_, err := t.socket.Write(batch)
		check(err)
		batch = batch[:0]
		if now.Add(lostAfter / 2).After(deadline) {
			deadline = now.Add(lostAfter)
			check(t.socket.SetReadDeadline(deadline))
		}
		n, err := t.socket.Read(in)
		now = time.Now()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			for i, at := range t.sentAt {
				if now.Sub(at) >= lostAfter/2 {
					batch = t.next(batch, i, now)
				}
			}
			continue
		}
		check(err)
		for _, d := range in[:n] {
			t.count++
			batch = t.next(batch, t.index[d.Source.Addr()], now)
		}
	}
	return result{Count: t.count, Seconds: now.Sub(begin).Seconds()}
}

// next appends the next datagram of a session to a batch.
func (t *together) next(batch []udp.Datagram, i int, now time.Time) []udp.Datagram {
	var text [payload]byte
	d := &t.out[i]
	var err error
	d.Buf, err = t.sessions[i].records.Seal(d.Buf[:0], record.TypeApplicationData, text[:])
	check(err)
	t.sentAt[i] = now
	return append(batch, *d)
}

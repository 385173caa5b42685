// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"net/netip"
	"sync"

	"github.com/go-dsm/dsm/internal/lockorder"
	"github.com/go-dsm/dsm/internal/udp"
)

// route is where the datagrams of a peer go.
type route struct {
	socket *udp.Socket
	number uint8 // the socket's index in Listener.sockets
	peer   netip.AddrPort
	source udp.Source // the local address that the peer sent to
}

// send sends one datagram. A datagram that cannot be sent is lost, as it could be in
// the network. No lock may be held.
func (r route) send(datagram []byte) {
	lockorder.AssertNone("a socket write")
	one := oneDatagram.Get().(*[1]udp.Datagram)
	one[0] = udp.Datagram{Buf: datagram, Peer: r.peer, Source: r.source}
	_, _ = r.socket.Write(one[:])
	one[0] = udp.Datagram{}
	oneDatagram.Put(one)
}

// oneDatagram saves send the allocation of a slice of one.
var oneDatagram = sync.Pool{New: func() any { return new([1]udp.Datagram) }}

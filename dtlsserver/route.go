// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"net/netip"

	"github.com/go-dsm/dsm/internal/udp"
)

// socket is one of the sockets of a listener.
type socket struct {
	*udp.Socket
	number uint8 // the index in Listener.sockets
	out    outbox
}

// newSockets returns the sockets of a listener.
func newSockets(of []*udp.Socket) []*socket {
	sockets := make([]*socket, len(of))
	for i, s := range of {
		sockets[i] = &socket{Socket: s, number: uint8(i)}
		sockets[i].out.init(s)
	}
	return sockets
}

// route is where the datagrams of a peer go.
type route struct {
	socket *socket
	peer   netip.AddrPort
	source udp.Source // the local address that the peer sent to
}

// send sends one datagram, or has it wait until the others of a batch are ready. A datagram that
// cannot be sent is lost, as it could be in the network. No lock may be held.
func (r route) send(datagram []byte) {
	r.socket.out.send(udp.Datagram{Buf: datagram, Peer: r.peer, Source: r.source})
}

// SPDX-License-Identifier: MIT

package dtlstest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Direction is the way of a datagram through a Network.
type Direction int

// The directions. The source decides: a datagram from the address of a socket that
// Listen opened goes ToClient, and any other datagram goes ToServer.
const (
	ToServer Direction = iota
	ToClient
	directions
)

// String returns "to server" or "to client".
func (d Direction) String() string {
	switch d {
	case ToServer:
		return "to server"
	case ToClient:
		return "to client"
	}
	return fmt.Sprintf("Direction(%d)", int(d))
}

// Conditions are what happens to the datagrams of one direction. The zero value
// delivers each one at once, in order.
type Conditions struct {
	// Delay is how long a datagram takes, one way.
	Delay time.Duration
	// Jitter is the upper bound of an additional delay, which is drawn for each
	// datagram. Datagrams that are sent within Jitter of each other may overtake
	// each other. Without Jitter they keep their order.
	Jitter time.Duration
	// Loss is the probability that a datagram is lost, from 0 to 1.
	Loss float64
	// Duplication is the probability that a datagram arrives twice, from 0 to 1.
	// Each copy has its own delay, and neither is lost.
	Duplication float64
}

// Datagram is one datagram on a Network.
type Datagram struct {
	From, To netip.AddrPort
	Payload  []byte
}

// A Filter decides about each datagram that a socket sends in one direction. It
// calls forward with the payload to send on: not at all to drop the datagram, with
// another payload to change it, several times to add datagrams, or later, from any
// goroutine, to hold it back. Datagrams with other addresses are sent by
// Network.Inject, whose datagrams no filter sees.
//
// A filter runs in the goroutine that sends, possibly in several at a time, and no
// lock is held. It owns the payload that it gets; forward copies.
type Filter func(d Datagram, forward func(payload []byte))

// Counts are the counters of one direction.
type Counts struct {
	Sent, SentBytes  int // written by sockets or injected, before filter and loss
	Lost             int // by Conditions.Loss
	Duplicated       int // by Conditions.Duplication
	Overflowed       int // dropped at the full queue of their receiver
	Delivered        int // put into a socket's queue
	Unreachable      int // sent to an address that no socket has
	UnreachableBytes int
}

// Network is a network in memory. It carries datagrams between sockets that have
// addresses of their own choice. Datagrams without a delay are delivered within the
// call that sends them; a Network with a delay uses one timer of package time and no
// other goroutine, so that it also works in a bubble of testing/synctest, if it was
// made there.
//
// Make one with NewNetwork. Its methods are safe for concurrent use.
type Network struct {
	mu sync.Mutex
	// mu guards the following.
	closed     bool
	rand       *rand.Rand
	sockets    map[netip.AddrPort]*Socket
	nextPort   uint16 // of the next client that has no address of its own choice
	conditions [directions]Conditions
	filters    [directions]Filter
	counts     [directions]Counts
	unclaimed  func(Datagram)

	underWay   arrivals
	delayed    uint64 // how many datagrams ever were under way
	timer      *time.Timer
	delivering bool // arrive runs
}

// Addresses for sockets whose test does not care (RFC 5737).
var (
	defaultServer = netip.MustParseAddrPort("192.0.2.1:5684")
	defaultClient = netip.MustParseAddr("192.0.2.2")
)

// firstEphemeralPort is where the ports of such clients begin.
const firstEphemeralPort = 49152

// NewNetwork returns a Network without delay, loss or filters. seed determines what
// is drawn at random: loss, duplication and jitter.
func NewNetwork(seed uint64) *Network {
	return &Network{
		rand:     rand.New(rand.NewPCG(seed, 0)),
		sockets:  map[netip.AddrPort]*Socket{},
		nextPort: firstEphemeralPort,
	}
}

// SetConditions sets the conditions of a direction, for the datagrams that are sent
// from now on.
func (n *Network) SetConditions(d Direction, c Conditions) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.conditions[d] = c
}

// SetRoundTrip gives both directions half of a round-trip time as their delay.
func (n *Network) SetRoundTrip(rtt time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.conditions[ToServer].Delay = rtt / 2
	n.conditions[ToClient].Delay = rtt / 2
}

// SetFilter sets the filter of a direction, for the datagrams that are sent from now
// on. Nil removes it.
func (n *Network) SetFilter(d Direction, f Filter) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.filters[d] = f
}

// SetHook sets a Hook as the filter of a direction. Nil removes it.
func (n *Network) SetHook(d Direction, h Hook) {
	if h == nil {
		n.SetFilter(d, nil)
		return
	}
	n.SetFilter(d, func(d Datagram, forward func([]byte)) {
		if h(d.Payload) {
			forward(d.Payload)
		}
	})
}

// SetUnclaimed sets a function that gets each datagram that arrives at an address that
// no socket has. It runs in the goroutine that delivers, no lock is held, and it must not
// wait. Nil removes it.
func (n *Network) SetUnclaimed(take func(Datagram)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.unclaimed = take
}

// Counts returns the counters of a direction.
func (n *Network) Counts(d Direction) Counts {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.counts[d]
}

// Listen opens a server's socket. The zero AddrPort stands for 192.0.2.1:5684. Listen
// panics if another socket has the address, or if the network is closed.
func (n *Network) Listen(addr netip.AddrPort) *Socket {
	if !addr.IsValid() {
		addr = defaultServer
	}
	s := newSocket(n, addr, netip.AddrPort{})
	s.listening = true
	n.add(s)
	return s
}

// Dial opens a client's socket, which is connected: it sends to one address and
// receives from no other. The zero AddrPort as from stands for an address that no
// other socket has: 192.0.2.2 and a port. Dial panics if another socket has the
// address, or if the network is closed.
func (n *Network) Dial(from, to netip.AddrPort) *Socket {
	if !from.IsValid() {
		from = n.freeAddr()
	}
	s := newSocket(n, from, to)
	n.add(s)
	return s
}

func (n *Network) freeAddr() netip.AddrPort {
	n.mu.Lock()
	defer n.mu.Unlock()
	for {
		addr := netip.AddrPortFrom(defaultClient, n.nextPort)
		if n.nextPort++; n.nextPort == 0 {
			n.nextPort = firstEphemeralPort
		}
		if n.sockets[addr] == nil {
			return addr
		}
	}
}

func (n *Network) add(s *Socket) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		panic("dtlstest: the network is closed")
	}
	if n.sockets[s.local] != nil {
		panic("dtlstest: address in use: " + s.local.String())
	}
	n.sockets[s.local] = s
}

func (n *Network) remove(s *Socket) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.sockets[s.local] == s {
		delete(n.sockets, s.local)
	}
}

// Inject sends a datagram from any address to any other: what an attacker can forge.
// No filter sees it; the conditions apply to it. Inject reports whether a socket has
// the address that it is sent to. It waits where the receiver's queue is full and
// makes senders wait.
func (n *Network) Inject(from, to netip.AddrPort, payload []byte) bool {
	from, to = unmap(from), unmap(to)
	n.mu.Lock()
	direction := ToServer
	if s := n.sockets[from]; s != nil && s.listening {
		direction = ToClient
	}
	reachable := n.sockets[to] != nil
	n.countSentLocked(direction, len(payload))
	n.mu.Unlock()
	n.carry(direction, Datagram{from, to, bytes.Clone(payload)}, nil)
	return reachable
}

// Close closes all sockets. Datagrams that are under way are lost.
func (n *Network) Close() error {
	n.mu.Lock()
	n.closed = true
	n.underWay = nil
	if n.timer != nil {
		n.timer.Stop()
	}
	var sockets []*Socket
	for _, s := range n.sockets {
		sockets = append(sockets, s)
	}
	n.mu.Unlock()
	for _, s := range sockets {
		_ = s.Close()
	}
	return nil
}

// send takes a datagram that a socket has written.
func (n *Network) send(s *Socket, to netip.AddrPort, payload []byte) {
	direction := ToServer
	if s.listening {
		direction = ToClient
	}
	n.mu.Lock()
	filter := n.filters[direction]
	n.countSentLocked(direction, len(payload))
	n.mu.Unlock()
	d := Datagram{s.local, to, bytes.Clone(payload)}
	if filter == nil {
		n.carry(direction, d, s)
		return
	}
	filter(d, func(payload []byte) {
		n.carry(direction, Datagram{s.local, to, bytes.Clone(payload)}, s)
	})
}

func (n *Network) countSentLocked(d Direction, bytes int) {
	n.counts[d].Sent++
	n.counts[d].SentBytes += bytes
}

// carry applies the conditions of a direction. sender is nil for an injected
// datagram.
func (n *Network) carry(direction Direction, d Datagram, sender *Socket) {
	n.mu.Lock()
	c := n.conditions[direction]
	copies := 1
	switch {
	case c.Loss > 0 && n.rand.Float64() < c.Loss:
		copies = 0
		n.counts[direction].Lost++
	case c.Duplication > 0 && n.rand.Float64() < c.Duplication:
		copies = 2
		n.counts[direction].Duplicated++
	}
	atOnce := 0
	for range copies {
		delay := c.Delay
		if c.Jitter > 0 {
			delay += time.Duration(n.rand.Int64N(int64(c.Jitter)))
		}
		if delay <= 0 {
			atOnce++
			continue
		}
		n.delayLocked(direction, d, delay)
	}
	n.mu.Unlock()
	for range atOnce {
		n.deliver(direction, d, sender, true)
	}
}

// deliver puts a datagram into its receiver's queue. wait allows it to wait for room
// there.
func (n *Network) deliver(direction Direction, d Datagram, sender *Socket, wait bool) {
	n.mu.Lock()
	receiver, unclaimed := n.sockets[d.To], n.unclaimed
	n.mu.Unlock()
	outcome := noReceiver
	if receiver != nil {
		outcome = receiver.put(d, sender, wait)
	} else if unclaimed != nil {
		defer unclaimed(d)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	counts := &n.counts[direction]
	switch outcome {
	case queued:
		counts.Delivered++
	case overflowed:
		counts.Overflowed++
	case noReceiver:
		counts.Unreachable++
		counts.UnreachableBytes += len(d.Payload)
	}
}

// NthAddr returns an address of the network first.0.0.0/8: the n-th one.
func NthAddr(first byte, n int, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{first, byte(n >> 16), byte(n >> 8), byte(n)}), port)
}

// AddrPort returns the endpoint of a UDP address, as a Network wants it. It panics if a
// is not a *net.UDPAddr.
func AddrPort(a net.Addr) netip.AddrPort {
	udp, ok := a.(*net.UDPAddr)
	if !ok {
		panic(fmt.Sprintf("dtlstest: %v is not a UDP address", a))
	}
	return unmap(udp.AddrPort())
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

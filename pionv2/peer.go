// SPDX-License-Identifier: MIT

package pionv2

import (
	"net/netip"
	"sync"
	"time"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/internal/udp"
)

// path is where datagrams go.
type path struct {
	socket *udp.Socket
	number uint8 // of the socket, in Listener.sockets
	peer   netip.AddrPort
	source udp.Source // the address that the peer sent to
}

// send sends one datagram. What cannot be sent is lost, as it could be on the way.
func (p path) send(datagram []byte) {
	one := datagrams.Get().(*[1]udp.Datagram)
	one[0] = udp.Datagram{Buf: datagram, Peer: p.peer, Source: p.source}
	_, _ = p.socket.Write(one[:])
	one[0] = udp.Datagram{}
	datagrams.Put(one)
}

// datagrams are for path.send, that it need not allocate.
var datagrams = sync.Pool{New: func() any { return new([1]udp.Datagram) }}

// Peer is what a Listener keeps in a slot: an established session, a half-open
// handshake, or a session with the peer's next handshake beside it. It is opaque;
// Table.All gives it with its endpoint and state.
type Peer struct {
	// Set in Listener.greet, never changed.
	listener *Listener
	addr     netip.AddrPort

	mu sync.Mutex
	// mu guards the following. Locks are taken in the order Listener.mu, Peer.mu,
	// Conn.mu; the table's is taken with any of them held.
	handle    dsm.Handle[*Peer]
	conn      *Conn      // the established session
	handshake *handshake // the running one

	// first is the first session, which for most is the only one, in the same piece
	// of memory: so many small pieces among a handshake's garbage would keep pages.
	first Conn
}

// newConn is room for the next session.
func (p *Peer) newConn() *Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := &p.first
	if c.peer != nil {
		c = new(Conn)
	}
	c.peer = p
	return c
}

// Conn returns the established session, or nil.
func (p *Peer) Conn() *Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.conn
}

// receive takes a datagram of this peer, record by record: one can hold several,
// of different epochs, and whatever an attacker put in front.
func (p *Peer) receive(from path, datagram []byte, now time.Time) {
	l := p.listener
	for rest := datagram; len(rest) > 0; {
		r, after, fault := record.Next(rest)
		alone := len(r.Raw) == len(datagram)
		rest = after
		if fault != record.NoFault {
			l.counters.malformed.Add(1)
			continue
		}
		if r.Epoch == 0 {
			p.receivePlaintext(from, r, alone)
		} else {
			p.receiveSealed(from, r, now)
		}
	}
}

// receivePlaintext takes a record of epoch 0. Anybody can forge one, so it reaches
// nothing but a running handshake, or begins one.
func (p *Peer) receivePlaintext(from path, r record.Record, alone bool) {
	l := p.listener
	hello, isHello := record.ParseClientHello(r)
	p.mu.Lock()
	h := p.handshake
	if isHello && p.conn != nil && hello.Random == p.conn.records.ClientRandom() {
		// A late duplicate of the ClientHello that the session began with.
		p.mu.Unlock()
		l.counters.plaintext.Add(1)
		return
	}
	switch {
	case h == nil, isHello && hello.MessageSeq == 0 && hello.Random != h.transport.random && !h.proven.Load():
		p.mu.Unlock()
		if !isHello || !alone || hello.MessageSeq != 0 {
			l.counters.plaintext.Add(1)
			return
		}
		l.again(p, from, r, hello)
		return
	}
	p.mu.Unlock()
	if isHello && !h.proven.Load() {
		h.transport.returned(hello)
		l.prove(h)
	}
	switch {
	case h.transport.isFinishing(), // what pion repeats now it would repeat too late
		r.Type == record.TypeApplicationData, // pion would fail, and leak
		!h.transport.wants(r, hello, isHello):
		l.counters.plaintext.Add(1)
	case r.Type == record.TypeChangeCipherSpec:
		h.transport.feedLast(r)
	case !h.proven.Load() && !isHello && r.Type != record.TypeAlert,
		r.Type == record.TypeHandshake && !isHello && !plausible(r):
		l.counters.plaintext.Add(1)
	case !h.transport.feed(r.Raw):
		l.counters.queueFull.Add(1)
	}
}

// plausible is whether a plaintext record holds what a client in its handshake sends.
// Pion keeps fragments of messages that are far off, and empty ones, which it does
// not count; and puts them together in quadratic time.
func plausible(r record.Record) bool {
	const maxMessages, maxMessageSeq = 8, 16
	rest := r.Fragment()
	for range maxMessages {
		if len(rest) == 0 {
			return true
		}
		h, after, ok := record.NextHandshake(rest)
		if !ok || h.MessageSeq > maxMessageSeq || len(h.Body) == 0 && h.Length > 0 {
			return false
		}
		rest = after
	}
	return len(rest) == 0
}

// receiveSealed takes a record of a later epoch: the session's, or, if it is not,
// the running handshake's. What the session makes of it is no verdict upon it while
// a handshake runs, as both can use the same epoch and numbers.
func (p *Peer) receiveSealed(from path, r record.Record, now time.Time) {
	l := p.listener
	p.mu.Lock()
	c, h := p.conn, p.handshake
	err := error(record.ErrEpoch)
	var ends Reason
	fatal := false
	if c != nil {
		ends, err = c.receive(from, r, now)
	}
	if err != nil && h != nil {
		err = nil
		switch {
		case r.Epoch != epoch:
			err = record.ErrEpoch
		case r.Type == record.TypeHandshake && !h.transport.isFinishing():
			h.transport.feedLast(r)
		default:
			// Of an abbreviated handshake the keys are known, and nothing is held that
			// was not sealed with them.
			if fatal, err = h.transport.witness(r); err == nil && !fatal && !h.hold(from, r) {
				l.counters.queueFull.Add(1)
			}
		}
	}
	p.mu.Unlock()
	switch {
	case fatal:
		l.abort(h)
	case h != nil && !h.proven.Load():
		l.prove(h)
	}
	switch err {
	case nil:
	case record.ErrReplay:
		l.counters.replayed.Add(1)
	case record.ErrEpoch:
		l.counters.epoch.Add(1)
	default:
		l.counters.forged.Add(1)
	}
	if ends != 0 {
		l.end(c, ends)
	}
}

// Slot is the number of the peer's slot, from 0.
func (p *Peer) Slot() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.handle.Slot()
}

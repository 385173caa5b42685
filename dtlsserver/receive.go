// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"runtime"
	"time"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/internal/handshake"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/internal/udp"
)

// read receives from a socket until that fails or is closed. It never waits for
// anything else.
func (l *Listener) read(number uint8) error {
	socket := l.sockets[number]
	batch := make([]udp.Datagram, readBatch)
	for i := range batch {
		batch[i].Buf = make([]byte, 0, readBuffer)
	}
	for {
		n, err := socket.Read(batch)
		if err != nil {
			return err
		}
		now := time.Now()
		for _, d := range batch[:n] {
			if d.Truncated || !d.Peer.IsValid() {
				l.counters.malformed.Add(1)
				continue
			}
			l.receive(route{socket, number, d.Peer, d.Source}, d.Buf, now)
		}
		// The goroutines that were woken run before the next system call, which then
		// finds more to read; and no queue fills up because there is always more.
		runtime.Gosched()
	}
}

// receive takes a datagram.
func (l *Listener) receive(from route, datagram []byte, now time.Time) {
	if session, state := l.table.Get(l.sock, from.peer); state != dsm.StateNone {
		session.Value.receive(from, datagram, now)
		return
	}
	if rest := l.firstFlight(from, datagram); len(rest) > 0 {
		l.receive(from, rest, now)
	}
}

// receive takes a datagram of this peer, record by record: one datagram can hold
// records of several epochs, and whatever an attacker has put in front of them.
func (p *Peer) receive(from route, datagram []byte, now time.Time) {
	flight := datagram // that its first record may begin
	for rest := datagram; len(rest) > 0; flight = nil {
		r, after, fault := record.Next(rest)
		rest = after
		switch {
		case fault != record.NoFault:
			p.listener.counters.malformed.Add(1)
		case r.Epoch == 0:
			p.receivePlaintext(from, r, flight)
		default:
			p.receiveProtected(from, r, now)
		}
	}
}

// receivePlaintext takes a record of epoch 0. Anybody can forge one, so it has no
// effect on an established session: it reaches the handshake in progress, or starts
// one if flight, the datagram that it is the first record of, is a client's first flight.
func (p *Peer) receivePlaintext(from route, r record.Record, flight []byte) {
	l := p.listener
	verdict, validated := handshake.Unexpected, false
	p.mu.Lock()
	h := p.pending
	switch {
	case p.conn != nil && isHelloOf(r, p.conn.records.ClientRandom()):
		// A late duplicate of the ClientHello that the session began with.
	case h != nil:
		verdict = h.handshake.HandleRecord(r)
		validated = h.newlyValidatedLocked()
	default:
		verdict = handshake.NewClientHello
	}
	p.mu.Unlock()
	if validated {
		l.admission.validate(&h.ticket)
	}
	switch {
	case verdict == handshake.NewClientHello && isFirstFlight(flight):
		l.rehandshake(p, from, r)
	case verdict == handshake.NewClientHello:
		l.counters.plaintext.Add(1)
	default:
		l.counters.countDropped(verdict)
	}
}

// isHelloOf reports whether a record is a ClientHello with a client's random.
func isHelloOf(r record.Record, random record.Random) bool {
	hello, ok := record.ParseClientHello(r)
	return ok && hello.Random == random
}

// receiveProtected takes a record of a later epoch: the session's, or if it is not, that
// of the handshake beside it. What the session says of a record is not final while
// there is a handshake, as both can use the same epoch and sequence numbers.
func (p *Peer) receiveProtected(from route, r record.Record, now time.Time) {
	l := p.listener
	var got received
	verdict, validated := handshake.WrongEpoch, false
	p.mu.Lock()
	c, h := p.conn, p.pending
	if c != nil {
		var err error
		got, err = c.receiveLocked(from, r, now)
		verdict = handshake.VerdictOf(err)
	}
	if verdict != handshake.Accepted && h != nil {
		verdict = h.handshake.HandleRecord(r)
		if verdict == handshake.ForSession {
			verdict = handshake.Accepted
			if !h.holdLocked(from, r) {
				verdict = handshake.NoSpace
			}
		}
		validated = h.newlyValidatedLocked()
	}
	p.mu.Unlock()
	l.queued.relieve(&l.counters.queueFull)
	if got.cool != nil {
		got.cool.cool()
	}
	if got.reply != nil {
		from.send(got.reply)
	}
	if validated {
		l.admission.validate(&h.ticket)
	}
	l.counters.countDropped(verdict)
	if verdict == handshake.FatalAlert {
		l.abort(h)
	}
	if got.ends != 0 {
		l.end(c, got.ends)
	}
}

// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"runtime"
	"time"

	"github.com/go-dsm/dsm/internal/handshake"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/internal/udp"
)

// read receives from a socket until that fails or is closed. Besides, it waits only for room in
// the socket's send buffer.
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
		if n > 1 {
			socket.out.holdForReader()
		}
		for _, d := range batch[:n] {
			if d.Truncated || !d.Peer.IsValid() || d.Peer.Port() == 0 { // nothing can be sent to port 0
				l.countDrop(d.Peer, recordMalformed)
				continue
			}
			l.receive(route{socket, d.Peer, d.Source}, d.Buf, now)
		}
		// The goroutines that were woken run before the next system call, which then
		// finds more to read; and no queue fills up because there is always more.
		runtime.Gosched()
		if n > 1 {
			socket.out.flush() // the answers of the batch
		}
	}
}

// receive takes a datagram.
func (l *Listener) receive(from route, datagram []byte, now time.Time) {
	if p := l.peerOf(from, datagram); p != nil {
		p.receive(from, datagram, now)
		return
	}
	l.receiveStranger(from, datagram, now)
}

// receive takes a datagram of this peer, record by record: one datagram can hold
// records of several epochs, and whatever an attacker has put in front of them.
func (p *Peer) receive(from route, datagram []byte, now time.Time) {
	if p.listener.receiveHello(from, datagram, p, now) {
		return
	}
	for rest := datagram; len(rest) > 0; {
		r, after, fault := p.listener.nextRecord(rest)
		rest = after
		switch {
		case fault != record.NoFault:
			p.listener.countDrop(from.peer, recordMalformed)
		case r.Epoch == 0:
			p.receivePlaintext(from, r, now)
		default:
			p.receiveProtected(from, r, now)
		}
	}
}

// receivePlaintext takes a record of epoch 0 that is not of a first flight. Anybody can
// forge one, so it has no effect on an established session: it is for the handshakes in
// progress.
func (p *Peer) receivePlaintext(from route, r record.Record, now time.Time) {
	l := p.listener
	o := offer{verdict: handshake.Unexpected}
	p.mu.Lock()
	refused := p.pending == nil && p.conn != nil && p.conn.extras != nil && p.conn.extras.successorRefused
	if from.peer != p.addr {
		p.mu.Unlock()
		l.countDrop(from.peer, recordPlaintext)
		return
	}
	if p.conn == nil || !isHelloOf(r, p.conn.records.ClientRandom()) { // otherwise a late duplicate
		o = p.offerLocked(from, r)
	}
	var roundTrip time.Duration
	if o.another != nil {
		roundTrip = o.another.cookieAfter
	}
	p.mu.Unlock()
	for _, h := range o.validated {
		l.noteValidated(h)
	}
	// Whoever has forged a first ClientHello knows its parameters, and can send a second one
	// with any cookie. Only the cookie of another handshake shows that the client has sent it.
	// In the first minute it may be one of the listener before this one.
	early := o.abandoned != nil && o.another == nil && now.Sub(l.began) < staleCookieTime
	if o.abandoned != nil {
		_, isKnown := l.cookieIn(from, r)
		if isKnown || o.another != nil || o.verdict == handshake.Accepted || early {
			l.admission.displace(&o.abandoned.ticket)
		}
	}
	switch {
	case o.verdict == handshake.Accepted:
	case o.another != nil && l.tellToRestart(from, r, true, roundTrip, now):
	case refused && l.answerLastFlight(from, r, now):
	case l.answerStaleCookie(from, r, early, now):
	case o.verdict == handshake.NewClientHello: // a fragment of a ClientHello that is not the first one of its datagram
		l.countDrop(from.peer, recordPlaintext)
	default:
		l.countVerdict(from.peer, o.verdict)
	}
}

// receiveProtected takes a record of a later epoch: the session's, or if it is not, that
// of a handshake beside it. What the session says of a record is not final while there is
// a handshake, as both can use the same epoch and sequence numbers.
//
// A record from another address than the peer's, where its connection ID has led here, is for
// the session alone. So nobody disturbs a handshake by an ID, and a client that moves during
// its handshake has to begin anew.
func (p *Peer) receiveProtected(from route, r record.Record, now time.Time) {
	l := p.listener
	var got received
	var o offer
	verdict := handshake.WrongEpoch
	p.mu.Lock()
	isPeers := from.peer == p.addr
	c := p.conn
	if c != nil && (isPeers || r.Type == record.TypeConnectionID) {
		var err error
		got, err = c.receiveLocked(from, r, now)
		verdict = handshake.VerdictOf(err)
	}
	if verdict != handshake.Accepted && p.pending != nil && isPeers {
		o = p.offerLocked(from, r)
		verdict = handshake.Better(verdict, o.verdict)
	}
	p.mu.Unlock()
	l.queued.relieve(&l.counters.words[recordQueueFull])
	if got.cool != nil {
		got.cool.cool()
	}
	for _, r := range got.replies {
		r.to.send(r.datagram)
	}
	l.endDisplaced(got.displaced)
	for _, h := range o.validated {
		l.noteValidated(h)
	}
	l.countVerdict(from.peer, verdict)
	if o.aborted != nil {
		l.abort(o.aborted)
	}
	if got.ends == Interrupted {
		l.interrupt(c)
	} else if got.ends != 0 {
		l.end(c, got.ends)
	}
}

// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/internal/handshake"
	"github.com/go-dsm/dsm/internal/record"
)

// receiveStranger takes the datagram of a peer that has no slot. It starts a handshake if
// the datagram can be a client's first flight. Anything else, such as the late flight of a
// client whose session has ended, would start a handshake that never completes.
func (l *Listener) receiveStranger(from route, datagram []byte, now time.Time) {
	if l.receiveHello(from, datagram, nil, now) {
		return
	}
	switch r, _, fault := l.nextRecord(datagram); {
	case fault != record.NoFault:
		l.countDrop(from.peer, recordMalformed)
	case !l.answerStaleCookie(from, r, true, now):
		l.countDrop(from.peer, recordStray)
	}
}

// receiveHello takes a datagram that may begin a handshake: a client's first ClientHello, or if
// the server draws the cookies, the second one with its cookie. p is the peer, or nil if it
// has no slot. receiveHello reports false if the datagram is another one, or its cookie is not
// known.
func (l *Listener) receiveHello(from route, datagram []byte, p *Peer, now time.Time) bool {
	switch {
	case len(datagram) == 0 || record.Type(datagram[0]) != record.TypeHandshake:
		return false
	case isClientHello(datagram, 0):
		if l.drawsCookies {
			l.askForCookie(from, datagram, p, now)
		} else {
			l.startOrWait(newFirstFlight(from, datagram, now))
		}
		return true
	default:
		return l.drawsCookies && isClientHello(datagram, 1) && l.startWithCookie(from, datagram, p, now)
	}
}

// startOrWait starts the handshake of a first flight. If there is no room the flight waits
// in the backlog.
func (l *Listener) startOrWait(f firstFlight) {
	cause := l.start(&f)
	l.refuse(f.from, cause)
	l.updateBacklog(f, cause)
}

// startFromBacklog starts handshakes of the backlog while there is room.
func (l *Listener) startFromBacklog() {
	var refused []firstFlight // whose network has its share, newest first
	defer func() {
		for _, f := range slices.Backward(refused) {
			l.backlog.put(f, shareTaken)
		}
	}()
	for len(refused) < shareTries {
		waiting, ok := l.backlog.take(time.Now())
		if !ok {
			return
		}
		f := waiting // on the heap, only if there is one
		switch cause := l.start(&f); cause {
		case noRoom, sessionsFull:
			l.backlog.put(f, noRoom)
			return
		case shareTaken:
			refused = append(refused, f)
		case stopped:
			return
		}
	}
}

// start starts the handshake of a first flight, if there is room and if the flight belongs
// to no handshake in progress. If the peer has a session, the session lives on until the new
// one is established (RFC 6347 section 4.2.8). Other handshakes of the peer go on: a forged
// ClientHello does not end the handshake of the client.
func (l *Listener) start(f *firstFlight) refusal {
	p := &Peer{listener: l, addr: f.from.peer}
	r := request{addr: f.from.peer.Addr(), namesSession: l.namesSession(*f), validatedAfter: f.roundTrip}
	if session, state := l.table.Get(l.sock, f.from.peer); state != dsm.StateNone {
		p = session.Value
		if p.takeFirstFlight(*f) || p.isSuperseded(f) {
			return notNew
		}
		var ok bool
		if r.inSlot, r.class, r.replaces, ok = p.roomFor(*f); !ok {
			return addressTaken
		}
	}
	r.start = func() *ticket {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.addr != f.from.peer { // it has moved
			l.countDrop(f.from.peer, recordStray)
			return nil
		}
		if p.conn == nil && p.pending == nil {
			switch previous, ours := p.holdSlotLocked(dsm.StateHandshake); {
			case ours:
			case previous == dsm.NoSpace: // another listener of the table was faster
				l.refuse(f.from, noRoom)
				return nil
			default: // the reader of another socket was
				l.countDrop(f.from.peer, recordStray)
				return nil
			}
		}
		return l.startLocked(p, *f, r.namesSession)
	}
	cause := l.admission.admit(r)
	if cause == admitted && f.cookie != nil {
		l.counters.roundTrips.observe(f.roundTrip)
		l.endOldestValidated(p)
	}
	return cause
}

// isSuperseded reports whether the client of a flight of the backlog has begun anew
// meanwhile, and has got in. Otherwise it notes what session the peer has.
func (p *Peer) isSuperseded(f *firstFlight) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	var random record.Random
	if p.conn != nil {
		random = p.conn.records.ClientRandom()
	}
	if f.waited {
		return p.conn != nil && random != f.sessionRandom
	}
	f.sessionRandom = random
	return false
}

// takeFirstFlight gives a first flight to the handshakes of a peer, and reports whether it
// belongs to one of them, or is a late duplicate of the one that the session began with.
func (p *Peer) takeFirstFlight(f firstFlight) bool {
	o := offer{verdict: handshake.NewClientHello}
	p.mu.Lock()
	if p.addr != f.from.peer { // it has moved
		p.mu.Unlock()
		return false
	}
	for rest := f.datagram; len(rest) > 0; {
		var r record.Record
		r, rest, _ = record.Next(rest)
		if p.conn != nil && isHelloOf(r, p.conn.records.ClientRandom()) {
			o.verdict = handshake.Unexpected
			break
		}
		if o = p.offerLocked(f.from, r); o.verdict == handshake.NewClientHello {
			break
		}
	}
	p.mu.Unlock()
	p.listener.countVerdict(f.from.peer, o.verdict)
	return o.verdict != handshake.NewClientHello
}

// roomFor reports whether a peer may have one more handshake, and returns the one that has
// to end for it, or nil. At most maxUnvalidated handshakes of an address wait for its
// validation. If there are more ClientHellos somebody forges them. The client takes the
// first HelloVerifyRequest that it gets for the answer to its own ClientHello. So a further
// ClientHello is answered only if a client is there that repeats it.
func (p *Peer) roomFor(f firstFlight) (inSlot bool, class clientClass, replaces *ticket, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	inSlot = p.conn != nil || p.pending != nil
	if p.conn != nil && p.pending == nil {
		class = returning
	}
	count := 0
	var oldest, resuming *pending
	for h := p.pending; h != nil; h = h.next { // newest first
		switch {
		case h.validated:
			continue
		case h.resuming != nil:
			resuming = h
		default:
			oldest = h
		}
		count++
	}
	if count < maxUnvalidated {
		return inSlot, class, nil, true
	}
	if oldest == nil { // their clients can be done, and would not notice
		if oldest = resuming; time.Since(oldest.started) < restartUnasked {
			return inSlot, class, nil, false
		}
	}
	age := time.Since(oldest.started)
	repeated := p.listener.hellos.isRepeated(f.key, f.arrived)
	if age < restartAfter || !repeated && age < restartUnasked {
		return inSlot, class, nil, false
	}
	p.listener.hellos.takeTurn(f.key)
	return inSlot, class, &oldest.ticket, true
}

// startLocked starts a handshake for a peer that has a slot, with the client's first
// flight, which may name a session. The peer is locked, and so is the admission, whose
// ticket it returns.
func (l *Listener) startLocked(p *Peer, f firstFlight, namesSession bool) *ticket {
	ctx, cancel := context.WithTimeout(context.Background(), l.config.HandshakeTimeout)
	h := &pending{
		peer: p, route: f.from, cancel: cancel, handshake: l.handshaker.New(l.parameters(p, f)), started: time.Now(), next: p.pending,
		validated: f.cookie != nil, withdrawals: l.identities.withdrawalCount(),
	}
	h.ticket.owner = h
	if namesSession {
		h.flight = f
		h.flight.datagram = bytes.Clone(f.datagram)
	}
	for rest := f.datagram; len(rest) > 0; {
		var r record.Record
		r, rest, _ = record.Next(rest)
		l.countVerdict(f.from.peer, h.handshake.HandleRecord(r))
	}
	p.pending = h
	l.counters.started.Add(1)
	l.life.running.Go(func() { l.run(ctx, h) })
	return &h.ticket
}

// parameters returns what the handshake of a first flight gets from the listener. The peer is
// locked, and has its slot.
func (l *Listener) parameters(p *Peer, f firstFlight) handshake.Parameters {
	from := f.from
	return handshake.Parameters{
		Send: from.send,
		PSK: func(ctx context.Context, serverName string, identity []byte) ([]byte, error) {
			return l.pskOf(ctx, from.peer, serverName, identity)
		},
		Cookie: f.cookie, ConnectionID: l.ids.id(p.handleLocked().Slot(), p.generation),
		Count: func(verdict handshake.Verdict) { l.countVerdict(from.peer, verdict) },
		Limits: handshake.Limits{
			ClientHello: l.config.MaxClientHello, PSKIdentity: l.config.MaxPSKIdentity,
			CertificateChain: l.config.MaxCertificateChain, Certificates: l.config.MaxCertificates,
		},
	}
}

// run does a handshake and establishes its session.
func (l *Listener) run(ctx context.Context, h *pending) {
	if err := l.handshake(ctx, h); err != nil {
		l.fail(h, err, errors.Is(ctx.Err(), context.DeadlineExceeded))
	}
	h.handshake.Close()
	h.cancel()
	l.admission.finished()
	l.startFromBacklog()
}

// SPDX-License-Identifier: MIT

package handshake

import (
	"bytes"
	"slices"
	"sync"

	"github.com/go-dsm/dsm/internal/record"
)

// flight is the server's current flight (RFC 6347 section 4.2.4), which is sent again
// when the client may have missed it.
type flight struct {
	datagrams [][]outgoing // as pion has divided it
	answered  bool         // the client has answered: what pion sends next is another flight
}

// outgoing is what a record for the client holds, before it has a sequence number.
type outgoing struct {
	kind      record.Type
	protected bool
	payload   []byte
}

// rooms has buffers for datagrams that are sent at once.
var rooms = sync.Pool{New: func() any { return new([]byte) }}

// FromPion takes a datagram that pion writes, and sends what of it is for the client.
// What pion repeats is not: the gate repeats flights itself. Nor is the last flight of a
// full handshake, which Result returns.
func (g *Gate) FromPion(datagram []byte) {
	room := rooms.Get().(*[]byte)
	g.mu.Lock()
	out := g.takeLocked((*room)[:0], bytes.Clone(datagram))
	g.mu.Unlock()
	if out != nil {
		g.parameters.Send(out)
		*room = out
	}
	rooms.Put(room)
}

// takeLocked takes a datagram that pion writes, and appends what is to be sent for it to
// dst, or returns nil.
func (g *Gate) takeLocked(dst, datagram []byte) []byte {
	if g.muted {
		return nil
	}
	taken := make([]outgoing, 0, 4)
	for rest := datagram; len(rest) > 0; {
		r, after, fault := record.NextWithID(rest, len(g.peerConnectionIDLocked()))
		if fault != record.NoFault {
			break // pion writes none
		}
		rest = after
		if r.Type == record.TypeAlert {
			return g.takeAlertLocked(dst, r)
		}
		o, isNew := g.takeRecordLocked(r)
		if lastFlight := g.server.changeCipher && g.resuming == nil; isNew && !lastFlight {
			taken = append(taken, o)
		}
	}
	if len(taken) == 0 {
		return nil
	}
	if g.flight.answered {
		g.flight = flight{}
	}
	g.flight.datagrams = append(g.flight.datagrams, taken)
	out := g.renderLocked(dst, taken)
	interval, least := g.options.Interval, minInterval
	if g.step == awaitCookie {
		interval, least = 0, minCookieInterval // at the client's word alone (RFC 6347 section 4.2.1)
	}
	g.repeats.start(interval, least, g.repeat)
	return out
}

// takeRecordLocked takes a record of pion's, and reports whether it is new and for the
// client.
func (g *Gate) takeRecordLocked(r record.Record) (outgoing, bool) {
	o := outgoing{kind: r.Type, protected: r.Epoch > 0, payload: r.Fragment()}
	switch {
	case r.Type == record.TypeChangeCipherSpec:
		again := g.server.changeCipher
		g.server.changeCipher = true
		return o, !again
	case o.protected:
		if g.records == nil {
			return o, false
		}
		var err error
		if o.payload, o.kind, err = g.records.OpenOwn(r); err != nil {
			return o, false
		}
	}
	if o.kind != record.TypeHandshake {
		return o, false
	}
	f, _, ok := record.NextHandshake(o.payload)
	if !ok || f.MessageSeq != g.server.nextSeq {
		return o, false
	}
	if p := &g.server.partial; !f.Complete() {
		if p.add(f); !p.complete() {
			return o, true
		}
		f.Offset, f.Body = 0, p.body
		*p = partial{}
	}
	g.server.nextSeq++
	g.watchLocked(f)
	return o, f.Type != record.MessageHelloVerifyRequest || g.parameters.Cookie == nil
}

// renderLocked appends a datagram to dst, whose records have the next sequence numbers. It
// returns nil if the datagram must not be sent: its client could be the victim of somebody
// who has forged the address.
func (g *Gate) renderLocked(dst []byte, records []outgoing) []byte {
	size := 0
	for _, o := range records {
		size += record.HeaderSize + len(o.payload)
		if o.protected {
			size += g.records.Overhead()
		}
	}
	dst = slices.Grow(dst, size)
	for _, o := range records {
		if !o.protected {
			dst = g.plaintextLocked(dst, o)
			continue
		}
		var err error
		if dst, err = g.records.Seal(dst, o.kind, o.payload); err != nil {
			return nil
		}
	}
	if !g.budget.allow(len(dst)) {
		return nil
	}
	return dst
}

// plaintextLocked appends a record of epoch 0 for the client. A client of DTLS 1.0 gets
// none but records of that version: it would drop others.
func (g *Gate) plaintextLocked(dst []byte, o outgoing) []byte {
	begin := len(dst)
	dst = append(record.AppendHeader(dst, o.kind, 0, g.plaintext, len(o.payload)), o.payload...)
	if g.hello.Version == record.Version10 {
		record.PutVersion(dst[begin:], record.Version10)
	}
	g.plaintext++
	return dst
}

// repeatNowLocked sends the current flight again, because the client has repeated its own
// (RFC 6347 section 4.2.4).
func (g *Gate) repeatNowLocked() {
	if g.outcome.refusal != nil && g.server.cookie == nil {
		g.askForCookieLocked()
	}
	if g.step == awaitCookie || g.step.fromClient() {
		g.repeats.request(g.repeat)
	}
}

// repeat sends the current flight again. It is called by the timer.
func (g *Gate) repeat() {
	g.mu.Lock()
	var datagrams [][]byte
	if !g.muted && (g.step == awaitCookie || g.step.fromClient()) {
		due := g.repeats.next(g.repeat)
		refusing := g.outcome.refusing
		g.outcome.refusing = false
		switch {
		case refusing && g.verifyData == nil:
			g.refuseFinishedLocked(record.BadRecordMAC)
		case due && g.outcome.clientIsGone():
			g.failLocked(g.outcome.explain(errClientAlert))
		default:
			for _, records := range g.flight.datagrams {
				if datagram := g.renderLocked(nil, records); datagram != nil {
					datagrams = append(datagrams, datagram)
				}
			}
		}
	}
	g.mu.Unlock()
	for _, datagram := range datagrams {
		g.parameters.Send(datagram)
	}
}

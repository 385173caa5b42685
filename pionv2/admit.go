// SPDX-License-Identifier: MIT

package pionv2

import (
	"bytes"
	"container/list"
	"context"
	"net/netip"
	"time"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/internal/record"
)

// greet takes the datagram of a peer that has no slot. It begins a handshake if it
// is one whole ClientHello, a client's first message; a closed peer's late flight is
// not, and would wait for what never comes.
func (l *Listener) greet(from path, datagram []byte) {
	r, rest, fault := record.Next(datagram)
	if fault != record.NoFault {
		l.counters.malformed.Add(1)
		return
	}
	hello, ok := record.ParseClientHello(r)
	if !ok || len(rest) != 0 || hello.MessageSeq != 0 {
		l.counters.stray.Add(1)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopping || !l.roomLocked(from.peer.Addr(), false) {
		return
	}
	if l.table.AvailableSlots() == 0 { // a shared table: other listeners have the slots
		l.counters.noRoom.Add(1)
		return
	}
	p := &Peer{listener: l, addr: from.peer}
	p.mu.Lock()
	defer p.mu.Unlock()
	session := dsm.Session[*Peer]{Peer: p.addr, Value: p}
	handle, previous := l.table.Hold(l.sock, &session, dsm.StateHandshake, false)
	switch previous {
	case dsm.StateNone:
		p.handle = handle
		l.beginLocked(p, from, r, hello)
	case dsm.NoSpace: // since a moment ago
		l.counters.noRoom.Add(1)
	default: // of another socket's reader, meanwhile
		l.counters.stray.Add(1)
	}
}

// again begins a handshake for a peer that has a slot: beside its session, which
// lives on until the new one is established (RFC 6347 section 4.2.8), or instead of
// a handshake that the client has forgotten.
func (l *Listener) again(p *Peer, from path, r record.Record, hello record.ClientHello) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p.mu.Lock()
	old, alive := p.handshake, p.conn != nil || p.handshake != nil
	p.mu.Unlock()
	switch {
	case l.stopping || !alive:
		return
	case old != nil && (old.proven.Load() || time.Since(old.began) < restartAfter):
		l.counters.plaintext.Add(1) // the client repeats it, if it is a client
		return
	case old != nil:
		l.displaceLocked(old, false)
	}
	ok := l.roomLocked(from.peer.Addr(), true)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case ok:
		l.beginLocked(p, from, r, hello)
	case p.conn == nil:
		p.handle.Free()
	}
}

const (
	// restartAfter is how old a half-open handshake is at least when another
	// ClientHello takes its place: anybody can send one after the other.
	restartAfter = 50 * time.Millisecond
	// stallAfter is how old a handshake is at least that has to go for another one
	// though its client has returned the cookie.
	stallAfter = 2 * time.Second
)

// beginLocked starts a handshake, for which there is room. The peer is locked, too.
func (l *Listener) beginLocked(p *Peer, from path, r record.Record, hello record.ClientHello) {
	ctx, cancel := context.WithTimeout(context.Background(), l.config.HandshakeTimeout)
	h := &handshake{peer: p, began: time.Now(), transport: newTransport(from, hello.Random, l.dtls.ReplayProtectionWindow), cancel: cancel}
	h.transport.feed(r.Raw)
	if l.config.Resumption != nil {
		own, _, _ := record.Next(bytes.Clone(r.Raw)) // hello is the socket's
		h.hello, _ = record.ParseClientHello(own)
	}
	h.at = l.halfOpen.PushBack(h)
	h.unproven = l.unproven.PushBack(h)
	prefix := sourceOf(p.addr.Addr())
	h.source = l.sources[prefix]
	if h.source == nil {
		h.source = &source{prefix: prefix}
		l.sources[prefix] = h.source
	}
	h.inSource = h.source.all.PushBack(h)
	h.inShare = h.source.unproven.PushBack(h)
	p.handshake = h
	l.counters.started.Add(1)
	l.runs++
	l.running.Add(1)
	go l.run(ctx, h)
}

// roomLocked makes sure that one more handshake may begin: within the cap, and
// within the share of its source. known is whether the peer has a slot already.
func (l *Listener) roomLocked(addr netip.Addr, known bool) bool {
	switch {
	case l.config.WhenFull == RefuseNewcomer && !known && l.established >= l.config.Sessions,
		// Those that were displaced take a while to end, and pion's memory with them.
		l.runs >= 2*l.config.Handshakes+minHandshakes:
		l.counters.noRoom.Add(1)
		return false
	}
	if s := l.sources[sourceOf(addr)]; s != nil && s.all.Len() >= l.config.HandshakesPerSource && !l.makeRoomLocked(&s.unproven, &s.all) {
		l.counters.sourceShare.Add(1)
		return false
	}
	if l.halfOpen.Len() >= l.config.Handshakes && !l.makeRoomLocked(&l.unproven, &l.halfOpen) {
		l.counters.noRoom.Add(1)
		return false
	}
	return true
}

// makeRoomLocked displaces the oldest handshake whose client has not returned its
// cookie, as most of a flood never will; or else the oldest of all, if it has taken
// much longer than an honest client's takes.
func (l *Listener) makeRoomLocked(unproven, all *list.List) bool {
	if oldest := unproven.Front(); oldest != nil {
		l.displaceLocked(oldest.Value.(*handshake), true)
		return true
	}
	oldest := all.Front().Value.(*handshake)
	if time.Since(oldest.began) < stallAfter {
		return false
	}
	l.displaceLocked(oldest, true)
	return true
}

// prove notes that the client has shown that it is where it says it is, if it has.
func (l *Listener) prove(h *handshake) {
	if !h.transport.hasShown() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !h.over && !h.proven.Swap(true) {
		l.unproven.Remove(h.unproven)
		h.source.unproven.Remove(h.inShare)
	}
}

// displaceLocked ends a handshake for another, and says so to nobody: the client
// repeats its ClientHello or it was none.
func (l *Listener) displaceLocked(h *handshake, freeSlot bool) {
	l.counters.displaced.Add(1)
	l.stopHandshakeLocked(h, freeSlot)
	h.transport.mute()
	h.cancel()
}

// abort ends an abbreviated handshake whose client has sent a fatal alert that is
// authentic, and makes its session impossible to resume.
func (l *Listener) abort(h *handshake) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h.over {
		return
	}
	l.counters.failed.Add(1)
	l.stopHandshakeLocked(h, true)
	h.transport.mute()
	h.cancel()
	if !l.closed {
		l.running.Go(func() { l.remove(string(h.hello.SessionID), h.transport.resumes) })
	}
}

// stopHandshakeLocked takes a handshake out of all lists and counts, once, and gives
// its slot back if there is no session in it.
func (l *Listener) stopHandshakeLocked(h *handshake, freeSlot bool) {
	if h.over {
		return
	}
	l.forgetLocked(h)
	p := h.peer
	p.mu.Lock()
	if p.handshake == h {
		p.handshake = nil
		if freeSlot && p.conn == nil {
			p.handle.Free()
		}
	}
	p.mu.Unlock()
}

// forgetLocked takes a handshake out of all lists and counts.
func (l *Listener) forgetLocked(h *handshake) {
	h.over = true
	l.halfOpen.Remove(h.at)
	h.source.all.Remove(h.inSource)
	if !h.proven.Load() {
		l.unproven.Remove(h.unproven)
		h.source.unproven.Remove(h.inShare)
	}
	if h.source.all.Len() == 0 {
		delete(l.sources, h.source.prefix)
	}
}

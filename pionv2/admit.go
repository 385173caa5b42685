// SPDX-License-Identifier: MIT

package pionv2

import (
	"context"
	"net/netip"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/internal/record"
)

// greet takes the datagram of a peer that has no slot. It begins a handshake if it
// is one whole ClientHello, a client's first message; a closed peer's late flight is
// not, and would wait for what never comes.
func (l *Listener) greet(from path, datagram []byte) {
	r, rest, fault := record.Next(datagram)
	if fault != record.Sound {
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
	if l.stopping || !l.roomLocked(from.peer.Addr(), nil) {
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
	case dsm.NoSpace: // a shared table: other listeners have the slots
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
	if l.stopping || !alive || old != nil && old.proven.Load() {
		return
	}
	if old != nil {
		l.displaceLocked(old, false)
	}
	// Whoever was displaced, the peer's own slot is kept.
	ok := l.roomLocked(from.peer.Addr(), p)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case ok:
		l.beginLocked(p, from, r, hello)
	case p.conn == nil:
		p.handle.Free()
	}
}

// beginLocked starts a handshake, for which there is room. The peer is locked, too.
func (l *Listener) beginLocked(p *Peer, from path, r record.Record, hello record.ClientHello) {
	ctx, cancel := context.WithTimeout(context.Background(), l.config.HandshakeTimeout)
	h := &handshake{peer: p, random: hello.Random, transport: newTransport(from), cancel: cancel}
	h.transport.feed(r.Raw)
	h.at = l.halfOpen.PushBack(h)
	prefix := sourceOf(p.addr.Addr())
	h.source = l.sources[prefix]
	if h.source == nil {
		h.source = &source{prefix: prefix}
		l.sources[prefix] = h.source
	}
	h.source.handshakes++
	h.unproven = l.unproven.PushBack(h)
	h.inSource = h.source.unproven.PushBack(h)
	p.handshake = h
	l.counters.started.Add(1)
	l.running.Add(1)
	go l.run(ctx, h)
}

// roomLocked makes sure that one more handshake may begin: within the cap, and
// within the share of its source. Where there are too many, the oldest goes that has
// not returned its cookie, as most of a flood never will. keep is a peer whose slot
// is not given up.
func (l *Listener) roomLocked(addr netip.Addr, keep *Peer) bool {
	if l.config.WhenFull == RefuseNewcomer && keep == nil && l.established >= l.config.Sessions {
		l.counters.noRoom.Add(1)
		return false
	}
	if s := l.sources[sourceOf(addr)]; s != nil && s.handshakes >= l.config.HandshakesPerSource {
		oldest := s.unproven.Front()
		if oldest == nil {
			l.counters.sourceShare.Add(1)
			return false
		}
		l.displaceLocked(oldest.Value.(*handshake), true)
	}
	if l.halfOpen.Len() >= l.config.Handshakes {
		oldest := l.unproven.Front()
		if oldest == nil {
			l.counters.noRoom.Add(1)
			return false
		}
		l.displaceLocked(oldest.Value.(*handshake), true)
	}
	return true
}

// proven notes that the client has returned its cookie.
func (l *Listener) proven(h *handshake) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !h.over && !h.proven.Swap(true) {
		l.unproven.Remove(h.unproven)
		h.source.unproven.Remove(h.inSource)
	}
}

// displaceLocked ends a handshake for another, and says so to nobody: the client
// repeats its ClientHello or it was none.
func (l *Listener) displaceLocked(h *handshake, freeSlot bool) {
	l.counters.displaced.Add(1)
	l.forgetLocked(h)
	p := h.peer
	p.mu.Lock()
	if p.handshake == h {
		p.handshake = nil
	}
	if freeSlot && p.conn == nil {
		p.handle.Free()
	}
	p.mu.Unlock()
	h.transport.mute()
	h.cancel()
}

// dropLocked ends a handshake that failed, and gives its slot back if there is no
// session in it.
func (l *Listener) dropLocked(h *handshake) {
	if h.over {
		return
	}
	l.forgetLocked(h)
	p := h.peer
	p.mu.Lock()
	if p.handshake == h {
		p.handshake = nil
		if p.conn == nil {
			p.handle.Free()
		}
	}
	p.mu.Unlock()
}

// forgetLocked takes a handshake out of all lists and counts, once.
func (l *Listener) forgetLocked(h *handshake) {
	if h.over {
		return
	}
	h.over = true
	l.halfOpen.Remove(h.at)
	if !h.proven.Load() {
		l.unproven.Remove(h.unproven)
		h.source.unproven.Remove(h.inSource)
	}
	if h.source.handshakes--; h.source.handshakes == 0 {
		delete(l.sources, h.source.prefix)
	}
}

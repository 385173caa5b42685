// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"net/netip"
	"time"
)

// candidate is the address that a peer seems to have moved to. An authentic record that is
// newer than all others has come from there (RFC 9146 section 6). But whoever is on the path
// of the peer's records can send one of them from any address, before the server receives it
// from the peer. So until the peer has shown that it receives at the address, at most
// addressFactor times as many bytes go there as have come from there.
type candidate struct {
	to             route // the zero route: there is no candidate
	received, sent int   // bytes of authentic records from there, and of datagrams that went there

	// Of RFC 9853:
	cookie     pathCookie
	challenges int       // sent
	challenged time.Time // when the last one was sent, also to an earlier candidate

	verified bool // the peer receives there, but the address was taken
}

// left returns how many bytes may still be sent to the candidate.
func (x *candidate) left() int { return addressFactor*x.received - x.sent }

// candidateLocked returns the candidate of the session, or nil.
func (c *Conn) candidateLocked() *candidate {
	if c.extras == nil || c.extras.candidate == nil || c.extras.candidate.to.socket == nil {
		return nil
	}
	return c.extras.candidate
}

// setCandidateLocked replaces the candidate. The zero route means none.
func (c *Conn) setCandidateLocked(to route) *candidate {
	x := c.extrasLocked()
	if x.candidate == nil {
		x.candidate = new(candidate)
	}
	*x.candidate = candidate{to: to, challenged: x.candidate.challenged}
	return x.candidate
}

// noteAddressLocked notes from where an authentic record of size bytes has come. isNewest
// says that its sequence number is higher than all before. It returns the handshakes that
// the session has displaced by its move, or nil: the caller passes them to endDisplaced.
func (c *Conn) noteAddressLocked(from route, size int, isNewest bool) *pending {
	p, x := c.peer, c.candidateLocked()
	if from.peer == p.addr {
		c.setSourceLocked(from.source)
		if x != nil && isNewest { // the peer is back, or has never been away
			c.setCandidateLocked(route{})
		}
		return nil
	}
	l := p.listener
	isCandidate := x != nil && x.to.peer == from.peer
	switch {
	case isCandidate:
		x.received += size
		if isNewest {
			x.to = from
		}
	case isNewest && l.config.AddressChange == RefuseAddress:
		l.counters.addressChangesRefused.Add(1)
	case isNewest:
		x = c.setCandidateLocked(from)
		x.received = size
	}
	if !isNewest || x == nil || !x.verified && l.config.AddressChange != TrustAddress {
		return nil
	}
	return c.moveLocked()
}

// moveLocked moves the session to its candidate, if that address is free. Otherwise it keeps
// the candidate, and the next record from there tries again. The handshakes of the old
// address lose their slot. They are returned for endDisplaced.
func (c *Conn) moveLocked() (displaced *pending) {
	p, l := c.peer, c.peer.listener
	to := c.candidateLocked().to
	if p.conn != c || !p.handleLocked().Rebind(to.peer) {
		l.counters.addressChangesRefused.Add(1)
		return nil
	}
	p.addr = to.peer
	c.socket = to.socket.number
	c.setSourceLocked(to.source)
	c.setCandidateLocked(route{})
	l.counters.addressChanges.Add(1)
	l.journal.noteStateLocked(c)
	displaced, p.pending = p.pending, nil
	for h := displaced; h != nil; h = h.next {
		l.countDisplaced(h)
	}
	return displaced
}

// endDisplaced ends handshakes that were taken away from their peer, and are counted. No lock
// may be held.
func (l *Listener) endDisplaced(h *pending) {
	for ; h != nil; h = h.next {
		l.admission.end(&h.ticket)
		h.stop()
		h.rememberCookie()
	}
}

// answerRouteLocked returns where a datagram of size bytes goes that the session sends: to
// the candidate, if the limit allows it, and otherwise to the last address that was verified.
// It counts the datagram as sent.
func (c *Conn) answerRouteLocked(size int) route {
	if x := c.candidateLocked(); x != nil {
		if size <= x.left() {
			x.sent += size
			return x.to
		}
		c.peer.listener.counters.addressLimited.Add(1)
	}
	return c.routeLocked()
}

// UnverifiedAddress returns the address to which the peer seems to have moved, and whether
// there is one. With VerifyAddress an authentic record that is newer than all before has come
// from there, and the peer has not shown yet that it receives there. Peer still returns the
// old address.
func (c *Conn) UnverifiedAddress() (netip.AddrPort, bool) {
	c.peer.mu.Lock()
	defer c.peer.mu.Unlock()
	if x := c.candidateLocked(); x != nil && c.ended == 0 {
		return x.to.peer, true
	}
	return netip.AddrPort{}, false
}

// ConfirmAddress says that the peer has shown that it receives at an address by other means
// than RFC 9853, for example by CoAP's Echo option (RFC 9175 section 2.3). If that is the
// UnverifiedAddress, ConfirmAddress returns true and the session moves there. While another
// peer of the listener has that address, the session stays at its old one.
//
// The token that the peer has to repeat must have been sent to that address. A datagram that
// exceeds three times what has come from there goes to the old address, so a token in it
// proves nothing.
func (c *Conn) ConfirmAddress(from netip.AddrPort) bool {
	from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	c.peer.mu.Lock()
	x := c.candidateLocked()
	if x == nil || x.to.peer != from || c.ended != 0 || c.records.IsFrozen() {
		c.peer.mu.Unlock()
		return false
	}
	x.verified = true
	displaced := c.moveLocked()
	c.peer.mu.Unlock()
	c.peer.listener.endDisplaced(displaced)
	return true
}

// SPDX-License-Identifier: MIT

package dtlsserver

import "github.com/go-dsm/dsm/internal/record"

// rehandshake starts a handshake for a peer that has a slot: beside its session, which
// lives on until the new one is established (RFC 6347 section 4.2.8), or in place of a
// handshake that the client has forgotten.
func (l *Listener) rehandshake(p *Peer, from route, r record.Record) {
	p.mu.Lock()
	old, established := p.pending, p.conn != nil
	p.mu.Unlock()
	start := func() *ticket {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.pending != old || old == nil && p.conn == nil {
			// Meanwhile the handshake or the session has ended, or another handshake
			// has started.
			l.counters.plaintext.Add(1)
			return nil
		}
		if old != nil {
			l.counters.displaced.Add(1)
			old.stop()
		}
		return l.startLocked(p, from, r)
	}
	switch {
	case old != nil:
		l.countRefusal(l.admission.restart(&old.ticket, start))
	case established:
		l.countRefusal(l.admission.admit(p.addr.Addr(), true, start))
	default:
		l.firstClientHello(from, r)
	}
}

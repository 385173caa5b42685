// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"net/netip"
	"time"

	"github.com/go-dsm/dsm"
)

// What the tests of package dtlsserver_test see of the inside.

// ValidatedHandshakes returns how many handshakes in progress have a client that has
// validated its address.
func (l *Listener) ValidatedHandshakes() int {
	l.admission.mu.Lock()
	defer l.admission.mu.Unlock()
	n := 0
	for r := range l.admission.queues {
		for kind := range l.admission.queues[r] {
			for e := l.admission.queues[r][kind].Front(); e != nil; e = e.Next() {
				if e.Value.(*ticket).validatedAfter > 0 {
					n++
				}
			}
		}
	}
	return n
}

// IsValidated reports whether a handshake in progress of a peer has validated its
// address.
func (l *Listener) IsValidated(peer netip.AddrPort) bool {
	session, state := l.table.Get(l.sock, peer)
	if state != dsm.StateHandshake {
		return false
	}
	p := session.Value
	p.mu.Lock()
	defer p.mu.Unlock()
	for h := p.pending; h != nil; h = h.next {
		if h.validated {
			return true
		}
	}
	return false
}

// Table returns the listener's table.
func (l *Listener) Table() *dsm.Table[*Peer] { return l.table }

// Stopped reports whether no handshake starts any more.
func (l *Listener) Stopped() bool {
	l.admission.mu.Lock()
	defer l.admission.mu.Unlock()
	return l.admission.stopped
}

// SetLastUsed makes the session as if it had not been used since a time.
func (c *Conn) SetLastUsed(at time.Time) {
	c.peer.mu.Lock()
	defer c.peer.mu.Unlock()
	c.lastUsed = at.Sub(c.peer.listener.began)
}

// Sweep releases what the session can do without at a time, and reports whether it did.
func (c *Conn) Sweep(now time.Time) bool { return c.sweep(now) }

// HasCiphers reports whether the sweeper has the session.
func (c *Conn) HasCiphers() bool {
	c.peer.mu.Lock()
	defer c.peer.mu.Unlock()
	return c.releaser == bySweeper
}

// Readers returns how many Reads wait.
func (c *Conn) Readers() int {
	c.peer.mu.Lock()
	defer c.peer.mu.Unlock()
	if c.inbox == nil {
		return 0
	}
	return c.inbox.readers
}

// Socket returns the number of the session's socket.
func (c *Conn) Socket() int {
	c.peer.mu.Lock()
	defer c.peer.mu.Unlock()
	return int(c.socket)
}

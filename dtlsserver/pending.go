// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"bytes"
	"context"

	"github.com/go-dsm/dsm/internal/handshake"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/resume"
)

// pending is a handshake in progress.
type pending struct {
	// Set in Listener.startLocked, never changed.
	peer      *Peer
	route     route
	handshake handshake.Handshake
	cancel    context.CancelFunc // of Run's context

	// hello is the client's first ClientHello, once it was received. Only the handshake's
	// goroutine uses it.
	hello record.ClientHello

	ticket ticket // guarded by the admission's lock

	// The following is guarded by Peer.mu.
	validated bool         // the admission knows that the client has validated its address
	held      []heldRecord // protected records that came before the session
	heldBytes int
	resuming  *resume.Session // the session that Run may resume; nil: none
	sessionID []byte          // of resuming
}

type heldRecord struct {
	from route
	raw  []byte
}

// holdLocked keeps a protected record until the session is established, and reports
// whether there was room for it.
func (h *pending) holdLocked(from route, r record.Record) bool {
	if len(h.held) == heldRecords || h.heldBytes+len(r.Raw) > heldBytes {
		return false
	}
	h.held = append(h.held, heldRecord{from, bytes.Clone(r.Raw)})
	h.heldBytes += len(r.Raw)
	return true
}

// newlyValidatedLocked reports, once, that the client has validated its address. The
// admission is to be told after unlock.
func (h *pending) newlyValidatedLocked() bool {
	if h.validated || !h.handshake.AddressValidated() {
		return false
	}
	h.validated = true
	return true
}

// stop makes the handshake send nothing more, and lets it end. The client gets no alert:
// a real client retransmits its ClientHello.
func (h *pending) stop() {
	h.handshake.Abort()
	h.cancel()
}

// displaced ends the handshake to make room for another one. The admission's lock is held.
func (h *pending) displaced() {
	p := h.peer
	p.mu.Lock()
	if p.removePendingLocked(h) {
		p.listener.counters.displaced.Add(1)
	}
	p.mu.Unlock()
	h.stop()
}

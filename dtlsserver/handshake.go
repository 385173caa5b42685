// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"bytes"
	"context"
	"errors"

	"github.com/go-dsm/dsm/internal/record"
)

// startLocked starts a handshake for a peer that has a slot, with the ClientHello in r.
// The peer is locked, and so is the admission, whose ticket it returns.
func (l *Listener) startLocked(p *Peer, from route, r record.Record, hello record.ClientHello) *ticket {
	ctx, cancel := context.WithTimeout(context.Background(), l.config.HandshakeTimeout)
	h := &pending{peer: p, route: from, cancel: cancel, handshake: l.handshaker.New(hello, from.send)}
	h.ticket.owner = h
	if l.config.Resumption != nil {
		kept, _, _ := record.Next(bytes.Clone(r.Raw)) // hello refers to the socket's buffer
		h.hello, _ = record.ParseClientHello(kept)
	}
	h.handshake.HandleRecord(r)
	p.pending = h
	l.counters.started.Add(1)
	l.life.running.Go(func() { l.run(ctx, h) })
	return &h.ticket
}

// run does a handshake and establishes its session.
func (l *Listener) run(ctx context.Context, h *pending) {
	result, err := h.handshake.Run(ctx, l.lookUp(ctx, h))
	var c *Conn
	if err == nil {
		c = l.newSession(h, result)
		err = l.establish(h, c)
	}
	if err != nil {
		l.fail(ctx, h, err)
	}
	h.handshake.Close()
	h.cancel()
	l.admission.finished()
	if err == nil {
		c.storeOnce() // which can take a while
	}
}

// fail ends a handshake that has made no session.
func (l *Listener) fail(ctx context.Context, h *pending, err error) {
	if !l.drop(h) {
		return // its end is counted
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		l.counters.timedOut.Add(1)
	} else {
		l.counters.failed.Add(1)
	}
	l.log.Info("DTLS handshake failed", "peer", h.peer.addr, "error", err)
}

// abort ends an abbreviated handshake whose client has sent an authentic fatal alert,
// and makes its session impossible to resume.
func (l *Listener) abort(h *pending) {
	if !l.drop(h) {
		return
	}
	l.counters.failed.Add(1)
	h.stop()
	h.peer.mu.Lock()
	session := h.resuming
	h.peer.mu.Unlock()
	if session != nil {
		l.life.spawn(func() { l.revoke(h.hello.SessionID, session) })
	}
}

// drop takes a handshake away from its peer, and ends its ticket. It reports false if
// somebody else has taken it away.
//
// The peer comes first. A handshake whose ticket has ended fails by itself, and then
// run would be the one that takes it away and counts its end, not the caller.
func (l *Listener) drop(h *pending) bool {
	h.peer.mu.Lock()
	ours := h.peer.removePendingLocked(h)
	h.peer.mu.Unlock()
	l.admission.end(&h.ticket)
	return ours
}

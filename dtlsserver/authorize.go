// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/go-dsm/dsm/internal/handshake"
	"github.com/go-dsm/dsm/internal/record"
)

// AuthRequest is what Config.Authorize is called with: a session that could be established.
// All of it is authentic. It is the callback's own copy.
type AuthRequest struct {
	// Identity is who the peer has proven to be. A resumed or restored session has the
	// Identity of its full handshake.
	Identity Identity
	// IdentityKey is the Identity's key: what Config.IdentityKey returns for it.
	IdentityKey string
	// ServerName is what the client has asked for by SNI (RFC 6066 section 3), as it was sent.
	// Empty: nothing.
	ServerName string
	// Protocol is what ALPN has chosen (RFC 7301). Empty: nothing.
	Protocol string
	// Peer is the client's address. The client has shown that it receives there, except that a
	// restored session may have been established long ago.
	Peer netip.AddrPort
	// Resumed: the session was resumed by an abbreviated handshake (RFC 5246 section 7.3).
	Resumed bool
	// Restored: the session is taken over: by Listener.Attach or Listener.Restore, or from
	// Config.Journal.
	Restored bool
}

// authorize asks Config.Authorize for a session, and returns what its Conn gets as its value.
// It waits at most for Config.AuthorizeTimeout, and no longer than ctx. No lock may be held.
func (l *Listener) authorize(ctx context.Context, who handshake.Identity, r AuthRequest) (value any, err error) {
	if l.config.Authorize == nil {
		return nil, nil
	}
	request := r
	request.Identity, request.ServerName, request.Protocol = copyIdentity(who), who.ServerName, who.Protocol
	ctx, cancel := context.WithTimeout(ctx, l.config.AuthorizeTimeout)
	defer cancel()
	return l.authorization.call(ctx, &request)
}

// authorizeNew asks for the session of a handshake that is done. The error is a
// *notAuthorizedError.
func (l *Listener) authorizeNew(ctx context.Context, c *Conn, key string) error {
	value, err := l.authorize(ctx, c.identity.all(), AuthRequest{IdentityKey: key, Peer: c.Peer(), Resumed: c.Resumed()})
	if err != nil {
		return &notAuthorizedError{c, err}
	}
	c.SetValue(value)
	return nil
}

// authorizeRestored asks for an earlier session, whose value it sets. The error wraps
// ErrStateDenied.
func (l *Listener) authorizeRestored(ctx context.Context, s *sessionState) (err error) {
	r := AuthRequest{Peer: s.peer, Resumed: s.resumed, Restored: true}
	if l.config.Authorize != nil {
		r.IdentityKey = l.identityKey(s.identity)
	}
	s.value, err = l.authorize(ctx, s.identity, r)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrStateDenied, err)
	}
	return nil
}

// notAuthorizedError is the error of a handshake whose session Config.Authorize has not
// admitted.
type notAuthorizedError struct {
	conn *Conn // in no slot, and nobody else has it
	err  error // the callback's, or a *noAnswerError
}

func (e *notAuthorizedError) Error() string {
	return fmt.Sprintf("dsm: the session is not authorized: %v", e.err)
}

func (e *notAuthorizedError) Unwrap() error { return e.err }

// result returns the result of the handshake, and what its client is told.
func (e *notAuthorizedError) result() (result word, description uint8) {
	if isNoAnswer(e.err) {
		return resultAuthorizeTimedOut, record.InternalError
	}
	return resultDenied, record.AccessDenied
}

// tell tells the client by a fatal alert (RFC 5246 section 7.2.2). The handshake was dropped.
//
// In a full handshake the client has not got the server's ChangeCipherSpec, so the alert is in
// plaintext, with the next sequence number. If it is lost the client repeats its last flight,
// and is told again: see answerLastFlight. In an abbreviated handshake the client takes the
// session for established, so the alert is sealed. It is sent once, as a close_notify is, and the
// session cannot be resumed any more.
func (e *notAuthorizedError) tell(h *pending) {
	c, p := e.conn, h.peer
	_, description := e.result()
	payload := record.Alert{Level: record.LevelFatal, Description: description}.Payload()
	if c.flight != (finalFlight{}) { // a full handshake
		p.noteRefused(description)
		header := record.AppendHeader(nil, record.TypeAlert, 0, uint64(c.flight.nextPlaintext), len(payload))
		h.route.send(append(header, payload...))
		return
	}
	p.mu.Lock()
	sealed, err := c.records.Seal(nil, record.TypeAlert, payload)
	c.records.ReleaseCiphers()
	p.mu.Unlock()
	if err == nil {
		h.route.send(sealed)
	}
	c.revoke()
}

// noteRefused notes that a full handshake of the peer was refused, and with which alert.
func (p *Peer) noteRefused(description uint8) {
	p.mu.Lock()
	if p.conn != nil {
		p.conn.extrasLocked().successorRefused = true
	}
	peer := p.addr
	p.mu.Unlock()
	p.listener.stale.addLastFlight(peer, description)
}

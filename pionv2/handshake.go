// SPDX-License-Identifier: MIT

package pionv2

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/go-dsm/dsm/internal/handshake"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/resume"
	"github.com/pion/dtls/v2"
)

// Bounds of a plaintext handshake record that pion gets.
const (
	maxMessages   = 8  // messages, or fragments: pion has a loop for each
	maxMessageSeq = 16 // pion keeps messages that are far ahead, without a bound
)

// serverHandshake is one handshake that pion runs. It decides which of the client's
// records pion gets, and watches what pion sends, because the session is taken over with
// the sequence numbers that pion has left.
//
// In a full handshake the client's last flight comes first, and the server's ends the
// handshake. In an abbreviated one (RFC 5246 section 7.3) it is the other way round.
type serverHandshake struct {
	// Set in newServerHandshake, never changed.
	config       *dtls.Config // the listener's
	resumption   bool         // the session gets an ID, so that it can be stored
	clientRandom record.Random
	sessionID    []byte // that the client would resume; only with resumption
	send         func(datagram []byte)

	*transport
	amplification amplification

	// Set by Run.
	pion *dtls.Conn // nil: the handshake has failed
	psk  []byte     // the client's key, once pion has asked for it; only with resumption

	// transport.mu guards the following.
	client     clientFlight
	server     serverFlight
	muted      bool            // pion sends nothing more, so its sequence numbers stand still
	resuming   *resume.Session // nil: the handshake is a full one
	records    *record.Session // nil until pion has the master secret
	lastRecord []byte          // the last record for pion as it was received, to recognize duplicates
}

var _ handshake.Handshake = (*serverHandshake)(nil)

func newServerHandshake(config *dtls.Config, resumption bool, hello record.ClientHello, send func([]byte)) *serverHandshake {
	h := &serverHandshake{config: config, resumption: resumption, clientRandom: hello.Random, send: send}
	h.transport = newTransport(h.sendOfPion, h.pauseEndLocked)
	if resumption {
		h.sessionID = bytes.Clone(hello.SessionID)
	}
	return h
}

// HandleRecord is part of handshake.Handshake.
func (h *serverHandshake) HandleRecord(r record.Record) handshake.Verdict {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.Epoch == 0 {
		return h.handlePlaintextLocked(r)
	}
	return h.handleProtectedLocked(r)
}

func (h *serverHandshake) handlePlaintextLocked(r record.Record) handshake.Verdict {
	hello, isHello := record.ParseClientHello(r)
	if isHello {
		if h.hasCookieLocked(hello) {
			h.amplification.validated.Store(true)
		}
		if hello.MessageSeq == 0 && hello.Random != h.clientRandom && !h.AddressValidated() {
			return handshake.NewClientHello
		}
	}
	switch {
	case h.finishingLocked(), // pion must not retransmit any more
		r.Type == record.TypeApplicationData, // pion would fail, and leave its transport open
		!h.expectsLocked(r, hello, isHello):
		return handshake.Unexpected
	case r.Type == record.TypeChangeCipherSpec:
		h.receiveClientFlightLocked(r)
		return handshake.Accepted
	case !h.AddressValidated() && !isHello && r.Type != record.TypeAlert,
		r.Type == record.TypeHandshake && !isHello && !plausible(r):
		return handshake.Unexpected
	}
	h.amplification.received += len(r.Raw)
	if bytes.Equal(r.Raw, h.lastRecord) {
		return handshake.Accepted // the network's duplicate, which pion must not answer twice
	}
	h.lastRecord = bytes.Clone(r.Raw)
	if !h.passOnLocked(inbound{raw: bytes.Clone(r.Raw)}) {
		return handshake.NoSpace
	}
	return handshake.Accepted
}

// expectsLocked reports whether a plaintext record can be the client's. Pion keeps
// everything else too, and adds it to the transcript: after one message that the client
// has not sent, its Finished does not verify. A ClientHello of the client is its first
// one, repeated, or the one with the cookie. In an abbreviated handshake nothing else is
// expected but ChangeCipherSpec, and alerts until the client has shown that it has the
// keys.
func (h *serverHandshake) expectsLocked(r record.Record, hello record.ClientHello, isHello bool) bool {
	switch {
	case r.Type == record.TypeChangeCipherSpec:
		return true
	case isHello && hello.MessageSeq == 0:
		return h.passedOn == 0 || hello.Random == h.clientRandom && len(hello.Cookie) == 0
	case isHello:
		return hello.Random == h.clientRandom && hello.MessageSeq == 1 && h.resuming == nil && h.hasCookieLocked(hello)
	default:
		return h.resuming == nil || r.Type == record.TypeAlert && !h.AddressValidated()
	}
}

// hasCookieLocked reports whether a ClientHello has the cookie that pion asked for.
func (h *serverHandshake) hasCookieLocked(hello record.ClientHello) bool {
	return len(h.server.cookie) > 0 && bytes.Equal(h.server.cookie, hello.Cookie)
}

// plausible reports whether a plaintext record holds what a client in its handshake
// sends. Pion keeps fragments of messages that are far ahead, and empty ones, which it
// does not count, and reassembles in quadratic time.
func plausible(r record.Record) bool {
	rest := r.Fragment()
	for range maxMessages {
		if len(rest) == 0 {
			return true
		}
		message, after, ok := record.NextHandshake(rest)
		if !ok || message.MessageSeq > maxMessageSeq || len(message.Body) == 0 && message.Length > 0 {
			return false
		}
		rest = after
	}
	return len(rest) == 0
}

func (h *serverHandshake) handleProtectedLocked(r record.Record) handshake.Verdict {
	if r.Epoch != epoch {
		return handshake.WrongEpoch
	}
	if r.Type == record.TypeHandshake && !h.finishingLocked() {
		h.receiveClientFlightLocked(r)
		return handshake.Accepted
	}
	h.amplification.received += len(r.Raw)
	if h.resuming == nil || h.records == nil {
		return handshake.ForSession // the keys are not known yet, or not any more
	}
	// The keys of an abbreviated handshake are known before it is done. A record that
	// they open shows where the client is. It can come before the client's Finished, or
	// instead of a Finished that was lost.
	payload, err := h.records.Peek(r)
	switch {
	case errors.Is(err, record.ErrReplay):
		return handshake.Replayed
	case errors.Is(err, record.ErrEpoch):
		return handshake.WrongEpoch
	case err != nil:
		return handshake.NotAuthentic
	}
	h.amplification.validated.Store(true)
	if r.Type == record.TypeAlert {
		if alert, ok := record.ParseAlert(payload); ok && alert.Level == record.LevelFatal {
			return handshake.FatalAlert
		}
	}
	return handshake.ForSession
}

// finishingLocked reports whether pion has everything that the handshake needs: what is
// received from now on is the session's.
func (h *serverHandshake) finishingLocked() bool {
	if h.resuming != nil {
		return h.client.passedOn
	}
	return h.server.lastStarted
}

// receiveClientFlightLocked takes a record of the client's last flight.
func (h *serverHandshake) receiveClientFlightLocked(r record.Record) {
	h.amplification.received += len(r.Raw)
	h.client.receive(r, h.records)
	h.passOnClientFlightLocked()
}

// passOnClientFlightLocked gives pion the client's last flight once it is complete.
func (h *serverHandshake) passOnClientFlightLocked() {
	if h.client.finished != nil {
		h.amplification.validated.Store(true) // nobody else has the keys
	}
	if h.client.ready() {
		// Copies: if there is no room for both they are passed on again.
		h.client.passedOn = h.passOnLocked(inbound{raw: bytes.Clone(h.client.changeCipherSpec)}) &&
			h.passOnLocked(inbound{raw: bytes.Clone(h.client.finished), finished: true})
	}
}

// pauseEndLocked has the client repeat its last flight: pion waits for something else.
func (h *serverHandshake) pauseEndLocked() {
	if !h.muted {
		h.paused = false
		h.client.forget()
	}
}

// sendOfPion sends a datagram of pion's, and notes what the session must know of it.
func (h *serverHandshake) sendOfPion(datagram []byte) {
	h.mu.Lock()
	allowed := !h.muted && h.amplification.allow(len(datagram))
	if allowed {
		h.server.watch(datagram)
		h.done = h.server.lastStarted && h.resuming == nil
		if h.resuming != nil && h.server.hello != (record.ServerHello{}) {
			h.setMasterSecretLocked(h.resuming.Secret)
		}
	}
	h.mu.Unlock()
	if allowed {
		h.send(datagram)
	}
}

// setMasterSecret is called when pion has the master secret of a full handshake.
func (h *serverHandshake) setMasterSecret(secret []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.setMasterSecretLocked(secret)
}

// setMasterSecretLocked makes the session's record layer, once. Without one pion gets no
// Finished, and the handshake times out.
func (h *serverHandshake) setMasterSecretLocked(secret []byte) {
	if h.records != nil {
		return
	}
	h.records, _ = record.New(record.Config{
		Suite: h.server.hello.Suite, MasterSecret: secret, ClientRandom: h.clientRandom, ServerRandom: h.server.hello.Random,
		Epoch: epoch, ReplayWindow: h.config.ReplayProtectionWindow,
	})
	if h.records != nil {
		h.client.openEarly(h.records)
		h.passOnClientFlightLocked()
	}
}

// AddressValidated is part of handshake.Handshake.
func (h *serverHandshake) AddressValidated() bool { return h.amplification.validated.Load() }

// Run is part of handshake.Handshake.
func (h *serverHandshake) Run(ctx context.Context, session *resume.Session) (*handshake.Result, error) {
	pion, err := dtls.ServerWithContext(ctx, h.transport, h.pionConfig(session))
	if err != nil {
		return nil, err
	}
	h.pion = pion
	// Pion is muted first, because it may repeat its flight at any time, and the
	// session's sequence numbers begin after everything that was sent before.
	h.Abort()
	return h.result(pion.ConnectionState())
}

// pionConfig returns what pion gets for the handshake: the listener's configuration, and
// the session to resume, if there is one and pion can resume it.
func (h *serverHandshake) pionConfig(session *resume.Session) *dtls.Config {
	config := *h.config
	config.KeyLogWriter = keyLog{user: h.config.KeyLogWriter, masterSecret: h.setMasterSecret}
	if !h.resumption {
		return &config
	}
	config.SessionStore = pionStore{}
	if psk := config.PSK; psk != nil {
		config.PSK = func(identity []byte) ([]byte, error) {
			key, err := psk(identity)
			h.psk = bytes.Clone(key)
			return key, err
		}
	}
	if session == nil {
		return &config
	}
	resuming := resumingConfig(config, h.sessionID, session)
	if resuming == nil {
		return &config
	}
	resuming.KeyLogWriter = keyLog{user: h.config.KeyLogWriter, clientRandom: &h.clientRandom}
	h.mu.Lock()
	h.resuming = session
	h.mu.Unlock()
	return resuming
}

// result returns what the handshake leaves, from pion's state and from what was seen of
// its records.
func (h *serverHandshake) result(state dtls.State) (*handshake.Result, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.server.continueAfter(h.records); err != nil {
		return nil, err
	}
	result := &handshake.Result{Records: h.records, ServerHello: h.server.hello, PSK: h.psk}
	h.records = nil // what comes late for the handshake does not touch the session
	if h.resuming != nil {
		result.Resumed = true
		result.Identity = identityOf(h.resuming, h.server.hello.Protocol) // pion has forgotten it
		return result, nil
	}
	result.Identity = handshake.Identity{PSKIdentity: state.IdentityHint, Certificates: state.PeerCertificates, Protocol: h.server.hello.Protocol}
	if len(state.PeerCertificates) > 0 && h.config.ClientAuth >= dtls.VerifyClientCertIfGiven {
		result.Identity.Verified = time.Now()
	}
	result.Flight = h.server.repeatable(result.Records)
	return result, nil
}

// Abort is part of handshake.Handshake.
func (h *serverHandshake) Abort() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.muted = true
}

// Close is part of handshake.Handshake. Pion's Close waits for its goroutines, which can
// sleep for dtls.Config.FlightInterval.
func (h *serverHandshake) Close() {
	if h.pion != nil {
		_ = h.pion.Close()
	}
	_ = h.transport.Close()
}

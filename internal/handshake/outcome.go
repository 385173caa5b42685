// SPDX-License-Identifier: MIT

package handshake

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/go-dsm/dsm/internal/logtext"
	"github.com/go-dsm/dsm/internal/record"
)

// wrongFinishedAfter is the time from a client's first wrong Finished to the one after
// which the client is told. Those that a stranger sends at the same time do not end its
// handshake.
const wrongFinishedAfter = 500 * time.Millisecond

// patience is the time from a wrong Finished that a stranger can have sent to the alert for
// it. The rest of the flight that the client repeats comes meanwhile, and can have the right
// one.
const patience = 250 * time.Millisecond

// alertPatience is the least time from a plaintext alert to when it is believed. A client
// that computes for long, or is far away, does not answer a flight sooner.
const alertPatience = 5 * time.Second

// cookieSize is the length of a cookie of the gate's own, in bytes.
const cookieSize = 20

var errClientAlert = errors.New("the client has ended the handshake")

// outcome is why a handshake fails, as far as it is known. The gate's lock guards it.
type outcome struct {
	err     error         // the gate has ended the handshake
	refusal *record.Alert // pion has refused a ClientHello without a cookie
	alert   *record.Alert // for the client, when the handshake has failed
	psk     error         // why there is no key for the client; nil: there is one, or none was needed

	wrong       int // Finished messages that are not right
	authentic   int // of these, those that only the client can have sent
	wrongCause  Verdict
	firstWrong  time.Time
	repeated    bool   // the client has repeated its flight since the first of them
	refusing    bool   // the client is told in a moment, if its Finished has not come by then
	keyExchange []byte // the client's ClientKeyExchange
	identity    []byte // in it

	malformed   uint8         // a message of the client that was not accepted; 0: none
	clientAlert *record.Alert // fatal, not authentic, and no message has come since
	alertAt     time.Time     // when it came
	unanswered  bool          // a flight was repeated since
}

// noteWrongFinishedLocked notes a Finished that does not open, or whose verify_data is
// not right. The second time the client is told. Anybody can send a Finished that does not
// open in the client's name, so these count only when the client has repeated its flight.
func (g *Gate) noteWrongFinishedLocked(cause Verdict) Verdict {
	o, now := &g.outcome, time.Now()
	if o.wrong == 0 {
		o.firstWrong = now
	}
	o.wrong++
	o.wrongCause = cause
	if cause == WrongFinished {
		o.authentic++
	}
	again := o.authentic > 1 || o.repeated && now.Sub(o.firstWrong) >= wrongFinishedAfter
	switch {
	case !again || !g.budget.validated.Load() || o.err != nil || o.refusing || g.muted:
	case o.authentic > 1:
		g.refuseFinishedLocked(record.DecryptError)
	default:
		o.refusing = true
		g.repeats.schedule(patience, g.repeat)
	}
	return cause
}

// refuseFinishedLocked ends the handshake of a client whose Finished is not right.
func (g *Gate) refuseFinishedLocked(description uint8) {
	g.outcome.alert = &record.Alert{Level: record.LevelFatal, Description: description}
	g.failLocked(g.outcome.explain(errors.New("the client was refused")))
}

// noteRepetition notes a fragment of a message that was accepted before.
func (o *outcome) noteRepetition(f record.Handshake) {
	if o.wrong > 0 && f.Type == record.MessageClientKeyExchange && len(f.Body) >= min(minRepeated, len(o.keyExchange)) {
		p := wholePartial(f.Type, o.keyExchange)
		o.repeated = o.repeated || p.fits(f)
	}
}

// noteAlertLocked notes a plaintext alert. Anybody can forge one, so a fatal one is
// believed only when the client has not answered a flight that was repeated after it.
func (g *Gate) noteAlertLocked(r record.Record) {
	alert, ok := record.ParseAlert(r.Fragment())
	if ok && alert.Level == record.LevelFatal && g.step.fromClient() && g.budget.validated.Load() && g.outcome.clientAlert == nil {
		g.outcome.clientAlert, g.outcome.alertAt, g.outcome.unanswered = &alert, time.Now(), false
	}
}

// clientIsGone is called when a flight is due to be repeated, and reports whether the
// client has ended the handshake.
func (o *outcome) clientIsGone() bool {
	gone := o.clientAlert != nil && o.unanswered && time.Since(o.alertAt) >= alertPatience
	o.unanswered = true
	return gone
}

// explain adds to an error what is known of its cause.
func (o *outcome) explain(err error) error {
	switch {
	case o.wrong > 0 && o.wrongCause == WrongKey:
		err = fmt.Errorf("%w: its Finished does not open: another key on the device?", err)
	case o.wrong > 0:
		err = fmt.Errorf("%w: the verify_data of its Finished is wrong", err)
	case o.malformed != 0:
		err = fmt.Errorf("%w: its message of type %d is malformed, or exceeds a bound of Config", err, o.malformed)
	case o.clientAlert != nil:
		err = fmt.Errorf("%w: alert %d", err, o.clientAlert.Description)
	}
	if o.psk != nil && !errors.Is(err, o.psk) {
		err = fmt.Errorf("%w: %w", err, o.psk) // pion has not heard of it, for its time was over
	}
	if len(o.identity) > 0 && !errors.Is(o.psk, ErrNoKey) { // whose text has it
		err = fmt.Errorf("%w (PSK identity %s)", err, logtext.Name(o.identity))
	}
	return err
}

// takeAlertLocked takes an alert of pion's, and appends the datagram for the client to dst,
// or returns nil. An address that is not validated gets none: it could be a victim's.
func (g *Gate) takeAlertLocked(dst []byte, r record.Record) []byte {
	alert, ok := record.ParseAlert(r.Fragment())
	if !ok || r.Epoch > 0 || alert.Level != record.LevelFatal {
		return nil
	}
	if errors.Is(g.outcome.psk, ErrNoKey) {
		alert.Description = record.UnknownPSKIdentity // RFC 4279 section 2
	}
	if !g.budget.validated.Load() {
		g.outcome.refusal = &alert
		return nil
	}
	return g.renderLocked(dst, []outgoing{{kind: record.TypeAlert, payload: alert.Payload()}})
}

// askForCookieLocked sends a HelloVerifyRequest to a client that pion has refused before
// it sent one. The client has repeated its ClientHello, so it is there, and nobody else
// waits at its address for an answer to another ClientHello.
func (g *Gate) askForCookieLocked() {
	cookie := make([]byte, cookieSize)
	_, _ = rand.Read(cookie) // never fails
	g.server.cookie, g.step = cookie, awaitCookie
	body := record.AppendVersion(nil, g.hello.Version)
	body = append(append(body, cookieSize), cookie...)
	m := record.Handshake{Type: record.MessageHelloVerifyRequest, Length: len(body), Body: body}
	g.flight = flight{datagrams: [][]outgoing{{{kind: record.TypeHandshake, payload: m.Append(nil)}}}}
}

// Refuse ends a handshake in which pion has failed with err, and returns the error of
// Run. A client whose address is validated is told. One that pion has refused at its first
// ClientHello is asked for a cookie first, if it is there to repeat that, and told when it
// has returned the cookie. Refuse waits for that until ctx ends.
func (g *Gate) Refuse(ctx context.Context, err error) error {
	g.mu.Lock()
	refusal := g.outcome.refusal
	g.mu.Unlock()
	for refusal != nil && !g.AddressValidated() && ctx.Err() == nil {
		select {
		case <-g.wake:
		case <-ctx.Done():
		}
	}
	g.mu.Lock()
	o := &g.outcome
	if refusal != nil {
		o.alert = refusal
	}
	var datagram []byte
	if o.alert != nil && g.budget.validated.Load() && !g.muted {
		datagram = g.renderLocked(nil, []outgoing{{kind: record.TypeAlert, payload: o.alert.Payload()}})
	}
	g.muteLocked()
	if o.err != nil {
		err = o.err
	} else {
		err = o.explain(err)
	}
	g.mu.Unlock()
	if datagram != nil {
		g.parameters.Send(datagram)
	}
	return fmt.Errorf("dsm: %w", err)
}

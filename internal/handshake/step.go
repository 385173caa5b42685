// SPDX-License-Identifier: MIT

package handshake

import (
	"bytes"
	"fmt"

	"github.com/go-dsm/dsm/internal/record"
)

// step is the message of the client that a handshake waits for (RFC 5246 section 7.3, RFC
// 6347 section 4.2.4). No other message is accepted.
type step uint8

const (
	awaitHello       step = iota // the first ClientHello
	awaitCookie                  // the ClientHello with the cookie
	awaitServer                  // none: pion has to answer
	awaitCertificate             // Certificate, which pion has requested
	awaitKeyExchange             // ClientKeyExchange
	awaitVerify                  // CertificateVerify, after a Certificate that is not empty
	awaitFinished                // Finished, and the ChangeCipherSpec before it
	finished                     // none: pion has everything
)

// clientFlight are the messages of the client's last flight, in their order.
var clientFlight = []uint8{
	record.MessageCertificate, record.MessageClientKeyExchange, record.MessageCertificateVerify, record.MessageFinished,
}

// fromClient reports whether the client's last flight is awaited.
func (s step) fromClient() bool { return s >= awaitCertificate && s <= awaitFinished }

// mayCome reports whether a message may be the one after so many others, of which the
// first is awaited now.
func (s step) mayCome(ahead int, kind uint8) bool {
	switch {
	case s == awaitHello || s == awaitCookie:
		return ahead == 0 && kind == record.MessageClientHello
	case !s.fromClient():
		return false
	}
	at := int(s-awaitCertificate) + ahead
	return at < len(clientFlight) && clientFlight[at] == kind
}

// serverMessages is what was seen of pion's messages.
type serverMessages struct {
	nextSeq      uint16 // message_seq of the next one: what has a lower one is a repetition
	partial      partial
	cookie       []byte             // of the HelloVerifyRequest; nil: none was sent
	hello        record.ServerHello // the zero ServerHello: not sent yet
	keyExchange  keyExchange
	schemes      []byte // the signature algorithms of the CertificateRequest; nil: none was sent
	changeCipher bool   // ChangeCipherSpec was seen
	finished     []byte // the Finished with its header; nil: not seen yet
}

// acceptLocked takes the next whole message of the client, if it is one that may come
// now and each byte of it is right, and gives it to pion.
func (g *Gate) acceptLocked(m record.Handshake) Verdict {
	limits := g.parameters.Limits
	switch g.step {
	case awaitHello, awaitCookie:
		return g.acceptHelloLocked(m)
	case awaitCertificate:
		count, ok := parseCertificate(m.Body, limits)
		if !ok {
			return Malformed
		}
		g.certificates, g.step = count, awaitKeyExchange
	case awaitKeyExchange:
		identity, ok := parseClientKeyExchange(m.Body, g.server.keyExchange, limits)
		if !ok {
			return Malformed
		}
		g.outcome.identity, g.outcome.keyExchange = identity, m.Body
		g.step = awaitFinished
		if g.certificates > 0 {
			g.step = awaitVerify
		}
	case awaitVerify:
		if !parseCertificateVerify(m.Body, g.server.schemes) {
			return Malformed
		}
		g.step = awaitFinished
	default:
		return Unexpected
	}
	g.transcript.add(m)
	g.passOnLocked(m)
	return Accepted
}

// acceptHelloLocked takes a ClientHello.
func (g *Gate) acceptHelloLocked(m record.Handshake) Verdict {
	hello, ok := record.ParseClientHelloBody(m.Body)
	hello.MessageSeq = m.MessageSeq
	isFirst := g.helloBody == nil // for the gate: with Parameters.Cookie it is the client's second ClientHello
	switch {
	case !ok || hello.Version != record.Version12 && hello.Version != record.Version10:
		return Malformed
	case g.step == awaitCookie && !bytes.Equal(hello.Cookie, g.server.cookie):
		if isFirst {
			return NewClientHello
		}
		if len(hello.Cookie) == 0 || !record.SameParameters(g.hello, hello) {
			return Unexpected
		}
		return ForeignCookie
	case g.step == awaitCookie && !isFirst && !record.SameParameters(g.hello, hello):
		return AnotherHello
	case g.step == awaitCookie:
		g.budget.validated.Store(true)
	}
	if isFirst {
		close(g.helloReady)
		g.serverName = string(hello.ServerName)
	}
	g.hello, g.helloBody, g.step = hello, m.Body, awaitServer
	if g.outcome.refusal != nil {
		g.signal() // Refuse goes on
		return Accepted
	}
	g.flight.answered = true
	if g.parameters.Cookie != nil {
		// Pion wants to see the ClientHello that it would have answered by its own
		// HelloVerifyRequest.
		first := record.Handshake{Type: m.Type, Body: record.WithoutCookie(m.Body)}
		first.Length = len(first.Body)
		g.passOnLocked(first)
		g.apart = true
	}
	g.passOnLocked(m)
	return Accepted
}

// watchLocked notes what the gate must know of a message of pion's, which is whole.
func (g *Gate) watchLocked(m record.Handshake) {
	s, ok := &g.server, true
	switch m.Type {
	case record.MessageHelloVerifyRequest:
		if g.parameters.Cookie != nil {
			break // the client has returned the server's
		}
		var cookie []byte
		if cookie, ok = parseHelloVerifyRequest(m.Body); ok {
			s.cookie, g.step = bytes.Clone(cookie), awaitCookie
		}
	case record.MessageServerHello:
		if s.hello, ok = record.ParseServerHello(m.Body); ok {
			g.beginTranscriptLocked()
		}
	case record.MessageServerKeyExchange:
		s.keyExchange.point, ok = parseServerKeyExchange(m.Body, s.keyExchange.psk, s.keyExchange.ecdhe)
	case record.MessageCertificateRequest:
		s.schemes, ok = parseCertificateRequest(m.Body)
		s.schemes = bytes.Clone(s.schemes)
	case record.MessageServerHelloDone:
		g.step = awaitKeyExchange
		if s.schemes != nil {
			g.step = awaitCertificate
		}
	case record.MessageFinished:
		s.finished = m.Append(nil)
		if g.resuming != nil {
			g.step = awaitFinished
		}
	}
	if !ok {
		g.failLocked(fmt.Errorf("dsm: pion has sent a message of type %d that the gate cannot parse", m.Type))
		return
	}
	// The HelloVerifyRequest is not part of the transcript, and nobody asks for that of
	// the server's Finished in a full handshake, which is the last message.
	if m.Type != record.MessageHelloVerifyRequest {
		g.transcript.add(m)
	}
	if m.Type == record.MessageServerHello && g.resuming != nil {
		g.setMasterSecretLocked(g.resuming)
	}
}

// beginTranscriptLocked begins the transcript with the ClientHello that pion's ServerHello
// answers.
func (g *Gate) beginTranscriptLocked() {
	hello := g.server.hello
	g.server.keyExchange = keyExchange{psk: hello.Suite.PSK(), ecdhe: hello.Suite.ECDHE()}
	if hello.SessionID != string(g.hello.SessionID) {
		g.resuming = nil // pion has chosen a full handshake
	}
	g.transcript.begin(hello.Suite)
	g.transcript.add(record.Handshake{
		Type: record.MessageClientHello, Length: len(g.helloBody), MessageSeq: g.hello.MessageSeq, Body: g.helloBody,
	})
}

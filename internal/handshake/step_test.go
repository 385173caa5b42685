// SPDX-License-Identifier: MIT

package handshake

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// effect is what of a gate a record can change.
type effect struct {
	step     step
	nextSeq  uint16
	partials int  // messages of which something is kept
	queued   bool // something for pion
	early    int
	change   bool
	verified bool
}

func (g *Gate) effect() effect {
	e := effect{
		step: g.step, nextSeq: g.nextSeq, queued: len(g.queue) > 0, early: len(g.early),
		change: g.changeCipher, verified: g.verifyData != nil,
	}
	for _, p := range g.partials {
		if p.begun {
			e.partials++
		}
	}
	return e
}

// place is where a message comes: its type, and how many others are to come before it.
type place struct {
	kind  uint8
	ahead int
}

const (
	hello       = record.MessageClientHello
	certificate = record.MessageCertificate
	exchange    = record.MessageClientKeyExchange
	verify      = record.MessageCertificateVerify
	finish      = record.MessageFinished
)

// messageTypes are all types of RFC 5246 and RFC 6347, and two that no version has.
var messageTypes = []uint8{0, 1, 2, 3, 4, 11, 12, 13, 14, 15, 16, 20, 99, 255}

// transition is what a step does with a message that it accepts.
type transition struct {
	next step // of the handshake; the same step: the message is kept
}

// TestEachMessageInEachStep, at each place from the next one on, in plaintext and protected.
func TestEachMessageInEachStep(t *testing.T) {
	t.Parallel()
	empty := kindEmpty
	unrequested := kind{name: "no certificate requested", suite: 0xc02b}
	for _, test := range []struct {
		kind
		step      step
		plaintext map[place]transition
	}{
		{kindCertificate, awaitHello, map[place]transition{{hello, 0}: {awaitServer}}},
		{kindCertificate, awaitCookie, map[place]transition{{hello, 0}: {awaitServer}}},
		{kindCertificate, awaitServer, nil},
		{kindCertificate, awaitCertificate, map[place]transition{
			{certificate, 0}: {awaitKeyExchange}, {exchange, 1}: {awaitCertificate}, {verify, 2}: {awaitCertificate},
		}},
		{kindCertificate, awaitKeyExchange, map[place]transition{
			{exchange, 0}: {awaitVerify}, {verify, 1}: {awaitKeyExchange},
		}},
		{kindCertificate, awaitVerify, map[place]transition{{verify, 0}: {awaitFinished}}},
		{kindCertificate, awaitFinished, nil},
		{kindCertificate, finished, nil},
		// A CertificateVerify may come until the Certificate is known to be empty.
		{empty, awaitKeyExchange, map[place]transition{
			{exchange, 0}: {awaitFinished}, {verify, 1}: {awaitKeyExchange},
		}},
		{empty, awaitFinished, nil},
		{unrequested, awaitKeyExchange, map[place]transition{{exchange, 0}: {awaitFinished}}},
		{unrequested, awaitFinished, nil},
		{kindAbbreviated, awaitFinished, nil},
	} {
		t.Run(fmt.Sprintf("%s, step %d", test.name, test.step), func(t *testing.T) {
			for _, kind := range messageTypes {
				for ahead := range maxAhead + 1 {
					at := place{kind, ahead}
					inBubble(t, test.kind, func(s *script) {
						before := s.at(test.step)
						want, accepted := test.plaintext[at]
						verdict := s.messages(whole(kind, s.gate.nextSeq+uint16(ahead), s.bodyOf(kind)))
						after := before
						switch {
						case accepted && ahead == 0:
							after.step, after.queued = want.next, true
							after.nextSeq++
						case accepted:
							after.partials++
						}
						if !accepted {
							assert.Equal(t, Unexpected, verdict, "%v", at)
						} else {
							assert.Equal(t, Accepted, verdict, "%v", at)
						}
						assert.Equal(t, after, s.gate.effect(), "%v", at)
					})
					inBubble(t, test.kind, func(s *script) { s.protectedMessage(test.step, at) })
				}
			}
		})
	}
}

// at brings the handshake to a step, and reads all that is for pion.
func (s *script) at(to step) effect {
	s.to(to)
	if to == awaitFinished {
		s.gate.MasterSecret(secret)
	}
	s.messageSeq = s.gate.nextSeq
	s.pionReads()
	return s.gate.effect()
}

// protectedMessage sends a message in a record that the client has sealed.
func (s *script) protectedMessage(to step, at place) {
	before := s.at(to)
	m := whole(at.kind, s.gate.nextSeq+uint16(at.ahead), s.bodyOf(at.kind))
	verdict := s.protected(record.TypeHandshake, m.Append(nil))
	want, after := Unexpected, before
	switch {
	case to < awaitCertificate:
		want = WrongEpoch
	case to < awaitFinished && len(m.Body) > maxEarlyBytes/2:
		// It is too long for a Finished.
	case to < awaitFinished:
		want = Accepted // it is kept until it can be opened
		after.early++
	case to == finished:
		want = ForSession
	case at == (place{finish, 0}):
		want, after.verified = Accepted, true
	}
	assert.Equal(s, want, verdict, "%v", at)
	assert.Equal(s, after, s.gate.effect(), "%v", at)
}

// TestWhatTheClientRepeats is accepted and has no effect while its flight is not whole.
func TestWhatTheClientRepeats(t *testing.T) {
	t.Parallel()
	for to := awaitHello; to <= finished; to++ {
		inBubble(t, kindCertificate, func(s *script) {
			before := s.at(to)
			for behind := uint16(1); behind <= s.gate.nextSeq; behind++ {
				for _, kind := range messageTypes {
					if kind == record.MessageClientHello {
						continue // TestClientHelloOfAnotherHandshake
					}
					want := Unexpected
					if to.fromClient() {
						want = Accepted
					}
					m := whole(kind, s.gate.nextSeq-behind, s.bodyOf(kind))
					assert.Equal(s, want, s.messages(m), "step %d, %d behind, type %d", to, behind, kind)
					assert.Equal(s, before, s.gate.effect())
				}
			}
		})
	}
}

// TestMessagesThatAreTooLong are not kept, not even their first byte.
func TestMessagesThatAreTooLong(t *testing.T) {
	t.Parallel()
	inBubble(t, kindCertificate, func(s *script) {
		for s.gate.step != awaitFinished {
			longest := map[uint8]int{
				record.MessageClientHello:       limits.ClientHello,
				record.MessageCertificate:       3 + limits.CertificateChain,
				record.MessageClientKeyExchange: 2 + limits.PSKIdentity + 256,
				record.MessageCertificateVerify: 2052,
			}[s.expected()]
			if s.gate.step != awaitServer {
				before := s.gate.effect()
				m := record.Handshake{Type: s.expected(), Length: longest + 1, MessageSeq: s.messageSeq, Body: []byte{1}}
				assert.Equal(s, Malformed, s.messages(m))
				assert.Equal(s, before, s.gate.effect())
				m.Length--
				assert.Equal(s, Accepted, s.messages(m))
				assert.Equal(s, 1, s.gate.effect().partials)
				s.gate.partials[0] = partial{}
			}
			s.honest()
		}
		assert.Equal(s, record.VerifyDataSize, s.gate.maxLength(record.MessageFinished))
	})
}

// TestMessagesThatDoNotParse have no effect, and the right ones are taken after them.
func TestMessagesThatDoNotParse(t *testing.T) {
	t.Parallel()
	for _, k := range kinds {
		inBubble(t, k, func(s *script) {
			for s.gate.step != finished {
				if s.gate.step != awaitServer && s.gate.step != awaitFinished {
					kind, before := s.expected(), s.gate.effect()
					right := s.bodyOf(kind)
					for _, body := range [][]byte{append(right, 0), right[:len(right)-1], {0, 0, 9}} {
						assert.Equal(s, Malformed, s.messages(whole(kind, s.gate.nextSeq, body)), "type %d", kind)
						assert.Equal(s, before, s.gate.effect())
					}
				}
				s.honest()
			}
			s.pionReads()
		})
	}
}

// TestTheVersionOfAClientHello is DTLS 1.2 or 1.0, to which pion has to answer.
func TestTheVersionOfAClientHello(t *testing.T) {
	t.Parallel()
	for version, want := range map[uint16]Verdict{
		record.Version12: Accepted, record.Version10: Accepted, 0xfefc: Malformed, 0xfefe: Malformed, 0x0303: Malformed,
	} {
		inBubble(t, kindPSK, func(s *script) {
			s.version = version
			assert.Equal(s, want, s.messages(whole(hello, 0, s.helloBody(nil))), "%#x", version)
		})
	}
}

// TestTheSecondClientHello has the cookie, and is otherwise the first one.
func TestTheSecondClientHello(t *testing.T) {
	t.Parallel()
	inBubble(t, kindPSK, func(s *script) {
		before := s.at(awaitCookie)
		want := Unexpected
		wrong := func(cookie []byte) {
			assert.Equal(s, want, s.messages(whole(hello, 1, s.helloBody(cookie))))
			assert.Equal(s, before, s.gate.effect())
			assert.False(s, s.gate.AddressValidated())
		}
		wrong(nil)
		want = ForeignCookie
		wrong(s.cookie[1:])
		wrong(make([]byte, len(s.cookie)))
		want = AnotherHello // of a client that has received this cookie
		s.random[3]++
		wrong(s.cookie)
		s.random[3]--
		right := s.suite
		s.suite++
		wrong(s.cookie)
		s.suite = right
		s.honest()
		assert.True(s, s.gate.AddressValidated())
		s.to(finished)
	})
}

// TestASecondClientHelloInAnAbbreviatedHandshake: the client was not asked for a cookie. If
// it returns one nevertheless, somebody else has sent a ClientHello in its name.
func TestASecondClientHelloInAnAbbreviatedHandshake(t *testing.T) {
	t.Parallel()
	inBubble(t, kindAbbreviated, func(s *script) {
		for _, step := range []step{awaitServer, awaitFinished} {
			before := s.at(step)
			second := func(cookie []byte) Verdict { return s.messages(whole(hello, 1, s.helloBody(cookie))) }
			cookie := make([]byte, cookieSize)
			assert.Equal(s, ForeignCookie, second(cookie))
			assert.Equal(s, Unexpected, second(nil))
			assert.Equal(s, Unexpected, s.messages(fragment(whole(hello, 1, s.helloBody(cookie)), 0, 50)))
			assert.Equal(s, Unexpected, s.messages(whole(hello, 2, s.helloBody(cookie))))
			s.random[3]++
			assert.Equal(s, Unexpected, second(cookie), "of somebody else")
			s.random[3]--
			assert.Equal(s, before, s.gate.effect())
			assert.False(s, s.gate.AddressValidated())
		}
		s.to(finished)
	})
}

// TestTheSchemeOfACertificateVerify is one of those in the CertificateRequest.
func TestTheSchemeOfACertificateVerify(t *testing.T) {
	t.Parallel()
	inBubble(t, kindCertificate, func(s *script) {
		before := s.at(awaitVerify)
		body := s.bodyOf(verify)
		body[0] = 2
		assert.Equal(s, Malformed, s.messages(whole(verify, s.messageSeq, body)))
		assert.Equal(s, before, s.gate.effect())
		body[0], body[1] = schemes[2], schemes[3]
		assert.Equal(s, Accepted, s.messages(whole(verify, s.messageSeq, body)))
	})
}

// TestACertificateVerifyForNoCertificate is dropped, also if it came before the
// ClientKeyExchange.
func TestACertificateVerifyForNoCertificate(t *testing.T) {
	t.Parallel()
	for _, size := range []int{74, 10} {
		inBubble(t, kindEmpty, func(s *script) {
			s.to(awaitKeyExchange)
			m := whole(verify, s.messageSeq+1, s.bodyOf(verify))
			assert.Equal(s, Accepted, s.messages(fragment(m, 0, size)))
			s.messages(s.clientMessage(exchange))
			assert.Equal(s, awaitFinished, s.gate.step)
			s.to(finished)
			assert.Len(s, s.pionReads(), 5)
		})
	}
}

// TestWhatPionSendsMustParse: the gate ends a handshake of which it does not understand
// what pion says.
func TestWhatPionSendsMustParse(t *testing.T) {
	t.Parallel()
	for _, kind := range []uint8{
		record.MessageHelloVerifyRequest, record.MessageServerHello, record.MessageServerKeyExchange, record.MessageCertificateRequest,
	} {
		inBubble(t, kindPSK, func(s *script) {
			before := s.at(awaitServer)
			select {
			case <-s.gate.Failed():
				assert.Fail(s, "too early")
			default:
			}
			s.gate.FromPion(s.pionMessageRecord(kind, 1))
			<-s.gate.Failed()
			assert.Equal(s, before, s.gate.effect())
			want := fmt.Sprintf("type %d", kind)
			assert.ErrorContains(s, s.gate.Refuse(context.Background(), errors.New("pion")), want)
		})
	}
}

// TestWhatTheGateNotesOfPion: what the client's messages must match.
func TestWhatTheGateNotesOfPion(t *testing.T) {
	t.Parallel()
	inBubble(t, kindCertificate, func(s *script) {
		s.to(awaitCertificate)
		assert.Equal(s, schemes, s.gate.server.schemes)
		assert.NotNil(s, s.gate.server.schemes)
		assert.Equal(s, keyExchange{ecdhe: true, point: point}, s.gate.server.keyExchange)
		assert.Equal(s, s.cookie, s.gate.server.cookie)
		assert.Nil(s, s.gate.server.finished)
		s.to(finished)
		assert.Equal(s, 2, s.gate.certificates)
		assert.Empty(s, s.gate.outcome.identity)
	})
	inBubble(t, kind{suite: 0xc037}, func(s *script) {
		s.to(finished)
		assert.Equal(s, keyExchange{psk: true, ecdhe: true, point: point}, s.gate.server.keyExchange)
		assert.Equal(s, identity, string(s.gate.outcome.identity))
	})
}

// TestTheGateKeepsNoBytesOfItsCallers.
func TestTheGateKeepsNoBytesOfItsCallers(t *testing.T) {
	t.Parallel()
	inBubble(t, kindCertificate, func(s *script) {
		for s.gate.step != awaitFinished {
			switch s.gate.step {
			case awaitServer:
				raw := s.cookieRequest()
				if s.gate.server.cookie != nil {
					s.pionMessage--
					s.pionSequence--
					raw = nil
					for _, r := range s.flight() {
						raw = append(raw, r...)
					}
				}
				s.gate.FromPion(raw)
				clear(raw)
			default:
				s.sequence++
				raw := dtlstest.Plaintext(record.TypeHandshake, s.sequence, s.clientMessage(s.expected()).Append(nil)...)
				require.Equal(s, Accepted, s.handle(s.one(raw)))
				clear(raw)
			}
		}
		s.to(finished)
		s.pionReads()
		s.result()
	})
}

// TestAFirstClientHelloMayHaveACookie, of another server perhaps: pion asks for its own.
func TestAFirstClientHelloMayHaveACookie(t *testing.T) {
	t.Parallel()
	inBubble(t, kindPSK, func(s *script) {
		s.cookie = []byte("old")
		s.honest()
		assert.Equal(s, awaitServer, s.gate.step)
		assert.False(s, s.gate.AddressValidated())
		s.askForCookie()
		s.to(finished)
	})
}

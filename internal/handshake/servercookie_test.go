// SPDX-License-Identifier: MIT

package handshake

import (
	"bytes"
	"testing"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// withCookie makes the script's handshake one that begins with the ClientHello that has
// returned a cookie of the server's. The ClientHello before it was answered elsewhere.
func (s *script) withCookie() {
	p := s.gate.parameters
	s.gate.Abort()
	s.cookie = bytes.Repeat([]byte{7}, 20)
	p.Cookie = s.cookie
	s.gate = NewGate(p, Options{})
	s.Cleanup(s.gate.Abort)
	s.messageSeq, s.sequence, s.received = 1, 5, 1<<20
}

// forEachWithCookie runs a test for each kind of handshake that begins with a cookie.
func forEachWithCookie(t *testing.T, test func(s *script)) {
	forEachKind(t, func(s *script) { s.withCookie(); test(s) })
}

// TestHandshakeBeginsWithCookie: pion gets the ClientHello that it has not seen, and the
// client gets no HelloVerifyRequest of pion's. The ServerHello has the sequence number of the
// ClientHello (RFC 6347 section 4.2.1).
func TestHandshakeBeginsWithCookie(t *testing.T) {
	t.Parallel()
	forEachWithCookie(t, func(s *script) {
		assert.True(s, s.gate.AddressValidated())
		assert.Equal(s, s.cookie, s.gate.Cookie())
		s.honest()
		hello, err := s.gate.Hello(s.Context())
		require.NoError(s, err)
		assert.Equal(s, s.cookie, hello.Cookie)
		assert.EqualValues(s, 1, hello.MessageSeq)

		var read []record.ClientHello
		for d := s.gate.Next(); d != nil; d = s.gate.Next() {
			h, ok := record.ParseClientHello(s.one(d))
			require.True(s, ok)
			read = append(read, h)
		}
		require.Len(s, read, 2, "one datagram each")
		assert.Empty(s, read[0].Cookie)
		assert.EqualValues(s, 0, read[0].MessageSeq)
		assert.Equal(s, s.cookie, read[1].Cookie)
		assert.EqualValues(s, 1, read[1].MessageSeq)
		assert.True(s, record.SameParameters(read[0], read[1]))

		s.gate.FromPion(s.cookieRequest())
		assert.Empty(s, s.take())
		if s.abbreviated {
			s.gate.Resume(secret)
		}
		s.gate.FromPion(bytes.Join(s.flight(), nil))
		sent := s.take()
		require.Len(s, sent, 1)
		first := dtlstest.Records(sent[0].raw)[0]
		assert.EqualValues(s, 5, first.Sequence)
		m, _, ok := record.NextHandshake(first.Fragment())
		require.True(s, ok)
		assert.EqualValues(s, record.MessageServerHello, m.Type)
		assert.EqualValues(s, 1, m.MessageSeq)
		s.to(finished)
		s.result()
	})
}

// TestSecondClientHelloInFragments, of which the server has seen the first one.
func TestSecondClientHelloInFragments(t *testing.T) {
	t.Parallel()
	forEachWithCookie(t, func(s *script) {
		m := s.clientMessage(record.MessageClientHello)
		require.Equal(s, Accepted, s.messages(fragment(m, 0, 40)))
		assert.Nil(s, s.gate.Next())
		assert.Equal(s, Accepted, s.messages(fragment(m, 50, m.Length)))
		assert.Equal(s, Accepted, s.messages(fragment(m, 30, 55)))
		assert.Equal(s, awaitServer, s.gate.step)
	})
}

// TestAnotherClientHelloWithCookie begins a handshake of its own, before and after this one has
// got its ClientHello. A first ClientHello is none that such a handshake knows.
func TestAnotherClientHelloWithCookie(t *testing.T) {
	t.Parallel()
	forEachWithCookie(t, func(s *script) {
		own := s.clientMessage(record.MessageClientHello)
		body := bytes.Clone(own.Body)
		body[10]++ // the random
		otherRandom := whole(record.MessageClientHello, 1, body)
		otherCookie := whole(record.MessageClientHello, 1, s.helloBody([]byte("another cookie")))

		assert.Equal(s, NewClientHello, s.messages(otherCookie))
		assert.Equal(s, Accepted, s.messages(fragment(own, 0, 20)))
		assert.Equal(s, NewClientHello, s.messages(otherCookie), "of another length")
		require.Equal(s, Accepted, s.messages(own))
		assert.Equal(s, NewClientHello, s.messages(otherRandom))
		assert.Equal(s, Unexpected, s.messages(otherCookie), "the random is the handshake's")
		assert.Equal(s, Unexpected, s.messages(whole(record.MessageClientHello, 0, s.helloBody(nil))))
		assert.Equal(s, Accepted, s.messages(own))
		s.gate.FromPion(s.cookieRequest())
	})
}

// TestHighSequenceNumberOfClientHello: the records of the answer have room above it.
func TestHighSequenceNumberOfClientHello(t *testing.T) {
	t.Parallel()
	inBubble(t, kindPSK, func(s *script) {
		s.withCookie()
		m := s.clientMessage(record.MessageClientHello)
		require.Equal(s, Accepted, s.handle(s.one(dtlstest.Plaintext(record.TypeHandshake, record.MaxSequence, m.Append(nil)...))))
		s.gate.FromPion(s.cookieRequest())
		s.gate.FromPion(bytes.Join(s.flight(), nil))
		for _, r := range dtlstest.Records(s.take()[0].raw) {
			assert.Less(s, r.Sequence, uint64(record.LastSequence))
			assert.Zero(s, r.Epoch)
		}
	})
}

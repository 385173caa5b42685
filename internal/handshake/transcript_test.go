// SPDX-License-Identifier: MIT

package handshake

import (
	"crypto/sha256"
	"crypto/sha512"
	"testing"

	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
)

// TestTranscript is the hash of the suite over whole messages, each with the header that it
// has in one fragment (RFC 6347 section 4.2.6).
func TestTranscript(t *testing.T) {
	t.Parallel()
	a, b := message(300), message(20)
	b.Type, b.MessageSeq = 16, 4
	all := b.Append(a.Append(nil))
	short, long := sha256.Sum256(all), sha512.Sum384(all)
	for id, want := range map[record.SuiteID][]byte{0x00a8: short[:], 0xc00a: short[:], 0xc030: long[:]} {
		var tr transcript
		tr.begin(id)
		tr.add(a)
		tr.add(b)
		assert.Equal(t, want, tr.sum(), "%#x", id)
		assert.Equal(t, want, tr.sum(), "a sum does not end it")
	}
}

// TestTheTranscriptIsThatOfTheHandshake, without the first ClientHello and the
// HelloVerifyRequest, and with pion's Finished in an abbreviated handshake alone.
func TestTheTranscriptIsThatOfTheHandshake(t *testing.T) {
	t.Parallel()
	forEachKind(t, func(s *script) {
		s.to(awaitFinished)
		h := s.suite.NewHash()
		h.Write(s.transcript)
		assert.Equal(s, h.Sum(nil), s.gate.transcript.sum())
	})
}

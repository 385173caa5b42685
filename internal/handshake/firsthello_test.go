// SPDX-License-Identifier: MIT

package handshake

import (
	"testing"

	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestNameGroupChangesOnlyFirstClientHelloForPion: pion gets it once, with the group. The second
// one, with which the transcript begins, is the client's.
func TestNameGroupChangesOnlyFirstClientHelloForPion(t *testing.T) {
	t.Parallel()
	const group = 23
	forEachKind(t, func(s *script) {
		if s.abbreviated {
			return
		}
		first := s.helloBody(nil)
		require.Equal(s, Accepted, s.messages(s.clientMessage(record.MessageClientHello)))
		s.gate.NameGroup(group)
		var read []record.Handshake
		readAll := func() {
			for d := s.gate.Next(); d != nil; d = s.gate.Next() {
				r := s.one(d)
				assert.EqualValues(s, len(read), r.Sequence)
				m, rest, ok := record.NextHandshake(r.Fragment())
				require.True(s, ok && len(rest) == 0 && m.Complete())
				read = append(read, m)
			}
		}
		readAll()
		s.askForCookie()
		second := s.clientMessage(record.MessageClientHello)
		require.Equal(s, Accepted, s.messages(second))
		readAll()
		require.Len(s, read, 2)
		assert.EqualValues(s, 0, read[0].MessageSeq)
		assert.Equal(s, record.WithGroup(first, group), read[0].Body)
		assert.NotEqual(s, first, read[0].Body)
		assert.Equal(s, second.Body, read[1].Body)
		hello, err := s.gate.Hello(s.Context())
		require.NoError(s, err)
		assert.Equal(s, s.random, hello.Random)
	})
}

// SPDX-License-Identifier: MIT

package handshake

import (
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/pion/dtls/v2"
	"github.com/pion/dtls/v2/pkg/protocol/handshake"
	"github.com/stretchr/testify/require"
)

// pionReads reads all that is queued for pion, and returns everything that pion has read
// so far as whole messages. It requires that pion has read the only form that the gate may
// give it:
//
//   - datagrams and records that fit into what pion reads at a time,
//   - plaintext records in the order of their sequence numbers, without a gap, with one
//     fragment in each,
//   - the fragments of a message one after the other, from its first byte to its last, and
//     the messages in their order,
//   - at the end, in one datagram, ChangeCipherSpec and the Finished, in the first record of
//     epoch 1.
//
// No parser of pion's panics over a message.
func (s *script) pionReads() (messages []record.Handshake) {
	for d := s.gate.Next(); d != nil; d = s.gate.Next() {
		s.read = append(s.read, d)
	}
	var next record.Handshake // the message that is not whole yet
	sequence, changed, done := uint64(0), false, false
	for _, d := range s.read {
		require.LessOrEqual(s, len(d), maxForPion)
		size := 0
		for _, r := range dtlstest.Records(d) {
			size += len(r.Raw)
			require.False(s, done, "a record after the Finished")
			require.LessOrEqual(s, len(r.Raw), maxRecord)
			if r.Epoch > 0 {
				require.True(s, changed)
				require.EqualValues(s, record.TypeHandshake, r.Type)
				require.Zero(s, r.Sequence)
				payload, _, err := s.pion.Peek(r)
				require.NoError(s, err)
				m := s.oneMessage(payload)
				require.EqualValues(s, record.MessageFinished, m.Type)
				require.True(s, m.Complete())
				messages, done = append(messages, m), true
				continue
			}
			require.Equal(s, sequence, r.Sequence)
			sequence++
			require.False(s, changed, "a plaintext record after the ChangeCipherSpec")
			if r.Type == record.TypeChangeCipherSpec {
				require.Equal(s, []byte{1}, r.Fragment())
				require.Empty(s, next.Body)
				changed = true
				continue
			}
			require.EqualValues(s, record.TypeHandshake, r.Type)
			f := s.oneMessage(r.Fragment())
			require.Equal(s, len(next.Body), f.Offset)
			if f.Offset > 0 {
				require.Equal(s, [3]int{int(next.Type), next.Length, int(next.MessageSeq)}, [3]int{int(f.Type), f.Length, int(f.MessageSeq)})
			}
			next.Type, next.Length, next.MessageSeq = f.Type, f.Length, f.MessageSeq
			if next.Body = append(next.Body, f.Body...); next.Complete() {
				messages, next = append(messages, next), record.Handshake{}
			}
		}
		require.Equal(s, len(d), size)
	}
	require.Empty(s, next.Body, "a message that does not end")
	require.Equal(s, changed, done, "the ChangeCipherSpec and the Finished come together")
	for n, m := range messages {
		require.EqualValues(s, n, m.MessageSeq)
		s.pionParses(m)
	}
	return messages
}

// oneMessage parses a payload that is one message or fragment.
func (s *script) oneMessage(payload []byte) record.Handshake {
	m, rest, ok := record.NextHandshake(payload)
	require.True(s, ok)
	require.Empty(s, rest)
	return m
}

// pionParses parses a message with pion's parser, which must not panic.
func (s *script) pionParses(m record.Handshake) {
	parser := handshake.Handshake{}
	if s.suite.PSK() {
		parser.KeyExchangeAlgorithm |= dtls.CipherSuiteKeyExchangeAlgorithmPsk
	}
	if s.suite.ECDHE() {
		parser.KeyExchangeAlgorithm |= dtls.CipherSuiteKeyExchangeAlgorithmEcdhe
	}
	require.NotPanics(s, func() { _ = parser.Unmarshal(m.Append(nil)) })
}

// SPDX-License-Identifier: MIT

package handshake

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// message returns a message of a type whose bytes are all different from their neighbours.
func message(size int) record.Handshake {
	body := make([]byte, size)
	for n := range body {
		body[n] = byte(n * 7)
	}
	return whole(11, 3, body)
}

// TestOneByteFragmentsInAnyOrder make the message, with its last byte and not before.
func TestOneByteFragmentsInAnyOrder(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{1, 2, 63, 64, 65, 127, 128, 129, 1000} {
		m := message(size)
		var p partial
		assert.False(t, p.complete())
		for n, at := range random.Perm(size) {
			f := fragment(m, at, at+1)
			require.True(t, p.fits(f))
			require.True(t, p.add(f))
			require.Equal(t, n == size-1, p.complete())
			require.True(t, p.fits(f))
			require.False(t, p.add(f), "a duplicate is not new")
		}
		assert.Equal(t, m.Body, p.body)
		assert.EqualValues(t, 11, p.kind)
		assert.True(t, p.fits(m))
		assert.False(t, p.add(m), "the message once more")
	}
}

// TestOverlappingFragments that are equal where they overlap make the message. The missing
// bytes are counted right at each step, whatever the bounds.
func TestOverlappingFragments(t *testing.T) {
	t.Parallel()
	const size = 200
	m := message(size)
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 3))
		var p partial
		have := map[int]bool{}
		for !p.complete() {
			from := random.IntN(size)
			to := from + 1 + random.IntN(min(size-from, 1+random.IntN(size)))
			before := len(have)
			for at := from; at < to; at++ {
				have[at] = true
			}
			require.Equal(t, len(have) > before, p.add(fragment(m, from, to)))
			require.Equal(t, size-len(have), p.missing)
		}
		require.Equal(t, m.Body, p.body)
	}
}

// TestContradictingFragments: the last one counts, and the message begins anew with it.
func TestContradictingFragments(t *testing.T) {
	t.Parallel()
	m := message(100)
	forged := message(100)
	forged.Body = bytes.Repeat([]byte{0xee}, 100)
	for name, f := range map[string]record.Handshake{
		"other bytes":              fragment(forged, 29, 30),
		"other bytes at the end":   fragment(forged, 9, 11),
		"other bytes at the start": fragment(forged, 29, 90),
		"another type":             {Type: 12, Length: 100, Offset: 50, Body: []byte{1}},
		"another length":           {Type: 11, Length: 101, Offset: 50, Body: []byte{1}},
	} {
		var p partial
		p.add(fragment(m, 10, 30))
		assert.False(t, p.fits(f), name)
		assert.True(t, p.add(f), name)
		assert.Equal(t, f.Length-len(f.Body), p.missing, name)
		assert.Equal(t, f.Type, p.kind, name)
		assert.Len(t, p.body, f.Length, name)

		assert.True(t, p.add(m), "the whole message is right")
		assert.True(t, p.complete())
		assert.Equal(t, m.Body, p.body)
		assert.False(t, p.fits(f), name)
	}
	var p partial
	p.add(fragment(m, 10, 30))
	assert.True(t, p.fits(fragment(forged, 0, 10)), "nothing is known of those bytes")
	assert.True(t, p.fits(fragment(forged, 30, 100)))
}

// TestAPartialKeepsNoBytesOfItsCaller.
func TestAPartialKeepsNoBytesOfItsCaller(t *testing.T) {
	t.Parallel()
	for _, to := range []int{10, 20} {
		m := message(20)
		var p partial
		p.add(fragment(m, 0, to))
		want := bytes.Clone(m.Body[:to])
		clear(m.Body)
		assert.Equal(t, want, p.body[:to])
	}
}

// TestAFragmentAgain is accepted: the client repeats its flight.
func TestAFragmentAgain(t *testing.T) {
	t.Parallel()
	inBubble(t, kindCertificate, func(s *script) {
		s.to(awaitCertificate)
		m := whole(record.MessageCertificate, s.messageSeq, s.bodyOf(record.MessageCertificate))
		before := s.gate.nextSeq
		for range 3 {
			assert.Equal(s, Accepted, s.messages(fragment(m, 5, 50)))
			assert.Equal(s, Accepted, s.messages(fragment(m, 10, 20)))
			assert.Equal(s, before, s.gate.nextSeq)
		}
		s.to(finished)
	})
}

// TestAMessageWithoutBytes is complete with its header, as pion's ServerHelloDone.
func TestAMessageWithoutBytes(t *testing.T) {
	t.Parallel()
	var p partial
	f, _, ok := record.NextHandshake(whole(record.MessageServerHelloDone, 0, nil).Append(nil))
	require.True(t, ok)
	assert.True(t, p.add(f))
	assert.True(t, p.complete())
}

// divider divides a client's messages anew: into fragments, some of which overlap, in any
// order, some of them twice, and several in a record.
type divider struct {
	*rand.Rand
	s *script
}

// records returns records with all bytes of the messages.
func (d divider) records(messages []record.Handshake) (records [][]byte) {
	var fragments []record.Handshake
	for _, m := range messages {
		longest := 1 + d.IntN(min(m.Length, 1+d.IntN(3000)))
		for at := 0; at < m.Length; {
			from := max(0, at-d.IntN(3)*d.IntN(20))
			to := min(m.Length, at+1+d.IntN(longest))
			fragments = append(fragments, fragment(m, from, to))
			if d.IntN(4) == 0 {
				fragments = append(fragments, fragment(m, from, to))
			}
			at = to
		}
	}
	if d.IntN(4) > 0 {
		d.Shuffle(len(fragments), func(i, j int) { fragments[i], fragments[j] = fragments[j], fragments[i] })
	}
	var payload []byte
	for n, f := range fragments {
		payload = f.Append(payload)
		if n == len(fragments)-1 || d.IntN(5) == 0 || len(payload) > 10000 {
			d.s.sequence++
			records = append(records, dtlstest.Plaintext(record.TypeHandshake, d.s.sequence, payload...))
			payload = nil
		}
	}
	return records
}

// TestPionReadsTheSameHoweverItComes: of each division, order and repetition of the
// client's flights pion reads the same bytes.
func TestPionReadsTheSameHoweverItComes(t *testing.T) {
	t.Parallel()
	seeds := uint64(60)
	if testing.Short() {
		seeds = 10
	}
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			var want []record.Handshake
			inBubble(t, k, func(s *script) {
				s.to(finished)
				want = s.pionReads()
			})
			for seed := range seeds {
				inBubble(t, k, func(s *script) {
					s.divided(rand.New(rand.NewPCG(seed, 4)))
					require.Equal(t, want, s.pionReads(), "seed %d", seed)
				})
			}
		})
	}
}

// divided does a handshake whose flights of the client's are divided anew. Records that
// come too early for the gate are repeated.
func (s *script) divided(random *rand.Rand) {
	d := divider{random, s}
	send := func(records [][]byte) {
		for _, raw := range records {
			s.handle(s.one(raw))
		}
	}
	for !s.gate.step.fromClient() {
		if s.gate.step == awaitServer {
			s.honest()
			continue
		}
		hello := s.clientMessage(record.MessageClientHello)
		send(d.records([]record.Handshake{hello}))
		if d.IntN(2) == 0 {
			send(d.records([]record.Handshake{hello}))
		}
	}
	records := d.records(s.lastFlight())
	records = append(records, dtlstest.Plaintext(record.TypeChangeCipherSpec, 1000, 1))
	m := s.oneMessage(s.finishedMessage())
	cut := 1 + d.IntN(record.VerifyDataSize)
	for _, f := range []record.Handshake{fragment(m, 0, cut), fragment(m, cut, m.Length), fragment(m, 0, m.Length)} {
		if len(f.Body) > 0 {
			records = append(records, s.seal(record.TypeHandshake, f.Append(nil)).Raw)
		}
	}
	if d.IntN(2) == 0 {
		d.Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })
	}
	for range 1 + d.IntN(2) {
		send(records)
		if s.gate.step == awaitFinished {
			s.gate.MasterSecret(secret)
		}
	}
	require.Equal(s, finished, s.gate.step)
}

// TestReassemblyIsBounded: whatever fragments come, no more is kept than one message of
// each type that may come.
func TestReassemblyIsBounded(t *testing.T) {
	t.Parallel()
	inBubble(t, kindCertificate, func(s *script) {
		random := rand.New(rand.NewPCG(5, 6))
		for range 3 {
			s.honest() // as far as the second ClientHello
		}
		for s.gate.step != finished {
			for range 2000 {
				f := record.Handshake{
					Type: messageTypes[random.IntN(len(messageTypes))], Length: 1 + random.IntN(1<<random.IntN(17)),
					MessageSeq: s.gate.nextSeq + uint16(random.IntN(6)),
				}
				f.Offset = random.IntN(f.Length)
				f.Body = make([]byte, 1+random.IntN(min(f.Length-f.Offset, 20)))
				if f.Complete() {
					continue
				}
				s.messages(f)
				require.LessOrEqual(s, s.gate.kept(), s.gate.mostKept())
			}
			s.honest()
		}
		s.pionReads()
	})
}

// kept returns the bytes that the gate keeps of what the client has sent and pion has not
// got, with one for eight bytes of a partial message.
func (g *Gate) kept() (size int) {
	for _, p := range g.partials {
		size += len(p.body) + 8*len(p.have)
	}
	return size
}

// mostKept returns the bound of kept.
func (g *Gate) mostKept() (size int) {
	kinds := clientFlight
	if g.step < awaitServer {
		kinds = []uint8{record.MessageClientHello}
	}
	for _, kind := range kinds {
		size += g.maxLength(kind) + g.maxLength(kind)/8 + 8
	}
	return size
}

// TestContradictingFragmentsAllocateOnce: one datagram can hold hundreds of them.
func TestContradictingFragmentsAllocateOnce(t *testing.T) {
	if dtlstest.RaceEnabled {
		t.Skip("the race detector allocates")
	}
	var p partial
	n := 0
	contradict := func() {
		n++
		p.add(record.Handshake{Type: record.MessageCertificate, Length: 16000 + n%2, Body: []byte{byte(n)}})
	}
	contradict()
	contradict()
	assert.Zero(t, testing.AllocsPerRun(100, contradict))
}

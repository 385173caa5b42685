// SPDX-License-Identifier: MIT

package handshake

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// payloads returns the payloads of all records in datagrams, those of epoch 1 opened.
func (s *script) payloads(datagrams []datagram) (payloads []string) {
	for _, d := range datagrams {
		for _, r := range dtlstest.Records(d.raw) {
			payload := r.Fragment()
			if r.Epoch > 0 {
				var err error
				payload, _, err = s.client.Open(nil, r) // no sequence number comes twice
				require.NoError(s, err)
			}
			payloads = append(payloads, string(payload))
		}
	}
	return payloads
}

// TestWhatPionRepeatsIsNotSent: neither at once nor later, nor is it a message again.
func TestWhatPionRepeatsIsNotSent(t *testing.T) {
	t.Parallel()
	forEachKind(t, func(s *script) {
		var written [][]byte
		again := func() {
			before := s.gate.effect()
			before.queued = false
			s.pionReads()
			s.take()
			for _, raw := range written {
				s.gate.FromPion(raw)
			}
			s.gate.FromPion(bytes.Join(written, nil))
			synctest.Wait()
			assert.Empty(s, s.take())
			assert.Equal(s, before, s.gate.effect())
		}
		s.to(awaitServer)
		if s.abbreviated {
			s.gate.Resume(secret)
		} else {
			written = append(written, s.cookieRequest())
			s.gate.FromPion(written[0])
			again()
			s.honest()
		}
		for _, raw := range s.flight() {
			written = append(written, raw)
			s.gate.FromPion(raw)
			again()
		}
		s.to(finished)
		again()
		s.result()
	})
}

// TestAFlightIsSentAsPionDividesIt: the datagrams have the records that pion's have, the
// first time and when they are repeated.
func TestAFlightIsSentAsPionDividesIt(t *testing.T) {
	t.Parallel()
	inBubble(t, kindCertificate, func(s *script) {
		s.to(awaitServer)
		s.honest()
		s.honest()
		s.take()
		f := s.flight()
		s.gate.FromPion(bytes.Join(f[:2], nil))
		s.gate.FromPion(f[2])
		s.gate.FromPion(bytes.Join(f[3:], nil))
		first := s.take()
		require.Len(s, first, 3)
		var want []string
		for _, raw := range f {
			want = append(want, string(raw[record.HeaderSize:]))
		}
		assert.Equal(s, want, s.payloads(first))
		time.Sleep(DefaultInterval)
		repeated := s.take()
		require.Len(s, repeated, 3)
		assert.Equal(s, want, s.payloads(repeated))
		for n, d := range first {
			assert.Len(s, repeated[n].raw, len(d.raw))
		}
	})
}

// TestFragmentsOfPionsMessages are sent as they are, and reassembled by the gate.
func TestFragmentsOfPionsMessages(t *testing.T) {
	t.Parallel()
	inBubble(t, kindPSK, func(s *script) {
		s.to(awaitServer)
		s.honest()
		s.honest()
		s.take()
		m := whole(record.MessageServerHello, s.pionMessage, s.serverHello())
		s.pionMessage++
		s.transcript = m.Append(s.transcript)
		want := []string{}
		for _, f := range []record.Handshake{fragment(m, 0, 30), fragment(m, 30, m.Length)} {
			assert.Zero(s, s.gate.server.hello)
			s.gate.FromPion(s.pionRecord(record.TypeHandshake, f.Append(nil)...))
			want = append(want, string(f.Append(nil)))
		}
		assert.NotZero(s, s.gate.server.hello)
		done := s.pionMessageRecord(record.MessageServerHelloDone)
		s.gate.FromPion(done)
		assert.Equal(s, append(want, string(done[record.HeaderSize:])), s.payloads(s.take()))
		s.to(finished)
	})
}

// TestWhatIsNotForTheClient: records of pion's that are no part of a flight.
func TestWhatIsNotForTheClient(t *testing.T) {
	t.Parallel()
	inBubble(t, kindPSK, func(s *script) {
		s.to(awaitFinished)
		s.take()
		f := s.pionFinished()
		s.gate.FromPion(f[1])
		assert.Empty(s, s.take(), "the keys are not known")
		s.toKeys()
		for _, raw := range [][]byte{
			nil, {1, 2, 3}, s.pionRecord(record.TypeApplicationData, 1, 2), s.pionRecord(record.TypeHandshake),
			s.pionRecord(record.TypeHandshake, 1, 2, 3), s.pionRecord(record.TypeAlert, record.LevelWarning, record.CloseNotify),
			s.pionRecord(record.TypeAlert, record.LevelFatal), dtlstest.Unauthentic(record.TypeHandshake, 0, 40),
			dtlstest.Unauthentic(record.TypeAlert, 0, 2), s.seal(record.TypeHandshake, s.finishedMessage()).Raw,
			{22, 254, 253, 0, 1, 0, 0, 0, 0, 0, 0, 255, 255},
		} {
			s.gate.FromPion(raw)
			assert.Empty(s, s.take(), "%x", raw)
		}
		protected := s.pionRecord(record.TypeAlert, record.LevelFatal, 40)
		protected[4] = epoch
		s.gate.FromPion(protected)
		assert.Empty(s, s.take(), "what looks like an alert may be sealed")
		sealedAlert, err := s.pion.Seal(nil, record.TypeAlert, []byte{record.LevelFatal, 40})
		require.NoError(s, err)
		s.gate.FromPion(sealedAlert)
		later := whole(record.MessageFinished, s.pionMessage+1, make([]byte, record.VerifyDataSize))
		sealed, err := s.pion.Seal(nil, record.TypeHandshake, later.Append(nil))
		require.NoError(s, err)
		s.gate.FromPion(sealed)
		assert.Empty(s, s.take())
		s.gate.FromPion(append(bytes.Clone(bytes.Join(f, nil)), 1, 2, 3))
		assert.Empty(s, s.take())
		s.to(finished)
		result, err := s.gate.Result()
		require.NoError(s, err)
		assert.NotNil(s, result.Flight, "what cannot be parsed does not take along what is in front")
	})
}

// TestWhatIsNoMessageOfPions does not count as its first one.
func TestWhatIsNoMessageOfPions(t *testing.T) {
	t.Parallel()
	inBubble(t, kindPSK, func(s *script) {
		s.to(awaitServer)
		s.gate.FromPion(s.pionRecord(record.TypeHandshake, 1, 2, 3))
		assert.Empty(s, s.take())
		s.to(finished)
		s.result()
	})
}

// TestAClientOfDTLS10 gets records of its version, and a client of DTLS 1.2 of that.
func TestAClientOfDTLS10(t *testing.T) {
	t.Parallel()
	for _, version := range []uint16{record.Version10, record.Version12} {
		inBubble(t, kindPSK, func(s *script) {
			s.version = version
			s.to(awaitFinished)
			for _, d := range s.take() {
				for _, r := range dtlstest.Records(d.raw) {
					assert.Equal(s, record.AppendVersion(nil, version), r.Raw[1:3])
				}
			}
		})
	}
}

// TestTheLastFlightIsTheSessionsToSend, that of a full handshake, however pion divides it,
// and also when the client repeats its own flight before Result and after it.
func TestTheLastFlightIsTheSessionsToSend(t *testing.T) {
	t.Parallel()
	for _, divided := range []bool{false, true} {
		inBubble(t, kindPSK, func(s *script) {
			s.to(awaitKeyExchange)
			keyExchange := s.clientMessage(record.MessageClientKeyExchange)
			require.Equal(s, Accepted, s.messages(keyExchange))
			s.to(finished)
			s.take()
			repeat := func() {
				s.messages(keyExchange)
				s.plaintext(record.TypeChangeCipherSpec, 1)
				assert.Equal(s, ForSession, s.protected(record.TypeHandshake, s.finishedMessage()))
				time.Sleep(time.Hour)
				assert.Empty(s, s.take())
			}
			plaintext := s.next[0]
			flight := s.pionFinished()
			if divided {
				for _, raw := range flight {
					s.gate.FromPion(raw)
				}
			} else {
				s.gate.FromPion(bytes.Join(flight, nil))
			}
			repeat()
			result, err := s.gate.Result()
			require.NoError(s, err)
			repeat()
			assert.Equal(s, plaintext, result.Flight.NextPlaintext)
			assert.Zero(s, result.Records.Config().NextSequence, "no number was used for it")
		})
	}
}

// TestFragmentsOfTheLastFlight are put together for the session, and not sent either.
func TestFragmentsOfTheLastFlight(t *testing.T) {
	t.Parallel()
	inBubble(t, kindPSK, func(s *script) {
		s.to(finished)
		s.take()
		m := whole(record.MessageFinished, s.pionMessage, bytes.Repeat([]byte{0xf}, record.VerifyDataSize))
		s.gate.FromPion(s.pionRecord(record.TypeChangeCipherSpec, 1))
		for _, f := range []record.Handshake{fragment(m, 0, 5), fragment(m, 5, m.Length)} {
			sealed, err := s.pion.Seal(nil, record.TypeHandshake, f.Append(nil))
			require.NoError(s, err)
			s.gate.FromPion(sealed)
		}
		assert.Empty(s, s.take())
		result, err := s.gate.Result()
		require.NoError(s, err)
		assert.Equal(s, m.Append(nil), result.Flight.Finished)
	})
}

// TestTheFlightOfAnAbbreviatedHandshake is repeated whole, sealed anew each time.
func TestTheFlightOfAnAbbreviatedHandshake(t *testing.T) {
	t.Parallel()
	inBubble(t, kindAbbreviated, func(s *script) {
		s.toFlight()
		s.gate.budget.validated.Store(true)
		want := s.payloads(s.take())
		require.Len(s, want, 3)
		time.Sleep(DefaultInterval)
		assert.Equal(s, want, s.payloads(s.take()))
		time.Sleep(2 * DefaultInterval)
		assert.Equal(s, want, s.payloads(s.take()))
		s.to(finished)
		result := s.result()
		assert.EqualValues(s, 3, result.Records.Config().NextSequence)
	})
}

// TestNothingIsAmplified: until the client has shown its address, it is not sent more than
// three bytes for each that has come from there, whatever it or pion sends. script checks
// each datagram.
func TestNothingIsAmplified(t *testing.T) {
	t.Parallel()
	inBubble(t, kindAbbreviated, func(s *script) {
		hello := s.clientMessage(record.MessageClientHello)
		require.Equal(s, Accepted, s.messages(hello))
		s.gate.Resume(secret)
		s.gate.FromPion(bytes.Join(s.flight(), nil))
		assert.NotEmpty(s, s.take())
		time.Sleep(10 * time.Minute)
		sent := len(s.take())
		assert.Less(s, sent, 3, "without another byte of the client's nothing more is sent")
		for range 20 {
			s.messages(hello)
			time.Sleep(minInterval)
		}
		assert.NotEmpty(s, s.take(), "each byte that is received allows more")
		s.to(finished)
	})
	inBubble(t, kind{suite: 0xc02b}, func(s *script) {
		s.to(awaitServer)
		s.gate.FromPion(s.pionRecord(record.TypeHandshake, whole(record.MessageServerHello, 0, make([]byte, 3000)).Append(nil)...))
		assert.Empty(s, s.take(), "a flight of pion's that is too long")
	})
	inBubble(t, kindPSK, func(s *script) {
		s.to(awaitServer)
		s.askForCookie()
		hello := whole(record.MessageClientHello, 0, s.helloBody(nil))
		for range 1000 {
			// The last byte of the ClientHello asks for the flight.
			s.messages(fragment(hello, hello.Length-1, hello.Length))
			time.Sleep(minInterval)
		}
		assert.NotEmpty(s, s.take())
	})
}

// TestNothingIsSentWhenThereIsNoSequenceNumberLeft: none comes twice.
func TestNothingIsSentWhenThereIsNoSequenceNumberLeft(t *testing.T) {
	t.Parallel()
	inBubble(t, kindAbbreviated, func(s *script) {
		s.toFlight()
		s.gate.budget.validated.Store(true)
		s.take()
		s.gate.mu.Lock()
		s.gate.records.SetNextSequence(record.MaxSequence)
		s.gate.mu.Unlock()
		time.Sleep(time.Hour)
		assert.Empty(s, s.take())
	})
}

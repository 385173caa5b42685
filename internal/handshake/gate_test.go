// SPDX-License-Identifier: MIT

package handshake

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestHandshakesPass: pion reads what the client has sent, the client what pion has sent,
// and the session goes on after the last sequence numbers.
func TestHandshakesPass(t *testing.T) {
	t.Parallel()
	forEachKind(t, func(s *script) {
		assert.False(s, s.gate.AddressValidated())
		s.to(finished)
		assert.True(s, s.gate.AddressValidated())
		result := s.result()
		assert.Equal(s, s.abbreviated, result.Resumed)
		hello, ok := record.ParseServerHello(s.serverHello())
		require.True(s, ok)
		assert.Equal(s, hello, result.ServerHello)
		assert.Equal(s, s.next[1], result.Records.Config().NextSequence)
		if s.abbreviated {
			assert.Nil(s, result.Flight)
		} else {
			assert.Equal(s, s.next[0], result.Flight.NextPlaintext)
			m := s.oneMessage(result.Flight.Finished)
			assert.EqualValues(s, record.MessageFinished, m.Type)
			assert.Equal(s, bytes.Repeat([]byte{0xf}, record.VerifyDataSize), m.Body)
		}

		// The session's records are the client's next ones, and the other way round.
		plain, _, err := result.Records.Open(nil, s.seal(record.TypeApplicationData, []byte("up")))
		require.NoError(s, err)
		assert.Equal(s, "up", string(plain))
		var got []string
		for _, d := range s.take() {
			for _, r := range dtlstest.Records(d.raw) {
				payload := r.Fragment()
				if r.Epoch > 0 {
					if payload, _, err = s.client.Open(nil, r); !assert.NoError(s, err) {
						return
					}
				}
				got = append(got, string(payload))
			}
		}
		var types []uint8
		for _, m := range s.pionReads() {
			types = append(types, m.Type)
		}
		assert.Equal(s, s.clientTypes(), types)
		assert.Equal(s, s.pionPayloads(), got)
	})
}

// clientTypes returns the types of the client's messages.
func (s *script) clientTypes() []uint8 {
	hellos := []uint8{record.MessageClientHello, record.MessageClientHello}
	switch {
	case s.abbreviated:
		return []uint8{record.MessageClientHello, record.MessageFinished}
	case s.certificates > 0:
		return append(hellos, clientFlight...)
	case s.requested:
		return append(hellos, record.MessageCertificate, record.MessageClientKeyExchange, record.MessageFinished)
	default:
		return append(hellos, record.MessageClientKeyExchange, record.MessageFinished)
	}
}

// pionPayloads returns the payloads of pion's records in another handshake of the kind, all
// but those of the last flight of a full one.
func (s *script) pionPayloads() (payloads []string) {
	other := newScript(s.TB, s.kind)
	records := [][]byte{}
	if !s.abbreviated {
		records = append(records, other.cookieRequest())
	}
	records = append(records, other.flight()...)
	for _, raw := range records {
		r := other.one(raw)
		payload := r.Fragment()
		if r.Epoch > 0 {
			payload, _, _ = other.client.Open(nil, r)
		}
		payloads = append(payloads, string(payload))
	}
	return payloads
}

// TestMessagesAreHandedOnAsTheyWere, with the body that the client gave them.
func TestMessagesAreHandedOnAsTheyWere(t *testing.T) {
	t.Parallel()
	inBubble(t, kindCertificate, func(s *script) {
		s.to(finished)
		bodies := s.bodyOf
		for _, m := range s.pionReads()[2:5] {
			assert.Equal(s, bodies(m.Type), m.Body)
		}
	})
}

// TestTheFinishedMayComeBeforeAllElse of the client's flight, and before the keys.
func TestTheFinishedMayComeBeforeAllElse(t *testing.T) {
	t.Parallel()
	forEachKind(t, func(s *script) {
		s.toFlight()
		flight := s.lastFlight()
		sealed := s.seal(record.TypeHandshake, s.finishedMessage())
		assert.Equal(s, Accepted, s.handle(sealed))
		for n := len(flight) - 1; n >= 0; n-- {
			assert.Equal(s, Accepted, s.messages(flight[n]))
		}
		s.gate.MasterSecret(secret)
		assert.Equal(s, awaitFinished, s.gate.step, "the ChangeCipherSpec is missing")
		assert.Equal(s, Accepted, s.plaintext(record.TypeChangeCipherSpec, 1))
		assert.Equal(s, finished, s.gate.step)
		s.result()
		s.pionReads()
		if !s.abbreviated {
			assert.Equal(s, []Verdict{Accepted}, s.counted)
		}
	})
}

// TestTheFinishedMayComeInFragments, before the keys or after, each fragment in a record.
func TestTheFinishedMayComeInFragments(t *testing.T) {
	t.Parallel()
	for _, early := range []bool{true, false} {
		inBubble(t, kindPSK, func(s *script) {
			s.to(awaitFinished)
			if !early {
				s.gate.MasterSecret(secret)
			}
			m := s.oneMessage(s.finishedMessage())
			for at := range record.VerifyDataSize {
				assert.Equal(s, Accepted, s.protected(record.TypeHandshake, fragment(m, at, at+1).Append(nil)))
			}
			s.gate.MasterSecret(secret)
			assert.Equal(s, Accepted, s.plaintext(record.TypeChangeCipherSpec, 1))
			assert.Equal(s, finished, s.gate.step)
			s.pionReads()
		})
	}
}

// TestEarlyRecordsAreBounded: of those that may be the client's Finished the last ones are
// kept, which with the honest one is enough.
func TestEarlyRecordsAreBounded(t *testing.T) {
	t.Parallel()
	for _, size := range []int{20, 100, 300, maxEarlyBytes/2 - record.HeaderSize, maxEarlyBytes / 2, maxEarlyBytes} {
		inBubble(t, kindPSK, func(s *script) {
			s.to(awaitFinished)
			fits := size+record.HeaderSize <= maxEarlyBytes/2
			want := Accepted
			if !fits {
				want = Unexpected
			}
			fill := func(n int) {
				for range n {
					s.sequence++
					raw := dtlstest.Unauthentic(record.TypeHandshake, 1000+s.sequence, size)
					assert.Equal(s, want, s.handle(s.one(raw)))
					clear(raw)
					total := 0
					for _, r := range s.gate.early {
						assert.NotZero(s, r.Raw[0], "HandleRecord does not keep what it gets")
						total += len(r.Raw)
					}
					assert.Equal(s, total, s.gate.earlyBytes)
					assert.LessOrEqual(s, total, maxEarlyBytes)
					assert.LessOrEqual(s, len(s.gate.early), maxEarly)
				}
			}
			fill(2 * maxEarly)
			assert.Equal(s, fits, len(s.gate.early) > 0)
			if fits {
				room := min(maxEarly, maxEarlyBytes/(size+record.HeaderSize))
				assert.Len(s, s.gate.early, room)
			}
			require.Equal(s, Accepted, s.finish())
			fill(min(maxEarly, maxEarlyBytes/(size+record.HeaderSize)) - 2)
			s.gate.MasterSecret(secret)
			assert.Equal(s, finished, s.gate.step)
			assert.Empty(s, s.gate.early)
			assert.Zero(s, s.gate.earlyBytes)
		})
	}
}

// TestKeysAreMadeOnce: a second master secret changes nothing, nor one before the
// ServerHello.
func TestKeysAreMadeOnce(t *testing.T) {
	t.Parallel()
	inBubble(t, kindPSK, func(s *script) {
		s.gate.MasterSecret(secret)
		assert.Nil(s, s.gate.records)
		assert.False(s, s.hasFailed())
		s.toKeys()
		records := s.gate.records
		require.NotNil(s, records)
		s.gate.MasterSecret(make([]byte, 48))
		assert.Same(s, records, s.gate.records)
		s.to(finished)
	})
	inBubble(t, kindPSK, func(s *script) {
		s.to(awaitFinished)
		s.gate.MasterSecret(secret[1:])
		<-s.gate.Failed()
		assert.Nil(s, s.gate.records)
		assert.ErrorContains(s, s.gate.Refuse(context.Background(), errors.New("pion")), "48 bytes")
	})
}

// TestProtectedRecords: which of them are the handshake's, and which the session's.
func TestProtectedRecords(t *testing.T) {
	t.Parallel()
	data := func(s *script) Verdict { return s.protected(record.TypeApplicationData, []byte("data")) }
	inBubble(t, kindPSK, func(s *script) {
		for _, to := range []step{awaitHello, awaitCookie} {
			assert.Equal(s, WrongEpoch, data(s.to(to)))
		}
		assert.Equal(s, ForSession, data(s.to(awaitFinished)), "the keys are not known")
		assert.Equal(s, ForSession, data(s.toKeys()))
		assert.Equal(s, ForSession, s.handle(s.one(dtlstest.Unauthentic(record.TypeAlert, 1, 20))))
		assert.False(s, s.gate.changeCipher)
		s.to(finished)
		assert.Equal(s, ForSession, data(s))
		assert.Equal(s, ForSession, s.protected(record.TypeHandshake, s.finishedMessage()), "the client repeats its flight")
		s.result()
		assert.Equal(s, ForSession, data(s))
	})
	inBubble(t, kindAbbreviated, func(s *script) {
		s.toKeys()
		assert.Equal(s, NotAuthentic, s.handle(s.one(dtlstest.Unauthentic(record.TypeApplicationData, 9, 40))))
		assert.False(s, s.gate.AddressValidated())
		sealed := s.seal(record.TypeApplicationData, []byte("data"))
		assert.Equal(s, ForSession, s.handle(sealed))
		assert.True(s, s.gate.AddressValidated())
		assert.Equal(s, ForSession, s.handle(sealed), "it is not marked: the session opens it")
		assert.Equal(s, ForSession, s.protected(record.TypeAlert, []byte{record.LevelWarning, record.CloseNotify}))
		assert.Equal(s, ForSession, s.protected(record.TypeApplicationData, []byte{record.LevelFatal, 40}))
		assert.Equal(s, ForSession, s.protected(record.TypeAlert, []byte{record.LevelFatal}))
		assert.Equal(s, FatalAlert, s.protected(record.TypeAlert, []byte{record.LevelFatal, 40}))
		s.to(finished)
		s.result()
		assert.Equal(s, ForSession, s.protected(record.TypeAlert, []byte{record.LevelFatal, 40}), "the session's")
	})
	inBubble(t, kindAbbreviated, func(s *script) {
		s.toFlight()
		f := s.seal(record.TypeHandshake, s.finishedMessage())
		assert.Equal(s, Accepted, s.handle(f))
		assert.True(s, s.gate.AddressValidated())
	})
}

// TestProtectedHandshakeRecordsThatAreNoFinished are opened and dropped.
func TestProtectedHandshakeRecordsThatAreNoFinished(t *testing.T) {
	t.Parallel()
	inBubble(t, kindPSK, func(s *script) {
		s.toKeys()
		verify := s.bodyOf(record.MessageFinished)
		send := func(payload ...byte) Verdict { return s.protected(record.TypeHandshake, payload) }
		for name, m := range map[string]record.Handshake{
			"another message":      whole(record.MessageClientKeyExchange, s.messageSeq, verify),
			"too early a number":   whole(record.MessageFinished, s.messageSeq-1, verify),
			"too late a number":    whole(record.MessageFinished, s.messageSeq+1, verify),
			"too long":             whole(record.MessageFinished, s.messageSeq, append(verify, 0)),
			"too short":            whole(record.MessageFinished, s.messageSeq, verify[1:]),
			"a renegotiated hello": whole(record.MessageClientHello, 0, s.helloBody(nil)),
		} {
			assert.Equal(s, Unexpected, send(m.Append(nil)...), name)
			assert.Zero(s, s.gate.partials[0], name)
		}
		assert.Equal(s, Malformed, send())
		assert.Equal(s, Malformed, send(1, 2, 3))
		assert.Equal(s, Malformed, send(append(s.finishedMessage(), 0)...), "a byte too many")
		sealed := s.seal(record.TypeHandshake, []byte{0})
		assert.Equal(s, Malformed, s.handle(sealed))
		assert.Equal(s, Replayed, s.handle(sealed))
		assert.Equal(s, WrongEpoch, s.handle(record.Record{Type: record.TypeHandshake, Epoch: 2, Raw: sealed.Raw}))
		assert.Nil(s, s.gate.verifyData)
		assert.Zero(s, s.gate.outcome.wrong)

		// The Finished may be behind another message.
		require.Equal(s, Accepted, s.plaintext(record.TypeChangeCipherSpec, 1))
		other := whole(record.MessageClientKeyExchange, 1, verify).Append(nil)
		assert.Equal(s, Accepted, send(append(other, append(s.finishedMessage(), other...)...)...))
		assert.Equal(s, finished, s.gate.step)
		s.pionReads()
	})
}

// TestPlaintextRecordsThatAreNotTheHandshakes are dropped in each step.
func TestPlaintextRecordsThatAreNotTheHandshakes(t *testing.T) {
	t.Parallel()
	for _, to := range []step{awaitHello, awaitCookie, awaitServer, awaitCertificate, awaitFinished, finished} {
		inBubble(t, kindCertificate, func(s *script) {
			s.to(to)
			s.pionReads()
			s.take()
			assert.Equal(s, Unexpected, s.plaintext(record.TypeApplicationData, 1, 2))
			assert.Equal(s, Unexpected, s.plaintext(record.TypeAlert, 1, 0))
			assert.Equal(s, Malformed, s.plaintext(record.TypeHandshake))
			assert.Equal(s, Malformed, s.plaintext(record.TypeHandshake, 1, 2, 3))
			assert.Equal(s, Malformed, s.plaintext(record.TypeHandshake, dtlstest.FragmentHeader(1, 0, 50, 0, 0)...), "no byte")
			if !to.fromClient() {
				assert.Equal(s, Unexpected, s.plaintext(record.TypeChangeCipherSpec, 1))
				assert.Equal(s, Unexpected, s.plaintext(record.TypeChangeCipherSpec))
				assert.Equal(s, to == finished, s.gate.changeCipher)
			} else {
				for _, body := range [][]byte{{}, {0}, {2}, {1, 1}} {
					assert.Equal(s, Malformed, s.plaintext(record.TypeChangeCipherSpec, body...))
					assert.False(s, s.gate.changeCipher)
				}
				assert.Equal(s, Accepted, s.plaintext(record.TypeChangeCipherSpec, 1))
				assert.True(s, s.gate.changeCipher)
			}
			synctest.Wait()
			assert.Equal(s, to, s.gate.step)
			assert.Nil(s, s.gate.Next())
			assert.Empty(s, s.take())
			s.to(finished)
			s.pionReads()
		})
	}
}

// TestAMalformedRecordIsTakenNotAtAll: not even the right messages in front.
func TestAMalformedRecordIsTakenNotAtAll(t *testing.T) {
	t.Parallel()
	inBubble(t, kindPSK, func(s *script) {
		m := whole(record.MessageClientHello, 0, s.helloBody(nil)).Append(nil)
		assert.Equal(s, Malformed, s.plaintext(record.TypeHandshake, append(m, 1)...))
		assert.Equal(s, awaitHello, s.gate.step)
		s.to(finished)
	})
}

// TestSeveralMessagesInARecord: all are taken. What is said of the record is said of the
// first one that is malformed, or else Accepted if one was.
func TestSeveralMessagesInARecord(t *testing.T) {
	t.Parallel()
	inBubble(t, kindCertificate, func(s *script) {
		s.to(awaitCertificate)
		flight := s.lastFlight()
		assert.Equal(s, Accepted, s.messages(flight[0], flight[1], flight[2], whole(99, 9, []byte{1})))
		assert.Equal(s, awaitFinished, s.gate.step)
		assert.Equal(s, Unexpected, s.messages(whole(99, 9, []byte{1}), whole(98, 9, []byte{1})))
	})
	inBubble(t, kindCertificate, func(s *script) {
		s.to(awaitCertificate)
		flight := s.lastFlight()
		long := flight[2]
		long.Length = maxCertificateVerify + 1
		assert.Equal(s, Malformed, s.messages(flight[0], long, flight[1]))
		assert.Equal(s, awaitKeyExchange, s.gate.step)
	})
}

// TestClientHelloOfAnotherHandshake: until the client has shown its address, another
// ClientHello is one of a client that has begun anew.
func TestClientHelloOfAnotherHandshake(t *testing.T) {
	t.Parallel()
	inBubble(t, kindPSK, func(s *script) {
		m := whole(record.MessageClientHello, 0, s.helloBody(nil))
		assert.Equal(s, Accepted, s.messages(fragment(m, 0, 10)))
		other := whole(record.MessageClientHello, 0, append(s.helloBody(nil), 0, 0))
		assert.Equal(s, NewClientHello, s.messages(other), "another length")
		changed := fragment(m, 0, 10)
		changed.Body = bytes.Repeat([]byte{1}, 10)
		assert.Equal(s, NewClientHello, s.messages(changed), "another content")
		assert.Equal(s, NewClientHello, s.messages(changed, changed))
		assert.Equal(s, Accepted, s.messages(fragment(m, 10, m.Length)))
		assert.Equal(s, awaitServer, s.gate.step)
		s.messageSeq++

		other.MessageSeq = 1
		s.askForCookie()
		assert.Equal(s, awaitCookie, s.gate.step)
		rebooted := whole(record.MessageClientHello, 0, bytes.Clone(m.Body))
		rebooted.Body[5] ^= 1
		assert.Equal(s, NewClientHello, s.messages(rebooted))
		assert.Equal(s, NewClientHello, s.messages(fragment(rebooted, 0, 9)))
		rebooted.Length++
		assert.Equal(s, NewClientHello, s.messages(fragment(rebooted, 20, 30)), "another length")
		assert.Equal(s, Unexpected, s.messages(other), "another ClientHello with a cookie")
		s.to(awaitKeyExchange)
		rebooted.Length--
		assert.Equal(s, NewClientHello, s.messages(rebooted), "also when the client has shown its address")
		assert.Equal(s, NewClientHello, s.messages(fragment(rebooted, 0, 34)), "a fragment with the random")
		assert.Equal(s, Unexpected, s.messages(fragment(rebooted, 20, 30)), "a fragment that can be of the first ClientHello")
		assert.Equal(s, Unexpected, s.messages(m), "the first ClientHello, late")
		assert.Equal(s, Unexpected, s.messages(other))
		s.to(finished)
		assert.Equal(s, NewClientHello, s.messages(rebooted))
		s.pionReads()
	})
}

// TestAForgedMessageDoesNotStayInTheWay: one that is whole and wrong is forgotten.
func TestAForgedMessageDoesNotStayInTheWay(t *testing.T) {
	t.Parallel()
	inBubble(t, kindCertificate, func(s *script) {
		for s.gate.step != finished {
			if s.gate.step.fromClient() && s.gate.step != awaitFinished || s.gate.step == awaitHello || s.gate.step == awaitCookie {
				forged := whole(s.expected(), s.messageSeq, []byte{1, 2, 3})
				assert.Equal(s, Malformed, s.messages(forged))
				assert.False(s, s.gate.partials[0].begun)
			}
			s.honest()
		}
		s.pionReads()
	})
}

// expected returns the type of the message that the gate waits for.
func (s *script) expected() uint8 {
	if s.gate.step.fromClient() {
		return clientFlight[s.gate.step-awaitCertificate]
	}
	return record.MessageClientHello
}

// TestHello waits for the first ClientHello.
func TestHello(t *testing.T) {
	t.Parallel()
	inBubble(t, kindPSK, func(s *script) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := s.gate.Hello(ctx)
		assert.ErrorIs(s, err, context.DeadlineExceeded)
		time.AfterFunc(time.Second, func() { s.to(awaitServer) })
		hello, err := s.gate.Hello(context.Background())
		synctest.Wait()
		require.NoError(s, err)
		assert.Equal(s, s.random, hello.Random)
		assert.Zero(s, hello.MessageSeq)
		select {
		case <-s.gate.Wake():
		default:
			assert.Fail(s, "there is something for pion")
		}
		s.to(finished)
		assert.EqualValues(s, 1, s.gate.hello.MessageSeq)
	})
}

// TestResumeIsForTheSessionOfTheClientHello alone: if pion answers with another session ID,
// the handshake is a full one.
func TestResumeIsForTheSessionOfTheClientHello(t *testing.T) {
	t.Parallel()
	inBubble(t, kindPSK, func(s *script) {
		s.to(awaitServer)
		s.gate.Resume(make([]byte, 48))
		s.to(awaitKeyExchange)
		assert.Nil(s, s.gate.records)
		s.to(finished)
		assert.False(s, s.result().Resumed)
	})
}

// TestNoResultOfAHandshakeThatIsNotDone, and nothing is sent after it was asked for.
func TestNoResultOfAHandshakeThatIsNotDone(t *testing.T) {
	t.Parallel()
	for _, to := range []step{awaitHello, awaitKeyExchange, awaitFinished, finished} {
		inBubble(t, kindPSK, func(s *script) {
			s.to(to) // pion's Finished is missing
			_, err := s.gate.Result()
			assert.ErrorContains(s, err, "not seen the end")
			s.take()
			s.gate.FromPion(s.pionRecord(record.TypeChangeCipherSpec, 1))
			time.Sleep(time.Hour)
			assert.Empty(s, s.take())
		})
	}
	inBubble(t, kindAbbreviated, func(s *script) {
		s.toFlight()
		_, err := s.gate.Result()
		assert.ErrorContains(s, err, "not seen the end")
	})
	inBubble(t, kindPSK, func(s *script) {
		s.to(finished).result()
		_, err := s.gate.Result()
		assert.Error(s, err, "a session has one owner")
	})
}

// TestNextJoinsWhatFits into what pion reads at a time.
func TestNextJoinsWhatFits(t *testing.T) {
	t.Parallel()
	inBubble(t, kindCertificate, func(s *script) {
		s.to(awaitFinished)
		d := s.gate.Next()
		assert.LessOrEqual(s, len(d), maxForPion)
		first := len(d)
		s.read = append(s.read, d)
		d = s.gate.Next()
		require.NotNil(s, d)
		assert.Greater(s, first+len(dtlstest.Records(d)[0].Raw), maxForPion)
		s.read = append(s.read, d)
		assert.Nil(s, s.gate.Next())
		assert.Len(s, s.pionReads(), 5)
	})
}

// TestADatagramForPionIsFilledToTheLastByte and no further.
func TestADatagramForPionIsFilledToTheLastByte(t *testing.T) {
	t.Parallel()
	for more, want := range [][]int{{maxForPion}, {maxForPion - 1, 2}} {
		inBubble(t, kindPSK, func(s *script) {
			s.gate.handOnLocked(make([]byte, maxForPion-1))
			s.gate.handOnLocked(make([]byte, 1+more))
			for _, size := range want {
				assert.Len(s, s.gate.Next(), size)
			}
			assert.Nil(s, s.gate.Next())
		})
	}
}

// TestNoFinishedBeforeTheRestOfTheFlight, also if the keys were known: its number is that
// of another message.
func TestNoFinishedBeforeTheRestOfTheFlight(t *testing.T) {
	t.Parallel()
	inBubble(t, kindPSK, func(s *script) {
		s.to(awaitKeyExchange)
		s.gate.MasterSecret(secret)
		before := s.gate.effect()
		assert.Equal(s, Unexpected, s.protected(record.TypeHandshake, s.finishedMessage()))
		assert.Equal(s, before, s.gate.effect())
		s.to(finished)
	})
}

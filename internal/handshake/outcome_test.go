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

var errPion = errors.New("pion has failed")

// alerts returns the fatal alerts in datagrams, and requires that there is nothing else.
func (s *script) alerts(datagrams []datagram) (descriptions []uint8) {
	for _, d := range datagrams {
		r := s.one(d.raw)
		require.EqualValues(s, record.TypeAlert, r.Type)
		alert, ok := record.ParseAlert(r.Fragment())
		require.True(s, ok)
		require.EqualValues(s, record.LevelFatal, alert.Level)
		descriptions = append(descriptions, alert.Description)
	}
	return descriptions
}

// pionAlert is a plaintext alert of pion's.
func (s *script) pionAlert(description uint8) {
	s.gate.FromPion(s.pionRecord(record.TypeAlert, record.LevelFatal, description))
}

func (s *script) hasFailed() bool {
	select {
	case <-s.gate.Failed():
		return true
	default:
		return false
	}
}

// TestAClientThatPionRefusesIsAskedForACookieFirst: one that is not there to repeat its
// ClientHello is sent nothing, and one that returns the cookie is told.
func TestAClientThatPionRefusesIsAskedForACookieFirst(t *testing.T) {
	t.Parallel()
	for _, version := range []uint16{record.Version12, record.Version10} {
		inBubble(t, kindPSK, func(s *script) {
			s.version = version
			m := s.clientMessage(record.MessageClientHello)
			s.messages(m)
			s.pionAlert(70)
			refused := make(chan error)
			go func() { refused <- s.gate.Refuse(context.Background(), errPion) }()
			time.Sleep(time.Hour)
			assert.Empty(s, s.take(), "the address may be a victim's")

			for range 2 { // the client may repeat it once more
				s.messages(m)
				time.Sleep(time.Nanosecond)
				sent := s.take()
				require.Len(s, sent, 1)
				r := s.one(sent[0].raw)
				assert.Equal(s, record.AppendVersion(nil, version), r.Raw[1:3])
				request := s.oneMessage(r.Fragment())
				assert.EqualValues(s, record.MessageHelloVerifyRequest, request.Type)
				assert.True(s, request.Complete())
				assert.Zero(s, request.MessageSeq)
				assert.Equal(s, record.AppendVersion(nil, version), request.Body[:2])
				cookie, ok := parseHelloVerifyRequest(request.Body)
				require.True(s, ok)
				assert.Len(s, cookie, cookieSize)
				assert.NotEqual(s, make([]byte, cookieSize), cookie)
				if s.cookie != nil {
					assert.Equal(s, s.cookie, cookie)
				}
				s.cookie = cookie
				time.Sleep(time.Hour)
			}
			wrong := whole(record.MessageClientHello, 1, s.helloBody(make([]byte, cookieSize)))
			assert.Equal(s, ForeignCookie, s.messages(wrong))
			assert.Equal(s, NewClientHello, s.messages(whole(record.MessageClientHello, 0, append(s.helloBody(nil), 0, 0))))
			synctest.Wait()
			select {
			case <-refused:
				require.Fail(s, "the client has not shown its address")
			default:
			}
			s.pionReads()
			assert.Equal(s, Accepted, s.messages(s.clientMessage(record.MessageClientHello)))
			assert.ErrorIs(s, <-refused, errPion)
			assert.Nil(s, s.gate.Next(), "pion has failed")
			assert.Equal(s, []uint8{70}, s.alerts(s.take()))
			time.Sleep(time.Hour)
			assert.Empty(s, s.take())
		})
	}
}

// TestRefuseWaitsAtMostUntilItsContextEnds, and then sends nothing.
func TestRefuseWaitsAtMostUntilItsContextEnds(t *testing.T) {
	t.Parallel()
	inBubble(t, kindPSK, func(s *script) {
		m := s.clientMessage(record.MessageClientHello)
		s.messages(m)
		s.pionAlert(70)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		begin := time.Now()
		assert.EqualError(s, s.gate.Refuse(ctx, errPion), "dsm: pion has failed")
		assert.Equal(s, time.Minute, time.Since(begin))
		s.messages(m)
		time.Sleep(time.Hour)
		assert.Empty(s, s.take())
	})
	// The first ClientHello was not refused, and Refuse does not wait.
	inBubble(t, kindPSK, func(s *script) {
		s.to(awaitServer)
		assert.EqualError(s, s.gate.Refuse(context.Background(), errPion), "dsm: pion has failed")
		assert.Empty(s, s.take())
	})
	inBubble(t, kindPSK, func(s *script) {
		m := s.clientMessage(record.MessageClientHello)
		s.messages(m)
		s.pionAlert(70)
		s.gate.Abort()
		time.AfterFunc(time.Second, func() {
			s.gate.askForCookieLocked()
			s.cookie = s.gate.server.cookie
			s.messages(s.clientMessage(record.MessageClientHello))
		})
		assert.ErrorIs(s, s.gate.Refuse(context.Background(), errPion), errPion)
		assert.Empty(s, s.take(), "nothing is sent after Abort")
	})
}

// TestAClientWithAValidatedAddressIsToldAtOnce what pion has against it.
func TestAClientWithAValidatedAddressIsToldAtOnce(t *testing.T) {
	t.Parallel()
	for _, to := range []step{awaitKeyExchange, awaitFinished} {
		inBubble(t, kindPSK, func(s *script) {
			s.to(to)
			s.take()
			s.pionAlert(40)
			assert.Equal(s, []uint8{40}, s.alerts(s.take()))
			assert.ErrorIs(s, s.gate.Refuse(context.Background(), errPion), errPion)
			time.Sleep(time.Hour)
			assert.Empty(s, s.take())
		})
	}
	inBubble(t, kindPSK, func(s *script) {
		s.to(awaitCookie)
		s.honest() // pion refuses what is in the second ClientHello
		s.take()
		s.pionAlert(40)
		assert.Equal(s, []uint8{40}, s.alerts(s.take()))
		s.messages(whole(record.MessageClientHello, 1, s.helloBody(s.cookie)))
		time.Sleep(time.Second)
		assert.Empty(s, s.take())
	})
}

// TestAnUnknownIdentity is told as RFC 4279 section 2 says, and another error of
// the callback as pion says.
func TestAnUnknownIdentity(t *testing.T) {
	t.Parallel()
	inBubble(t, kindPSK, func(s *script) {
		s.to(awaitKeyExchange)
		m := whole(record.MessageClientKeyExchange, s.messageSeq, append([]byte{0, 6}, "nobody"...))
		require.Equal(s, Accepted, s.messages(m))
		s.take()
		_, err := s.gate.PSK(context.Background(), []byte("nobody"))
		assert.Error(s, err)
		s.pionAlert(80)
		assert.Equal(s, []uint8{record.UnknownPSKIdentity}, s.alerts(s.take()))
	})
	inBubble(t, kindPSK, func(s *script) {
		s.to(awaitFinished)
		s.take()
		known := s.gate.parameters.PSK
		s.gate.parameters.PSK = func(context.Context, string, []byte) ([]byte, error) { return nil, assert.AnError }
		_, err := s.gate.PSK(context.Background(), []byte("nobody"))
		assert.ErrorIs(s, err, assert.AnError)
		s.gate.parameters.PSK = known
		key, err := s.gate.PSK(context.Background(), []byte(identity))
		require.NoError(s, err)
		assert.Equal(s, "key", string(key))
		s.pionAlert(80)
		assert.Equal(s, []uint8{80}, s.alerts(s.take()))
	})
}

// TestThePSKIsAskedForWithTheServerName of the ClientHello.
func TestThePSKIsAskedForWithTheServerName(t *testing.T) {
	t.Parallel()
	inBubble(t, kindPSK, func(s *script) {
		name := ""
		s.gate.parameters.PSK = func(_ context.Context, serverName string, id []byte) ([]byte, error) {
			name = serverName
			return id, nil
		}
		h := dtlstest.ClientHello{Extensions: []byte{0, 0, 0, 6, 0, 4, 0, 0, 1, 'x'}}.Datagram()
		require.Equal(s, Accepted, s.handle(s.one(h)))
		_, err := s.gate.PSK(context.Background(), nil)
		require.NoError(s, err)
		assert.Equal(s, "x", name)
	})
}

// wrongKey is a record in the place of the Finished that no key opens.
func (s *script) wrongKey() Verdict {
	s.sequence++
	return s.handle(s.one(dtlstest.Unauthentic(record.TypeHandshake, s.sequence, 48)))
}

// wrongFinished is a Finished with another verify_data.
func (s *script) wrongFinished() Verdict {
	m := s.oneMessage(s.finishedMessage())
	m.Body = bytes.Clone(m.Body)
	m.Body[s.sequence%record.VerifyDataSize] ^= 1
	s.sequence++
	return s.protected(record.TypeHandshake, m.Append(nil))
}

// TestAClientWithTheWrongKeyIsTold when it repeats its Finished, and the error says what
// may be wrong.
func TestAClientWithTheWrongKeyIsTold(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		kind  kind
		send  func(*script) Verdict
		want  Verdict
		alert uint8
		error []string
	}{
		{"key", kindPSK, (*script).wrongKey, WrongKey, record.BadRecordMAC, []string{"another key", `PSK identity "device"`}},
		{"no identity", kindCertificate, (*script).wrongKey, WrongKey, record.BadRecordMAC, []string{"another key"}},
		{"verify_data", kindPSK, (*script).wrongFinished, WrongFinished, record.DecryptError, []string{"verify_data", `"device"`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, test.kind, func(s *script) {
				s.toKeys()
				s.pionReads()
				s.plaintext(record.TypeChangeCipherSpec, 1)
				s.gate.repeats.stop()
				s.take()
				if test.want == WrongKey {
					again := whole(record.MessageClientKeyExchange, s.messageSeq-1, s.bodyOf(record.MessageClientKeyExchange))
					if test.kind.certificates > 0 {
						again.MessageSeq--
					}
					other := again
					other.Body = bytes.Repeat([]byte{0xaa}, again.Length)
					s.messages(again) // before the first wrong Finished
					for range 3 {
						assert.Equal(s, test.want, test.send(s))
					}
					s.messages(fragment(again, 0, min(minRepeated, again.Length)))
					s.messages(other)
					time.Sleep(wrongFinishedAfter - time.Nanosecond)
				}
				assert.Equal(s, test.want, test.send(s))
				assert.False(s, s.hasFailed())
				time.Sleep(time.Nanosecond)
				assert.Equal(s, test.want, test.send(s))
				if test.want == WrongKey {
					// The rest of the flight can have the right one.
					time.Sleep(patience - time.Nanosecond)
					synctest.Wait()
					assert.False(s, s.hasFailed())
					time.Sleep(time.Nanosecond)
					synctest.Wait()
				}
				assert.True(s, s.hasFailed())
				assert.Equal(s, test.want, test.send(s), "once more")
				assert.Empty(s, s.take(), "nothing is sent from within HandleRecord")
				assert.Nil(s, s.gate.Next(), "pion gets no wrong Finished")

				err := s.gate.Refuse(context.Background(), errPion)
				for _, text := range append(test.error, "the client was refused") {
					assert.ErrorContains(s, err, text)
				}
				assert.Equal(s, test.kind.suite.PSK(), bytes.Contains([]byte(err.Error()), []byte("identity")))
				assert.NotErrorIs(s, err, errPion, "that pion has failed is the gate's doing")
				assert.Equal(s, []uint8{test.alert}, s.alerts(s.take()))
			})
			inBubble(t, test.kind, func(s *script) {
				s.toKeys()
				assert.Equal(s, test.want, test.send(s))
				time.Sleep(time.Hour)
				assert.False(s, s.hasFailed(), "one alone")
				s.take()
				err := s.gate.Refuse(context.Background(), errPion)
				assert.ErrorIs(s, err, errPion)
				assert.ErrorContains(s, err, test.error[0])
				assert.Empty(s, s.take())
			})
		})
	}
	// Before the address is validated only the error says so.
	inBubble(t, kindAbbreviated, func(s *script) {
		s.toFlight()
		for range 3 {
			assert.Equal(s, WrongKey, s.wrongKey())
			time.Sleep(2 * wrongFinishedAfter)
		}
		assert.False(s, s.hasFailed())
		s.to(finished)
	})
}

// TestAStrangersFinishedEndsNoHandshake: the honest one that was lost twice is repeated in
// time, and passes however many others came before it.
func TestAStrangersFinishedEndsNoHandshake(t *testing.T) {
	t.Parallel()
	inBubble(t, kindPSK, func(s *script) {
		s.to(awaitFinished)
		again := whole(record.MessageClientKeyExchange, s.messageSeq-1, bytes.Repeat([]byte{0xaa}, len(identity)+2))
		for range 2 * maxEarly {
			assert.Equal(s, Accepted, s.wrongKey())
		}
		s.gate.MasterSecret(secret)
		assert.Len(s, s.counted, maxEarly)
		// The client repeats its Finished after one second and two more.
		for range 31 {
			assert.Equal(s, WrongKey, s.wrongKey())
			assert.Equal(s, Accepted, s.messages(again))
			time.Sleep(100 * time.Millisecond)
		}
		assert.False(s, s.hasFailed())
		require.Equal(s, Accepted, s.finish())
		assert.Equal(s, finished, s.gate.step)
		assert.Equal(s, ForSession, s.wrongKey())
		s.result()
	})
}

// TestAPlaintextAlertIsBelievedWhenTheClientIsGone, which is when it leaves a repeated
// flight without an answer.
func TestAPlaintextAlertIsBelievedWhenTheClientIsGone(t *testing.T) {
	t.Parallel()
	inBubble(t, kindCertificate, func(s *script) {
		s.to(awaitCertificate)
		time.Sleep(500 * time.Millisecond)
		assert.Equal(s, Unexpected, s.plaintext(record.TypeAlert, record.LevelFatal, 48))
		s.plaintext(record.TypeAlert, record.LevelFatal, 40) // the first one is the cause
		s.take()
		time.Sleep(DefaultInterval - 500*time.Millisecond)
		assert.Len(s, s.take(), 1, "the flight is repeated")
		time.Sleep(2 * DefaultInterval)
		assert.Len(s, s.take(), 1, "and once more: a slow client answers later")
		time.Sleep(4*DefaultInterval - time.Nanosecond)
		synctest.Wait()
		assert.False(s, s.hasFailed())
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		assert.True(s, s.hasFailed())
		assert.Empty(s, s.take(), "and not once more")
		err := s.gate.Refuse(context.Background(), errPion)
		assert.ErrorIs(s, err, errClientAlert)
		assert.ErrorContains(s, err, "alert 48")
		assert.Empty(s, s.take(), "the client knows")
	})
}

// TestAPlaintextAlertOfAStrangerEndsNoHandshake in which the client goes on, be it by a
// fragment, or by repeating what it has sent.
func TestAPlaintextAlertOfAStrangerEndsNoHandshake(t *testing.T) {
	t.Parallel()
	m := whole(record.MessageClientHello, 1, nil)
	for name, goesOn := range map[string]func(s *script, n int){
		"a fragment": func(s *script, n int) {
			c := whole(record.MessageCertificate, 2, s.bodyOf(record.MessageCertificate))
			s.messages(fragment(c, n, n+1))
		},
		"a ClientHello again": func(s *script, _ int) {
			m.Body = s.helloBody(s.cookie)
			s.messages(whole(m.Type, 1, m.Body))
		},
	} {
		inBubble(t, kindCertificate, func(s *script) {
			s.to(awaitCertificate)
			for n := range 20 {
				s.plaintext(record.TypeAlert, record.LevelFatal, 40)
				goesOn(s, n)
				time.Sleep(time.Duration(n) * time.Second)
				s.plaintext(record.TypeAlert, record.LevelFatal, 40)
				goesOn(s, n)
			}
			synctest.Wait()
			assert.False(s, s.hasFailed(), name)
			s.to(finished)
			s.result()
			assert.NotErrorIs(s, s.gate.Refuse(context.Background(), errPion), errClientAlert)
		})
	}
}

// TestPlaintextAlertsThatSayNothing: warnings, what is no alert, and what comes before the
// client has shown its address, or after its last flight.
func TestPlaintextAlertsThatSayNothing(t *testing.T) {
	t.Parallel()
	for _, payload := range [][]byte{{record.LevelWarning, 0}, {record.LevelWarning, 40}, {record.LevelFatal}, {3, 40}} {
		inBubble(t, kindPSK, func(s *script) {
			s.to(awaitKeyExchange)
			s.plaintext(record.TypeAlert, payload...)
			time.Sleep(time.Hour)
			assert.False(s, s.hasFailed())
			assert.Nil(s, s.gate.outcome.clientAlert)
		})
	}
	for _, to := range []step{awaitHello, awaitCookie, awaitServer, finished} {
		inBubble(t, kindPSK, func(s *script) {
			s.to(to)
			s.plaintext(record.TypeAlert, record.LevelFatal, 40)
			assert.Nil(s, s.gate.outcome.clientAlert)
			s.to(finished)
			s.result()
		})
	}
	inBubble(t, kindAbbreviated, func(s *script) {
		s.toFlight()
		s.plaintext(record.TypeAlert, record.LevelFatal, 40)
		assert.Nil(s, s.gate.outcome.clientAlert)
	})
}

// TestTheFirstErrorOfTheGateCounts.
func TestTheFirstErrorOfTheGateCounts(t *testing.T) {
	t.Parallel()
	inBubble(t, kindPSK, func(s *script) {
		s.gate.failLocked(errClientAlert)
		s.gate.failLocked(errPion)
		assert.ErrorIs(s, s.gate.Refuse(context.Background(), assert.AnError), errClientAlert)
	})
}

// TestAWrongFinishedAfterTheEndIsNotTold: the handshake has failed for another reason.
func TestAWrongFinishedAfterTheEndIsNotTold(t *testing.T) {
	t.Parallel()
	inBubble(t, kindPSK, func(s *script) {
		s.toKeys()
		s.wrongFinished()
		s.plaintext(record.TypeAlert, record.LevelFatal, 48)
		time.Sleep(10 * DefaultInterval)
		synctest.Wait()
		require.True(s, s.hasFailed())
		s.take()
		s.wrongFinished()
		assert.ErrorIs(s, s.gate.Refuse(context.Background(), errPion), errClientAlert)
		assert.Empty(s, s.take())
	})
}

// TestAWrongFinishedIsAStrangersUntilTheClientRepeatsItsFlight, which shows that it is there.
func TestAWrongFinishedIsAStrangersUntilTheClientRepeatsItsFlight(t *testing.T) {
	t.Parallel()
	inBubble(t, kindPSK, func(s *script) {
		s.toKeys()
		again := whole(record.MessageClientKeyExchange, s.messageSeq-1, s.bodyOf(record.MessageClientKeyExchange))
		s.messages(again) // before the first wrong Finished
		s.wrongKey()
		s.messages(fragment(again, 0, min(minRepeated, again.Length)-1))
		for _, change := range []func(m *record.Handshake){
			func(m *record.Handshake) { m.Body = bytes.Repeat([]byte{0xaa}, m.Length) },
			func(m *record.Handshake) { m.Length++ },
			func(m *record.Handshake) { m.Type = record.MessageCertificate },
		} {
			other := again
			change(&other)
			s.messages(other)
		}
		time.Sleep(time.Hour)
		s.wrongKey()
		assert.False(s, s.hasFailed())
		s.messages(again)
		s.wrongKey()
		time.Sleep(patience)
		synctest.Wait()
		assert.True(s, s.hasFailed())
	})
}

// TestAMalformedMessageIsInTheError, of which the client hears nothing.
func TestAMalformedMessageIsInTheError(t *testing.T) {
	t.Parallel()
	inBubble(t, kindPSK, func(s *script) {
		s.to(awaitKeyExchange)
		s.messages(whole(record.MessageClientKeyExchange, s.messageSeq, []byte{0, 9}))
		s.take()
		assert.ErrorContains(s, s.gate.Refuse(context.Background(), errPion), "message of type 16 is malformed")
		assert.Empty(s, s.take())
	})
	inBubble(t, kindPSK, func(s *script) { // one that is too long
		long := record.Handshake{Type: record.MessageClientHello, Length: s.gate.parameters.Limits.ClientHello + 1, Body: []byte{1}}
		assert.Equal(s, Malformed, s.messages(long))
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_, err := s.gate.Hello(ctx)
		assert.ErrorIs(s, err, context.Canceled)
		assert.ErrorContains(s, err, "message of type 1 is malformed, or exceeds a bound")
	})
}

// TestThePSKErrorIsInTheError also if pion has not heard of it: the callback took too long.
func TestThePSKErrorIsInTheError(t *testing.T) {
	t.Parallel()
	inBubble(t, kindPSK, func(s *script) {
		s.to(awaitFinished)
		s.gate.parameters.PSK = func(context.Context, string, []byte) ([]byte, error) { return nil, assert.AnError }
		_, err := s.gate.PSK(context.Background(), nil)
		require.ErrorIs(s, err, assert.AnError)
		err = s.gate.Refuse(context.Background(), errPion)
		assert.ErrorIs(s, err, errPion)
		assert.ErrorIs(s, err, assert.AnError)
	})
}

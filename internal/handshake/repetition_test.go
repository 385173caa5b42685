// SPDX-License-Identifier: MIT

package handshake

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// times returns when datagrams were sent, in seconds after the first one.
func (s *script) times() (seconds []float64) {
	sent := s.take()
	for _, d := range sent {
		seconds = append(seconds, (d.at - sent[0].at).Seconds())
	}
	return seconds
}

// TestFlightsAreRepeatedLessAndLessOften, each time after twice the time, at most a minute.
func TestFlightsAreRepeatedLessAndLessOften(t *testing.T) {
	t.Parallel()
	want := []float64{0, 1.5, 4.5, 10.5, 22.5, 46.5, 94.5, 154.5, 214.5, 274.5}
	for _, k := range []kind{kindPSK, kindCertificate, kindEmpty} {
		inBubble(t, k, func(s *script) {
			s.to(awaitServer)
			s.honest()
			s.honest()
			s.take()
			s.gate.FromPion(bytes.Join(s.flight(), nil))
			time.Sleep(300 * time.Second)
			assert.Equal(s, want, s.times())

			s.to(awaitFinished) // the client answers, and its Finished is missing
			time.Sleep(10 * time.Minute)
			assert.Len(s, s.take(), 10, "a part of the client's flight was lost")
			s.to(finished)
			time.Sleep(time.Hour)
			assert.Empty(s, s.take(), "pion has everything")
		})
	}
	inBubble(t, kindAbbreviated, func(s *script) {
		s.toFlight()
		s.gate.budget.validated.Store(true)
		time.Sleep(300 * time.Second)
		assert.Equal(s, want, s.times())
	})
}

// TestTheIntervalIsTheAdapters.
func TestTheIntervalIsTheAdapters(t *testing.T) {
	t.Parallel()
	inBubble(t, kindPSK, func(s *script) {
		s.gate = NewGate(s.gate.parameters, Options{Interval: 40 * time.Second, ReplayWindow: 200})
		s.toFlight()
		s.take()
		time.Sleep(170 * time.Second)
		sent := s.take()
		require.Len(s, sent, 3)
		assert.Equal(s, []time.Duration{40 * time.Second, 100 * time.Second, 160 * time.Second}, []time.Duration{sent[0].at, sent[1].at, sent[2].at})
		s.to(finished)
		assert.GreaterOrEqual(s, s.result().Records.Config().ReplayWindow, 200)
	})
}

// TestAHelloVerifyRequestIsRepeatedAtTheClientsWordAlone (RFC 6347 section 4.2.1).
func TestAHelloVerifyRequestIsRepeatedAtTheClientsWordAlone(t *testing.T) {
	t.Parallel()
	inBubble(t, kindPSK, func(s *script) {
		hello := s.clientMessage(record.MessageClientHello)
		s.messages(hello)
		s.askForCookie()
		want := s.payloads(s.take())
		require.Len(s, want, 1)
		time.Sleep(time.Hour)
		assert.Empty(s, s.take())
		for range 3 {
			s.messages(hello)
			synctest.Wait()
			assert.Empty(s, s.take(), "nothing is sent from within HandleRecord")
			time.Sleep(time.Nanosecond)
			synctest.Wait()
			assert.Equal(s, want, s.payloads(s.take()))
			time.Sleep(time.Hour)
			assert.Empty(s, s.take())
		}
		s.to(finished)
	})
}

// TestAFlightIsRepeatedAtTheClientsWord at once, and not more often than every minInterval,
// at the first fragment of the ClientHello that it answers. The flight is due no later for
// that.
func TestAFlightIsRepeatedAtTheClientsWord(t *testing.T) {
	t.Parallel()
	forEachKind(t, func(s *script) {
		s.toFlight()
		s.gate.budget.validated.Store(true)
		flight := s.payloads(s.take())
		flight = flight[len(flight)-len(s.gate.flight.datagrams[0]):]
		hello := whole(record.MessageClientHello, s.messageSeq-1, s.helloBody(s.cookie))
		first := fragment(hello, 0, minRepeated)
		later := func(d time.Duration) []string {
			time.Sleep(d)
			synctest.Wait()
			return s.payloads(s.take())
		}

		assert.Equal(s, Accepted, s.messages(hello))
		assert.Empty(s, later(minInterval-time.Nanosecond), "the flight was only just sent")
		assert.Equal(s, Accepted, s.messages(hello))
		assert.Empty(s, later(time.Nanosecond))
		assert.Equal(s, Accepted, s.messages(hello))
		assert.Equal(s, Accepted, s.messages(hello), "once more does not put it off")
		assert.Equal(s, flight, later(time.Nanosecond))
		assert.Empty(s, later(minInterval))
		assert.Equal(s, Accepted, s.messages(fragment(hello, minRepeated, hello.Length)))
		assert.Empty(s, later(time.Nanosecond), "it is the first fragment that asks")
		assert.Equal(s, Accepted, s.messages(fragment(hello, 0, minRepeated-1)))
		assert.Empty(s, later(time.Nanosecond), "a stranger could guess as much")
		assert.Equal(s, Accepted, s.messages(first))
		assert.Equal(s, flight, later(time.Nanosecond))
		other := first
		other.MessageSeq = 0
		if s.cookie != nil {
			assert.Equal(s, Unexpected, s.messages(other))
			assert.Empty(s, later(minInterval), "the ClientHello of another flight")
		} else {
			time.Sleep(minInterval)
		}

		assert.Empty(s, later(DefaultInterval-minInterval-time.Nanosecond))
		assert.Equal(s, flight, later(time.Nanosecond), "an interval after the last time")
		assert.Empty(s, later(2*DefaultInterval-time.Nanosecond))
		assert.Equal(s, flight, later(time.Nanosecond))

		// Once the client goes on, its ClientHello is late.
		s.to(awaitFinished)
		if s.abbreviated {
			return
		}
		time.Sleep(minInterval)
		assert.Equal(s, Accepted, s.messages(hello))
		assert.Empty(s, later(time.Nanosecond))
	})
}

// TestNothingIsRepeatedAfterTheEnd of a handshake, whoever ends it.
func TestNothingIsRepeatedAfterTheEnd(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(s *script){
		"Abort":          func(s *script) { s.gate.Abort() },
		"Result":         func(s *script) { _, _ = s.gate.Result() },
		"Refuse":         func(s *script) { _ = s.gate.Refuse(s.Context(), assert.AnError) },
		"Abort too late": func(s *script) { s.gate.repeats.request(s.gate.repeat); s.gate.Abort() },
	} {
		t.Run(name, func(t *testing.T) {
			for _, to := range []step{awaitHello, awaitServer, awaitCookie, awaitKeyExchange, awaitFinished} {
				inBubble(t, kindPSK, func(s *script) {
					s.to(to)
					s.take()
					time.Sleep(minInterval)
					end(s)
					s.gate.repeat() // a timer that was not stopped in time
					s.messages(whole(hello, 0, s.helloBody(nil)))
					s.messages(whole(hello, 1, s.helloBody(s.cookie)))
					s.askForCookie()
					s.gate.FromPion(s.pionRecord(record.TypeAlert, record.LevelFatal, 40))
					time.Sleep(time.Hour)
					assert.Empty(s, s.take())
				})
			}
		})
	}
}

// TestATimerThatWasNotStoppedInTime repeats nothing that the client has answered.
func TestATimerThatWasNotStoppedInTime(t *testing.T) {
	t.Parallel()
	for _, to := range []step{awaitHello, awaitServer, finished} {
		inBubble(t, kindPSK, func(s *script) {
			s.to(to)
			s.take()
			s.gate.repeat()
			time.Sleep(time.Hour)
			assert.Empty(s, s.take())
		})
	}
	inBubble(t, kindPSK, func(s *script) {
		s.to(awaitCookie)
		s.honest()
		s.take()
		s.gate.repeat()
		assert.Empty(s, s.take(), "pion has not answered yet")
		s.toFlight()
		assert.Len(s, s.payloads(s.take()), 2, "the new flight alone")
		time.Sleep(DefaultInterval)
		assert.Len(s, s.payloads(s.take()), 2)
	})
}

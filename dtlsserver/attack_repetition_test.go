// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/handshake"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The tests of this file are about when a server's flight is sent again (RFC 6347 section
// 4.2.4).

// has reports whether a datagram begins with a message in plaintext.
func has(datagram []byte, kind uint8) bool {
	for _, r := range dtlstest.Records(datagram) {
		if m, _, ok := record.NextHandshake(r.Fragment()); ok && r.Type == record.TypeHandshake && r.Epoch == 0 && m.Type == kind {
			return true
		}
	}
	return false
}

// heardAt returns when a client has got a message: the time since it got it first.
func heardAt(c *dtlstest.ScriptedClient, kind uint8) (times []time.Duration) {
	var first time.Time
	for _, d := range c.Server.Datagrams {
		if has(d.Payload, kind) {
			if first.IsZero() {
				first = d.At
			}
			times = append(times, d.At.Sub(first))
		}
	}
	return times
}

// TestFlightToSilentClientBacksOff: the client has returned its cookie and says no more.
func TestFlightToSilentClientBacksOff(t *testing.T) {
	t.Parallel()
	const tolerance, longest = 50 * time.Millisecond, time.Minute
	for name, interval := range map[string]time.Duration{"default": 0, "200 ms": 200 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := pskWith()
			config.FlightInterval = interval
			attack(t, config, dtlsserver.Config{HandshakeTimeout: time.Hour}, func(t *testing.T, v *victim) {
				c := v.helloed(t)
				c.ReadFor(10 * time.Minute)
				got := heardAt(c, record.MessageServerHello)
				if interval == 0 {
					interval = handshake.DefaultInterval
				}
				require.Greater(t, len(got), 10)
				for n := 1; n < len(got); n++ {
					want := min(interval<<(n-1), longest)
					require.InDelta(t, want, got[n]-got[n-1], float64(tolerance), "repetition %d of %v", n, got)
				}
				require.Equal(t, 1, v.Stats().HalfOpen)
				finishes(t, c)
			})
		})
	}
}

// TestHelloVerifyRequestIsNotRepeatedByTimer: RFC 6347 section 4.2.1. The client asks for it
// by its ClientHello.
func TestHelloVerifyRequestIsNotRepeatedByTimer(t *testing.T) {
	t.Parallel()
	attack(t, pskWith(), dtlsserver.Config{HandshakeTimeout: time.Hour}, func(t *testing.T, v *victim) {
		c := v.client(t)
		hello := c.SendHello()
		for n := 1; n <= 3; n++ {
			c.ReadFor(time.Minute)
			require.Len(t, c.Server.Datagrams, n)
			c.Send(c.Handshakes(hello)...)
		}
		c.SendHello()
		require.True(t, c.Await(dtlstest.Patience, func() bool { return c.Heard(record.MessageServerHelloDone) }))
		finishes(t, c)
	})
}

// TestRepeatedClientFlightIsAnsweredAtOnce: the client says that it misses the server's
// flight.
func TestRepeatedClientFlightIsAnsweredAtOnce(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int{"whole": 1 << 14, "in fragments": 20} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			attack(t, pskWith(), dtlsserver.Config{HandshakeTimeout: time.Hour}, func(t *testing.T, v *victim) {
				c := v.client(t)
				require.NoError(t, c.Hellos())
				hello := dtlstest.Message(record.MessageClientHello, 1, c.Hello.Body()...)
				c.ReadFor(20 * time.Second) // the next repetition is 11 s from now
				for range 3 {
					n := len(heardAt(c, record.MessageServerHello))
					begin := time.Now()
					c.Send(c.Handshakes(dtlstest.Fragments(hello, size)...)...)
					require.True(t, c.Await(2*roundTrip, func() bool { return len(heardAt(c, record.MessageServerHello)) > n }), "no answer")
					assert.LessOrEqual(t, time.Since(begin), roundTrip+20*time.Millisecond)
					c.ReadFor(500 * time.Millisecond)
					assert.Len(t, heardAt(c, record.MessageServerHello), n+1, "one answer")
				}
				finishes(t, c)
			})
		})
	}
}

// TestClientWhoseTimerEachDatagramRestartsGetsIn: a client like that of GnuTLS repeats its
// flight only when it has heard nothing for a while. One datagram is lost.
func TestClientWhoseTimerEachDatagramRestartsGetsIn(t *testing.T) {
	t.Parallel()
	const silence = 1200 * time.Millisecond
	serverHello := func(d []byte) bool { return has(d, record.MessageServerHello) }
	changeCipherSpec := func(d []byte) bool { return dtlstest.Has(d, record.TypeChangeCipherSpec, false) }
	for name, loss := range map[string]struct {
		direction dtlstest.Direction
		lost      func(datagram []byte) bool
	}{
		"the server's flight":      {dtlstest.ToClient, serverHello},
		"the server's last flight": {dtlstest.ToClient, changeCipherSpec},
		"the client's last flight": {dtlstest.ToServer, changeCipherSpec},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			attack(t, pskWith(), dtlsserver.Config{HandshakeTimeout: time.Hour}, func(t *testing.T, v *victim) {
				var lost atomic.Int32
				v.network.SetHook(loss.direction, func(datagram []byte) bool {
					return !loss.lost(datagram) || lost.Add(1) > 1
				})
				c := v.client(t)
				until := time.Now().Add(time.Minute)
				patiently := func(send func(), done func() bool) {
					for send(); !done(); {
						heard := len(c.Server.Datagrams)
						if !c.Await(silence, func() bool { return len(c.Server.Datagrams) > heard }) {
							send()
						}
						require.True(t, time.Now().Before(until), "a minute has passed")
					}
				}
				hello := c.Message(record.MessageClientHello, c.Hello.Body())
				send := func() { c.Send(c.Handshakes(hello)...) }
				patiently(send, func() bool { return c.Heard(record.MessageHelloVerifyRequest) })
				hello = c.Message(record.MessageClientHello, c.Hello.Body())
				patiently(send, func() bool { return c.Heard(record.MessageServerHelloDone) })
				exchange := keyExchange(t, c)
				end := c.Message(record.MessageFinished, c.VerifyData())
				patiently(func() {
					c.Send(append(c.Handshakes(exchange), c.ChangeCipherSpec(), c.Seal(record.TypeHandshake, end))...)
				}, func() bool { return c.Server.Finished })
				assert.Positive(t, lost.Load())
				assert.True(t, c.Echo("in"))
			})
		})
	}
}

// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"context"
	"math"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestForgedFirstClientHelloDisplacesNoHandshake: a stranger that knows only the addresses
// sends a ClientHello in each client's name, after the client's own.
func TestForgedFirstClientHelloDisplacesNoHandshake(t *testing.T) {
	t.Parallel()
	const clients, after = 10, 100 * time.Millisecond
	attack(t, pskWith(), dtlsserver.Config{Handshakes: 4 * clients, HandshakesPerSource: -1}, func(t *testing.T, v *victim) {
		forged := dtlstest.ClientHello{Random: dtlstest.RandomOf(7), Suites: []record.SuiteID{dtlstest.Suite}}.Datagram()
		var mu sync.Mutex
		seen := map[netip.AddrPort]bool{}
		v.network.SetFilter(dtlstest.ToServer, func(d dtlstest.Datagram, forward func([]byte)) {
			mu.Lock()
			first := !seen[d.From]
			seen[d.From] = true
			mu.Unlock()
			forward(d.Payload)
			if first {
				time.AfterFunc(after, func() { v.network.Inject(d.From, d.To, forged) })
			}
		})
		ours := v.getIn(clients, func(int, netip.AddrPort) netip.AddrPort { return v.addr() })
		mu.Lock()
		clear(seen)
		mu.Unlock()
		pions := v.getIn(clients, pionListener(t, v.network, v.config))
		v.network.SetFilter(dtlstest.ToServer, nil)
		assert.Equal(t, clients, ours)
		assert.LessOrEqual(t, pions, ours, "pion alone")
	})
}

// TestForgedFinishedInARepeatedFlightEndsNoHandshake: the client's first Finished is lost. It
// repeats its flight, each message in a datagram of its own, and a stranger sends records in
// between.
func TestForgedFinishedInARepeatedFlightEndsNoHandshake(t *testing.T) {
	t.Parallel()
	attack(t, pskWith(), dtlsserver.Config{}, func(t *testing.T, v *victim) {
		c := v.helloed(t)
		messages, err := c.KeyMessages()
		require.NoError(t, err)
		end := c.Message(record.MessageFinished, c.VerifyData())
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			for n := uint64(0); ; n++ {
				select {
				case <-stop:
					return
				case <-time.After(5 * time.Millisecond):
					v.network.Inject(addrPort(c), v.addr(), dtlstest.Unauthentic(record.TypeHandshake, n%50, 40))
				}
			}
		})
		defer func() { close(stop); wg.Wait() }()
		c.Send(c.Handshakes(messages...)...) // its CCS and Finished are lost
		c.ReadFor(time.Second)
		c.Send(c.Handshakes(messages...)...)
		time.Sleep(20 * time.Millisecond) // the next datagram of the same flight
		c.Send(c.ChangeCipherSpec(), c.Seal(record.TypeHandshake, end))
		ok := c.Await(5*time.Second, func() bool { return c.Server.Finished })
		assert.True(t, ok, "the client was kept out by a stranger")
	})
}

// TestForgedAlertEndsNoSlowHandshake: the client computes for long, or is far away.
func TestForgedAlertEndsNoSlowHandshake(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ interval, think time.Duration }{
		"default interval, client computes 4 s":      {0, 4 * time.Second},
		"FlightInterval 50 ms, round trip of 300 ms": {50 * time.Millisecond, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := pskWith()
			config.FlightInterval = tc.interval
			attack(t, config, dtlsserver.Config{}, func(t *testing.T, v *victim) {
				c := v.client(t)
				v.network.SetFilter(dtlstest.ToServer, func(d dtlstest.Datagram, forward func([]byte)) {
					forward(d.Payload)
					if hello, ok := record.ParseClientHello(dtlstest.Records(d.Payload)[0]); ok && len(hello.Cookie) > 0 {
						time.AfterFunc(20*time.Millisecond, func() {
							v.network.Inject(d.From, d.To, dtlstest.Plaintext(record.TypeAlert, 30, 2, 40))
						})
					}
				})
				require.NoError(t, c.Hellos())
				v.network.SetFilter(dtlstest.ToServer, nil)
				c.ReadFor(tc.think)
				flight, err := c.LastFlight()
				require.NoError(t, err)
				c.Send(flight...)
				assert.True(t, c.Await(5*time.Second, func() bool { return c.Server.Finished }), "kept out by one alert: %+v", v.Stats())
			})
		})
	}
}

// TestHugeBoundsAreNone: a user may write no bound so.
func TestHugeBoundsAreNone(t *testing.T) {
	t.Parallel()
	attack(t, pskWith(), dtlsserver.Config{MaxPSKIdentity: math.MaxInt, MaxClientHello: math.MaxInt, MaxCertificateChain: math.MaxInt, MaxCertificates: math.MaxInt}, func(t *testing.T, v *victim) {
		c := v.helloed(t)
		flight, err := c.LastFlight()
		require.NoError(t, err)
		c.Send(flight...)
		assert.True(t, c.Await(3*time.Second, func() bool { return c.Server.Finished }), "%+v", v.Stats())
	})
}

// TestDeadlineOfPSKCallbackIsFailure: it is not that of the handshake.
func TestDeadlineOfPSKCallbackIsFailure(t *testing.T) {
	t.Parallel()
	config := pskWith()
	config.PSK = nil
	synctest.Test(t, func(t *testing.T) {
		v := newVictim(t, config, dtlsserver.Config{PSK: func(ctx context.Context, r dtlsserver.PSKRequest) ([]byte, error) {
			return nil, context.DeadlineExceeded // of the database
		}})
		v.network.SetRoundTrip(roundTrip)
		c := v.helloed(t)
		flight, err := c.LastFlight()
		require.NoError(t, err)
		c.Send(flight...)
		c.ReadFor(2 * time.Second)
		s := v.Stats()
		assert.EqualValues(t, 1, s.UnknownPSKIdentity)
		assert.Zero(t, s.Failed, "%+v", s)
		assert.Zero(t, s.TimedOut)
	})
}

// TestServerNameIsOfTheHelloThatPionAnswers: pion chooses its certificate by that. It is the
// first ClientHello, or the one that has returned the server's cookie.
func TestServerNameIsOfTheHelloThatPionAnswers(t *testing.T) {
	t.Parallel()
	sni := func(name string) []byte {
		n := len(name)
		return append([]byte{0, 0, 0, byte(n + 5), 0, byte(n + 3), 0, 0, byte(n)}, name...)
	}
	config := pskWith()
	config.PSK = nil
	var got string
	synctest.Test(t, func(t *testing.T) {
		v := newVictim(t, config, dtlsserver.Config{PSK: func(ctx context.Context, r dtlsserver.PSKRequest) ([]byte, error) {
			got = r.ServerName
			return []byte("key"), nil
		}})
		c := v.client(t)
		c.Hello.Extensions = sni("a.example")
		c.SendHello()
		require.True(t, c.Await(dtlstest.Patience, func() bool { return c.Heard(record.MessageHelloVerifyRequest) }))
		c.Hello.Extensions = sni("b.example")
		c.SendHello()
		require.True(t, c.Await(dtlstest.Patience, func() bool { return c.Heard(record.MessageServerHelloDone) }))
		finishes(t, c)
		assert.Equal(t, map[bool]string{false: "a.example", true: "b.example"}[statelessCookie], got)
	})
}

// TestGuessedByteRepeatsNoFlight: a stranger can guess the last byte of a ClientHello.
func TestGuessedByteRepeatsNoFlight(t *testing.T) {
	t.Parallel()
	certificate := dtlstest.SelfSigned(t, dtlstest.ECDSA)
	attack(t, withCertificates(certificate, dtls.NoClientCert), dtlsserver.Config{}, func(t *testing.T, v *victim) {
		c := v.helloed(t)
		body := c.Hello.Body()
		h := record.Handshake{Type: record.MessageClientHello, Length: len(body), MessageSeq: 1, Offset: len(body) - 1, Body: body[len(body)-1:]}
		forged := dtlstest.Plaintext(record.TypeHandshake, 30, h.Append(nil)...)
		before := v.network.Counts(dtlstest.ToClient).SentBytes
		for range 5 {
			time.Sleep(110 * time.Millisecond)
			v.network.Inject(addrPort(c), v.addr(), forged)
		}
		time.Sleep(50 * time.Millisecond)
		sent := v.network.Counts(dtlstest.ToClient).SentBytes - before
		assert.Zero(t, sent)
		finishes(t, c)
	})
}

// TestFinishedBeforeCertificateVerify: the datagrams of a flight come out of order.
func TestFinishedBeforeCertificateVerify(t *testing.T) {
	t.Parallel()
	certificate := dtlstest.SelfSigned(t, dtlstest.ECDSA)
	attack(t, withCertificates(certificate, dtls.RequireAnyClientCert), dtlsserver.Config{}, func(t *testing.T, v *victim) {
		v.certificate = certificate
		c := v.helloed(t)
		flight, err := c.LastFlight()
		require.NoError(t, err)
		require.Len(t, flight, 5)
		c.Send(flight[:2]...)
		time.Sleep(20 * time.Millisecond)
		c.Send(flight[4])
		time.Sleep(20 * time.Millisecond)
		c.Send(flight[2:4]...)
		assert.True(t, c.Await(3*time.Second, func() bool { return c.Server.Finished }), "%+v", v.Stats())
	})
}

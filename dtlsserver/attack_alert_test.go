// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
)

// The tests of this file are about the alert that has a client begin anew, long after the
// listener was opened: who can have it sent, and how often a client gets it.

// fastRoundTrip is that of the clients of a listener that expects quick answers.
const fastRoundTrip = 100 * time.Millisecond

// forgedSecondHello is the second ClientHello after a forgedHello with the same random. Its
// cookie is made up.
func forgedSecondHello(random record.Random) []byte {
	const beyond = 200 // the sequence numbers that the client has got: an alert is no replay
	return dtlstest.ClientHello{
		Sequence: beyond, MessageSeq: 1, Random: random, Cookie: bytes.Repeat([]byte{9}, 20),
		Extensions: append(dtlstest.ExtendedMasterSecret(), dtlstest.CurveP256()...),
	}.Datagram()
}

// learnsFastRoundTrip has a client get in whose answers come fast.
func (v *victim) learnsFastRoundTrip(t *testing.T) {
	t.Helper()
	v.network.SetRoundTrip(fastRoundTrip)
	v.requireIn(t, &visitor{from: dtlstest.NthAddr(30, 1, 5684), limit: time.Minute})
}

// TestForgedSecondHelloHasNoAlertSent: a stranger forges both ClientHellos of a client that
// has a session. An alert in plaintext would end the session.
func TestForgedSecondHelloHasNoAlertSent(t *testing.T) {
	t.Parallel()
	attack(t, pskWith(), dtlsserver.Config{}, func(t *testing.T, v *victim) {
		time.Sleep(2 * dtlsserver.StaleCookieTime)
		c := v.visitor(t, false, time.Minute)
		v.requireIn(t, c)
		time.Sleep(time.Minute)
		v.network.Inject(c.from, v.addr(), forgedHello(numbered(7), true))
		time.Sleep(roundTrip)
		v.network.Inject(c.from, v.addr(), forgedSecondHello(numbered(7)))
		time.Sleep(2 * roundTrip)
		assert.Zero(t, v.Stats().ToldToRestart)
		assert.True(t, isHeard(c.client, 10*time.Second), "the client's session is gone")
	})
}

// TestForgedSecondHellosKeepNobodyOut: a stranger forges pairs of ClientHellos before and
// during the client's handshake.
func TestForgedSecondHellosKeepNobodyOut(t *testing.T) {
	t.Parallel()
	const before, interval = time.Second, 125 * time.Millisecond
	for _, roundTrip := range []time.Duration{roundTrip, time.Second} {
		for _, fast := range []bool{false, true} {
			t.Run(fmt.Sprintf("round trip %v, others are fast: %v", roundTrip, fast), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					v := newVictim(t, pskWith(), dtlsserver.Config{})
					time.Sleep(2 * dtlsserver.StaleCookieTime)
					if fast {
						v.learnsFastRoundTrip(t)
					}
					v.network.SetRoundTrip(roundTrip)
					c := v.visitor(t, false, 2*time.Minute)
					t.Cleanup(v.injects(interval, func(n int) (netip.AddrPort, []byte) {
						if n%2 == 0 {
							return c.from, forgedHello(numbered(n), true)
						}
						return c.from, forgedSecondHello(numbered(n - 1))
					}))
					time.Sleep(before)
					v.requireIn(t, c)
				})
			})
		}
	}
}

// TestForgedHelloKeepsNoSlowClientOut: a stranger sends one ClientHello at the start of a
// slow client. The other clients are fast. The copies of the client's second ClientHello come
// for longer than the listener has learned, and an alert for each would keep the client out.
func TestForgedHelloKeepsNoSlowClientOut(t *testing.T) {
	t.Parallel()
	for _, roundTrip := range []time.Duration{3 * time.Second, 6 * time.Second} {
		t.Run(roundTrip.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				v := newVictim(t, pskWith(), dtlsserver.Config{})
				v.learnsFastRoundTrip(t)
				time.Sleep(2 * dtlsserver.StaleCookieTime)
				v.network.SetRoundTrip(roundTrip)
				c := v.visitor(t, false, 2*time.Minute)
				v.network.Inject(c.from, v.addr(), forgedHello(numbered(0), true))
				time.Sleep(time.Millisecond) // the forged one is the first
				v.requireIn(t, c)
				assert.Equal(t, 2, c.handshakes)
				assert.EqualValues(t, 1, v.Stats().ToldToRestart)
			})
		})
	}
}

// TestFarClientThatRebootsGetsIn: nobody forges anything. A client far away loses its state
// after its first ClientHello, and begins anew from the same port.
func TestFarClientThatRebootsGetsIn(t *testing.T) {
	t.Parallel()
	for _, roundTrip := range []time.Duration{3 * time.Second, 6 * time.Second} {
		for _, fast := range []bool{false, true} {
			t.Run(fmt.Sprintf("round trip %v, others are fast: %v", roundTrip, fast), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					v := newVictim(t, pskWith(), dtlsserver.Config{})
					if fast {
						v.learnsFastRoundTrip(t)
					}
					time.Sleep(2 * dtlsserver.StaleCookieTime)
					v.network.SetRoundTrip(roundTrip)
					<-v.visits(v.visitor(t, false, roundTrip/2))
					v.requireIn(t, v.visitor(t, false, 2*time.Minute))
				})
			})
		}
	}
}

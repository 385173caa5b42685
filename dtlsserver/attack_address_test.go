// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The tests of this file forge first ClientHellos of a client's own address and port.

// forgedAt are times at which a ClientHello is forged, from when the client sends its
// first one, in milliseconds: before its handshake, at the moment, and until after its end.
var forgedAt = []time.Duration{-3000, -400, -200, -1, 0, 1, 50, 120, 200, 300, 301, 400, 500, 599, 700, 850, 1000, 1300}

// TestOneForgedHelloKeepsNobodyOut: one first ClientHello in the client's name. The client
// gets in. If its own ClientHello comes at the same time or a little later, the client
// returns the cookie of the forged one. It is told to begin anew at once, by one alert, and
// its next handshake succeeds.
func TestOneForgedHelloKeepsNobodyOut(t *testing.T) {
	t.Parallel()
	// An alert, after the two round trips to get it, costs no more than that.
	slowest := map[bool]time.Duration{false: 2*roundTrip + 4*roundTrip, true: 2*roundTrip + 2*roundTrip}
	if cookieInResumption {
		slowest[true] += roundTrip
	}
	for _, possible := range []bool{true, false} {
		for _, resumes := range []bool{false, true} {
			for _, at := range forgedAt {
				at *= time.Millisecond
				t.Run(fmt.Sprintf("suite possible %v, resumes %v, at %v", possible, resumes, at), func(t *testing.T) {
					t.Parallel()
					skipResuming(t, resumes)
					attack(t, pskWith(), dtlsserver.Config{Resumption: resumable(t)}, func(t *testing.T, v *victim) {
						c := v.visitor(t, resumes, dtlstest.Patience)
						before := v.Stats()
						time.AfterFunc(max(0, at), func() { v.network.Inject(c.from, v.addr(), forgedHello(dtlstest.RandomOf(7), possible)) })
						time.Sleep(max(0, -at))
						<-v.visits(c)
						t.Cleanup(c.leave)
						s := v.Stats()
						require.NotZero(t, c.took, "%+v", s)
						assert.LessOrEqual(t, c.took, slowest[resumes])
						told := s.ToldToRestart - before.ToldToRestart
						if told > 0 {
							t.Logf("in after %v: %d handshakes", c.took, c.handshakes)
						}
						assert.EqualValues(t, c.handshakes-1, told)
						assert.EqualValues(t, 1, s.Completed-before.Completed)
						assert.Equal(t, resumes, s.Resumed > before.Resumed)
						assert.Zero(t, s.Failed)
					})
				})
			}
		}
	}
}

// TestForgedHelloKeepsClientOfPionsListenerOut does the same to pion's own listener, where
// some clients never get in.
func TestForgedHelloKeepsClientOfPionsListenerOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := newVictim(t, pskWith(), dtlsserver.Config{})
		v.network.SetRoundTrip(roundTrip)
		server := pionListener(t, v.network, v.config)
		in, all := 0, 0
		for _, possible := range []bool{true, false} {
			for _, at := range forgedAt {
				from := dtlstest.NthAddr(10, all, 5684)
				to := server(all, from)
				all++
				at *= time.Millisecond
				time.AfterFunc(max(0, at), func() { v.network.Inject(from, to, forgedHello(dtlstest.RandomOf(7), possible)) })
				time.Sleep(max(0, -at))
				if client := <-dialing(v.network, from, to, v.config); client != nil {
					in++
					client.Kill()
				}
				time.Sleep(2 * time.Second)
			}
		}
		t.Logf("%d of %d clients of pion's listener get in", in, all)
		assert.Less(t, in, all)
	})
}

// TestFloodOfClientsOwnAddressKeepsNobodyOut: a stranger sends many first ClientHellos in a
// client's name, before and during its handshakes.
func TestFloodOfClientsOwnAddressKeepsNobodyOut(t *testing.T) {
	t.Parallel()
	for name, random := range map[string]func(n int) record.Random{
		"ever new randoms":    numbered,
		"one and the same":    func(int) record.Random { return numbered(1) },
		"two that alternate":  func(n int) record.Random { return numbered(n % 2) },
		"each one five times": func(n int) record.Random { return numbered(n / 5) },
	} {
		for _, flood := range []struct {
			perSecond int
			roundTrip time.Duration
		}{{20, 300 * time.Millisecond}, {40, 100 * time.Millisecond}, {20, time.Second}} {
			t.Run(fmt.Sprintf("%s, %d a second, round trip %v", name, flood.perSecond, flood.roundTrip), func(t *testing.T) {
				t.Parallel()
				const before, apart = 3 * time.Second, 137 * time.Millisecond
				clients := dtlstest.Scaled(20, 20)
				synctest.Test(t, func(t *testing.T) {
					v := newVictim(t, pskWith(), dtlsserver.Config{})
					v.network.SetRoundTrip(flood.roundTrip)
					var waiting []<-chan *visitor
					for n := range clients {
						c := &visitor{from: dtlstest.NthAddr(10, n<<8, 5684), limit: time.Minute}
						t.Cleanup(v.forges(flood.perSecond, func(int) netip.AddrPort { return c.from }, random))
						done := make(chan *visitor, 1)
						waiting = append(waiting, done)
						go func() {
							time.Sleep(before + time.Duration(n)*apart)
							done <- <-v.visits(c)
						}()
					}
					in, slowest, handshakes := everyone(t, waiting)
					s := v.Stats()
					t.Logf("%d in, the last one after %v; %d handshakes, %d told", in, slowest, handshakes, s.ToldToRestart)
					assert.Equal(t, clients, in)
					assert.EqualValues(t, clients, s.Completed)
				})
			})
		}
	}
}

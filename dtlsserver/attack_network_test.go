// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/stretchr/testify/assert"
)

// TestFloodOfClientsNetworkKeepsNobodyOut: a stranger sends first ClientHellos from random
// addresses of the clients' /24, before and during their handshakes, to a listener with many
// sessions or with few.
func TestFloodOfClientsNetworkKeepsNobodyOut(t *testing.T) {
	t.Parallel()
	for _, sessions := range []int{0, 100} {
		t.Run(fmt.Sprint(sessions, " sessions"), func(t *testing.T) {
			t.Parallel()
			const clients, perSecond = 20, 320
			synctest.Test(t, func(t *testing.T) {
				v := newVictim(t, pskWith(), dtlsserver.Config{Sessions: sessions})
				v.network.SetRoundTrip(roundTrip)
				r := rand.New(rand.NewPCG(1, 2))
				anyOfNetwork := func(int) netip.AddrPort { return dtlstest.NthAddr(10, r.IntN(256), uint16(10_000+r.IntN(50_000))) }
				t.Cleanup(v.forges(perSecond, anyOfNetwork, numbered))
				time.Sleep(10 * time.Second) // until the network has its share
				var waiting []<-chan *visitor
				for n := range clients {
					waiting = append(waiting, v.visits(&visitor{from: dtlstest.NthAddr(10, n, 5684), limit: 30 * time.Second}))
				}
				in, slowest, _ := everyone(t, waiting)
				s := v.Stats()
				t.Logf("%d in, the last one after %v; %d handshakes in progress", in, slowest, s.HalfOpen)
				assert.Equal(t, clients, in)
				assert.Equal(t, statelessCookie, s.SourceShare == 0, "the network had its share")
			})
		})
	}
}

// TestClientsOfOneNetworkResumeAtOnce: all are heard afterwards. A client is done with an
// abbreviated handshake before the server is, and would not notice that it was displaced.
func TestClientsOfOneNetworkResumeAtOnce(t *testing.T) {
	t.Parallel()
	skipResuming(t, true)
	const clients = 6
	for _, handshakes := range []int{0, 8} {
		t.Run(fmt.Sprint(handshakes, " handshakes"), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				v := newVictim(t, pskWith(), dtlsserver.Config{Sessions: 10, Handshakes: handshakes, Resumption: resumable(t)})
				var all []*visitor
				for n := range clients {
					all = append(all, v.returning(t, dtlstest.NthAddr(10, n, 5684), time.Minute))
				}
				v.network.SetRoundTrip(time.Second)
				time.Sleep(time.Minute)
				var waiting []<-chan *visitor
				for _, c := range all {
					waiting = append(waiting, v.visits(c))
				}
				in, slowest, begun := everyone(t, waiting)
				t.Logf("%d in, the last one after %v", in, slowest)
				assert.Equal(t, clients, in)
				assert.Equal(t, clients, begun, "handshakes")
				s := v.Stats()
				assert.EqualValues(t, clients, s.Resumed)
				assert.Zero(t, s.Displaced)
			})
		})
	}
}

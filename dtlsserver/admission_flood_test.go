// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"net/netip"
	"runtime"
	"testing"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The tests of this file measure the memory and the goroutines of the process, so they do
// not run in parallel with others.

// listenForFlood opens a listener on a network in memory that a flood cannot outrun:
// it waits for the listener's reader.
func listenForFlood(t *testing.T, cfg dtlsserver.Config) memory {
	t.Helper()
	network := dtlstest.NewNetwork(1)
	socket := network.Listen(netip.AddrPort{})
	socket.SetQueue(64, dtlstest.WaitWhenFull)
	return memory{listenOn(t, socket, psk(), cfg), network}
}

// TestSpoofedClientHellosTakeNoMemory sends each ClientHello from another address. The
// handshakes take no more memory than their bound allows, established sessions go on, and
// honest clients can connect.
func TestSpoofedClientHellosTakeNoMemory(t *testing.T) {
	const handshakes, rounds = 64, 20
	strangers := dtlstest.Scaled(10_000, 100_000)
	l := listenForFlood(t, dtlsserver.Config{Sessions: 100, Handshakes: handshakes})
	serve(t, l.Listener, echoHandler)
	client := func(n int) *dtlstest.Client { return l.dial(t, dtlstest.NthAddr(198, n, 5000)) }
	var clients []*dtlstest.Client
	for n := range 10 {
		clients = append(clients, client(n))
	}

	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc + m.StackInuse)
	}
	heapBefore, goroutinesBefore := heap(), runtime.NumGoroutine()
	most, goroutines := int64(0), 0
	for n := range strangers {
		l.sendHello(t, n)
		if n%(strangers/rounds) == 0 {
			dtlstest.Echo(t, clients[n%len(clients)], "still here")
			clients = append(clients, client(100+len(clients))) // an honest newcomer
			require.LessOrEqual(t, l.Stats().HalfOpen, handshakes)
			most, goroutines = max(most, heap()-heapBefore), max(goroutines, runtime.NumGoroutine()-goroutinesBefore)
		}
	}
	for _, c := range clients {
		dtlstest.Echo(t, c, "and in the end")
	}
	s := l.Stats()
	assert.Equal(t, len(clients), s.Established)
	assert.Zero(t, s.Evicted)
	assert.EqualValues(t, len(clients), s.Completed)
	assert.Equal(t, statelessCookie, s.Displaced == 0)
	assert.EqualValues(t, strangers+len(clients)-unvalidated(strangers+len(clients)), s.HelloVerifyRequests)
	// Each handshake in progress is some 35 KB of pion's and four goroutines. The clients are
	// in this process, too.
	assert.Less(t, most, int64((unvalidated(handshakes)+len(clients))*100<<10))
	assert.Less(t, goroutines, 5*unvalidated(handshakes)+10*len(clients)+50)
	t.Logf("%d strangers, at most %d KB and %d goroutines more, %d half-open, %d displaced", strangers, most>>10, goroutines, s.HalfOpen, s.Displaced)
}

// TestDisplacedHandshakesAreBounded: displaced handshakes take a while to end. The flood
// comes from ever new addresses, or from one address with ever new randoms. The listener's
// reader never waits for it. TestHandshakesThatDoNotEndAreBounded has handshakes that do
// not end at all.
func TestDisplacedHandshakesAreBounded(t *testing.T) {
	for name, oneAddress := range map[string]bool{"many addresses": false, "one address": true} {
		t.Run(name, func(t *testing.T) {
			const handshakes = 16
			before := runtime.NumGoroutine()
			l := listenInMemory(t, psk(), dtlsserver.Config{Handshakes: handshakes})
			flood := func(n int) {
				from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{byte(n), byte(n >> 8), byte(n >> 16), 1}), 5684)
				if oneAddress {
					from = dtlstest.NthAddr(1, 0, 5684)
				}
				l.occupyFrom(t, from, numbered(n))
			}
			const round = 1000
			most, sent := 0, 0
			enough := func() bool { return sent >= dtlstest.Scaled(10_000, 100_000) && l.Stats().Started >= 4 }
			for !enough() {
				for range round {
					flood(sent)
					sent++
					most = max(most, runtime.NumGoroutine()-before)
				}
				dtlstest.Eventually(t, func() bool {
					most = max(most, runtime.NumGoroutine()-before)
					s := l.Stats()
					return s.Started+s.NoRoom+s.AddressShare >= uint64(sent)
				}, "a round of the flood was read")
			}
			require.LessOrEqual(t, l.Stats().HalfOpen, handshakes)
			require.NoError(t, l.Close())
			// Five or six of each: pion's, those of its contexts, and the listener's own.
			assert.Less(t, most, 7*dtlsserver.MaxRunning(handshakes)+20)
			t.Logf("at most %d goroutines, %+v", most, l.Stats())
		})
	}
}

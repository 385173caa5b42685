// SPDX-License-Identifier: MIT

package interop

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
)

// regularly calls f with 0, 1, 2 and so on, rate times a second, until stop is called or the
// test ends. stop returns how many calls there were.
func regularly(t *testing.T, rate int, f func(n int)) (stop func() int) {
	stopped := make(chan struct{})
	calls := 0
	var wg sync.WaitGroup
	wg.Go(func() {
		ticker := time.NewTicker(time.Second / time.Duration(rate))
		defer ticker.Stop()
		for {
			f(calls)
			calls++
			select {
			case <-ticker.C:
			case <-stopped:
				return
			}
		}
	})
	stop = sync.OnceValue(func() int {
		close(stopped)
		wg.Wait()
		return calls
	})
	t.Cleanup(func() { stop() })
	return stop
}

// strangerHello sends the first ClientHello of the n-th stranger, who has a network (/24) of
// its own and returns no cookie.
func strangerHello(t *testing.T, server net.Addr, n int) {
	address := &net.UDPAddr{IP: net.IPv4(127, byte(1+n>>8), byte(n), 1)}
	socket, err := net.DialUDP("udp", address, server.(*net.UDPAddr))
	if !assert.NoError(t, err) {
		return
	}
	defer socket.Close()
	_, err = socket.Write(dtlstest.ClientHello{Random: randomHello(n)}.Datagram())
	assert.NoError(t, err)
}

// randomHello returns a random that is different for each n.
func randomHello(n int) record.Random {
	return record.Random{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n), 31: 1}
}

// needLoopbackNetwork skips the test, or fails it in CI, where 127.0.0.1 is the only address
// of the loopback interface.
func needLoopbackNetwork(t *testing.T) {
	t.Helper()
	socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 1, 2, 3)})
	if err == nil {
		_ = socket.Close()
		return
	}
	if dtlstest.InCI() {
		t.Fatal(err)
	}
	t.Skip(err)
}

// Sixty strangers a second begin handshakes that they do not go on with, while clients come
// over a network with a round trip of 0.3 s: first while the listener has room, then when a
// flood has taken all of it.
func TestTrickleOfStrangersOverSlowNetwork(t *testing.T) {
	withEachAdapter(t, testTrickleOfStrangersOverSlowNetwork)
}

func testTrickleOfStrangersOverSlowNetwork(t *testing.T, on adapter) {
	needLoopbackNetwork(t)
	const trickle, flood, visits, delay = 60, 1000, 6, 150 * time.Millisecond
	for name, strangers := range map[string]int{"room": 0, "flooded": 1200} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if strangers > 0 && dtlstest.RaceEnabled {
				// All clients are answered at one moment. The patience with them follows from
				// the fastest, and the server computes for so long then that others exceed it.
				t.Skip("the race detector makes the server too slow")
			}
			var programs []foreign
			for _, with := range slowClients {
				programs = append(programs, with.installed(t))
			}
			l := listen(t, on, dtlsserver.Config{Sessions: 100})
			before := 0
			if strangers > 0 {
				flooded := make(chan struct{}, 1)
				stop := regularly(t, flood, func(n int) {
					strangerHello(t, l.Addr(), n)
					if n == strangers {
						flooded <- struct{}{}
					}
				})
				dtlstest.Receive(t, flooded)
				before = stop()
				t.Logf("after the flood: %+v", l.Stats())
			}
			stop := regularly(t, trickle, func(n int) { strangerHello(t, l.Addr(), before+n) })
			var guests []guest
			for _, with := range programs {
				for range visits {
					relay := dtlstest.StartSlowRelay(t, l.Addr(), delay)
					guests = append(guests, guest{with, with.start(t, relay.Addr(), visit{psk: true})})
				}
			}
			requireAllIn(t, l, guests)
			t.Logf("%d strangers", before+stop())
		})
	}
}

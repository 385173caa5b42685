// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// timeToEcho returns how long it takes a client to get in and have a datagram echoed.
func (l memory) timeToEcho(t *testing.T) time.Duration {
	t.Helper()
	began := time.Now()
	client := l.dial(t, netip.AddrPort{})
	dtlstest.Echo(t, client, "hello")
	client.Kill()
	return time.Since(began)
}

// TestNobodyWaitsForAnothersAuthorization: while the calls for some clients hang or take long,
// others get in and echo as fast as without them, and Close waits for none of them.
func TestNobodyWaitsForAnothersAuthorization(t *testing.T) {
	t.Parallel()
	for _, identity := range []string{ignores, obeys, slow, denied} {
		t.Run(identity, func(t *testing.T) {
			t.Parallel()
			withAuthorize(t, dtlsserver.Config{}, func(t *testing.T, l memory, inFlight *atomic.Int32) {
				echoServer(t, l.Listener)
				alone := l.timeToEcho(t)
				var begun []<-chan error
				for range 20 {
					begun = append(begun, l.begin(device(identity, "", "key")))
				}
				if identity != denied {
					time.Sleep(time.Second)
					assert.EqualValues(t, 20, inFlight.Load())
				}
				for range 5 {
					assert.Equal(t, alone, l.timeToEcho(t))
				}
				began := time.Now()
				require.NoError(t, l.Close())
				assert.Less(t, time.Since(began), time.Second)
				l.WaitForGoroutines()
				s := requireSums(t, l.Listener)
				assert.Zero(t, s.HalfOpen)
				if identity == ignores || identity == obeys {
					assert.EqualValues(t, 20, s.Displaced)
				}
				for _, done := range begun {
					if err := <-done; identity != slow {
						assert.Error(t, err)
					}
				}
			})
		})
	}
}

// TestSlowlyAuthorizedClientGetsIn by the first flight that it gets, and nothing is sent again.
func TestSlowlyAuthorizedClientGetsIn(t *testing.T) {
	t.Parallel()
	withAuthorize(t, dtlsserver.Config{}, func(t *testing.T, l memory, _ *atomic.Int32) {
		began := time.Now()
		require.NoError(t, l.tryDial(device(slow, "", "key")))
		assert.Less(t, time.Since(began), slowness+2*time.Second)
		c, err := l.AcceptConn(t.Context())
		require.NoError(t, err)
		assert.Equal(t, slow, c.Value())
		assert.Zero(t, l.Stats().AuthorizeTimedOut)
	})
}

// TestHungAuthorizationsAreBounded by Config.Handshakes. While as many have not returned,
// further clients are refused at once, and established sessions go on.
func TestHungAuthorizationsAreBounded(t *testing.T) {
	t.Parallel()
	const handshakes = 3
	withAuthorize(t, dtlsserver.Config{Handshakes: handshakes, AuthorizeTimeout: time.Second}, func(t *testing.T, l memory, inFlight *atomic.Int32) {
		echoServer(t, l.Listener)
		client := l.dial(t, netip.AddrPort{})
		fast := l.timeToEcho(t)
		var most int32
		for range 3 {
			var hung []<-chan error
			for range handshakes {
				hung = append(hung, l.begin(device(ignores, "", "key")))
			}
			for _, done := range hung {
				assert.ErrorContains(t, <-done, "InternalError")
				most = max(most, inFlight.Load())
			}
		}
		assert.EqualValues(t, handshakes, most)
		assert.EqualValues(t, 3*handshakes, requireSums(t, l.Listener).AuthorizeTimedOut)
		began := time.Now()
		assert.ErrorContains(t, l.tryDial(device("device", "", "key")), "InternalError")
		assert.LessOrEqual(t, time.Since(began), fast, "at once")
		assert.EqualValues(t, handshakes, inFlight.Load())
		dtlstest.Echo(t, client, "still there")
	})
}

// TestRefusedNewcomerEvictsNobody, whoever refuses it.
func TestRefusedNewcomerEvictsNobody(t *testing.T) {
	t.Parallel()
	const sessions, timeout = 8, 20 * time.Second
	for name, test := range map[string]struct {
		identity string
		during   func(t *testing.T, l memory)
		count    func(dtlsserver.Stats) uint64
	}{
		"denied":    {denied, nil, func(s dtlsserver.Stats) uint64 { return s.Denied }},
		"timed out": {ignores, nil, func(s dtlsserver.Stats) uint64 { return s.AuthorizeTimedOut }},
		"displaced": {obeys, func(t *testing.T, l memory) {
			time.Sleep(timeout * 2 / 3)
			l.occupy(t, 1)
		}, func(s dtlsserver.Stats) uint64 { return s.Displaced }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := dtlsserver.Config{Sessions: sessions, Handshakes: 1, HandshakeTimeout: timeout, AuthorizeTimeout: timeout}
			withAuthorize(t, cfg, func(t *testing.T, l memory, inFlight *atomic.Int32) {
				echoServer(t, l.Listener)
				var clients []*dtlstest.Client
				for range sessions {
					clients = append(clients, l.dial(t, netip.AddrPort{}))
				}
				done := l.begin(dtlstest.WithTimeout(device(test.identity, "", "key"), time.Minute))
				if test.during != nil {
					time.Sleep(time.Second)
					require.EqualValues(t, 1, inFlight.Load())
					test.during(t, l)
					time.Sleep(time.Second)
					assert.Zero(t, inFlight.Load(), "its context has ended")
				}
				require.Error(t, <-done)
				s := requireSums(t, l.Listener)
				assert.EqualValues(t, 1, test.count(s))
				assert.Equal(t, sessions, s.Established)
				assert.Zero(t, s.Evicted+s.Refused)
				for i, client := range clients {
					dtlstest.Echo(t, client, fmt.Sprint("session ", i))
				}
			})
		})
	}
}

// TestAuthorizationEndsWithTheHandshake, by its time.
func TestAuthorizationEndsWithTheHandshake(t *testing.T) {
	t.Parallel()
	withAuthorize(t, dtlsserver.Config{HandshakeTimeout: 3 * time.Second, AuthorizeTimeout: time.Hour}, func(t *testing.T, l memory, inFlight *atomic.Int32) {
		done := l.begin(device(obeys, "", "key"))
		time.Sleep(2 * time.Second)
		assert.EqualValues(t, 1, inFlight.Load())
		time.Sleep(2 * time.Second)
		synctest.Wait()
		assert.Zero(t, inFlight.Load())
		assert.ErrorContains(t, <-done, "InternalError")
		s := requireSums(t, l.Listener)
		assert.EqualValues(t, 1, s.AuthorizeTimedOut)
		assert.Zero(t, s.TimedOut+s.Failed+s.Denied)
	})
}

// TestAuthorizeMayCallTheListener: no lock is held.
func TestAuthorizeMayCallTheListener(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var l memory
		cfg := dtlsserver.Config{Authorize: func(context.Context, *dtlsserver.AuthRequest) (any, error) {
			for range l.Sessions() {
			}
			return l.Stats(), l.Close()
		}}
		l = listenInMemory(t, psk(), cfg)
		require.Error(t, l.tryDial(dtlstest.WithTimeout(psk(), time.Second)))
		assert.EqualValues(t, 1, requireSums(t, l.Listener).Displaced)
	})
}

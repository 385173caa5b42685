// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestEndIdentityEndsItsSessions with and without the index.
func TestEndIdentityEndsItsSessions(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{0, 5} {
		for reason, want := range map[dtlsserver.Reason]error{dtlsserver.Withdrawn: dtlsserver.ErrWithdrawn, dtlsserver.ClosedByUs: net.ErrClosed} {
			t.Run(fmt.Sprint(limit, reason), func(t *testing.T) {
				t.Parallel()
				ended := map[*dtlsserver.Conn]dtlsserver.Reason{}
				cfg := dtlsserver.Config{SessionsPerIdentity: limit, OnEnd: func(c *dtlsserver.Conn, why dtlsserver.Reason) { ended[c] = why }}
				inBubble(t, cfg, func(t *testing.T, l memory) {
					a, sa := l.connectAs(t, netip.AddrPort{}, "one")
					_, sb := l.connectAs(t, netip.AddrPort{}, "one")
					_, other := l.connectAs(t, netip.AddrPort{}, "other")
					n, err := l.EndIdentity(t.Context(), "psk:one", reason)
					require.NoError(t, err)
					assert.Equal(t, 2, n)
					assert.Equal(t, map[*dtlsserver.Conn]dtlsserver.Reason{sa: reason, sb: reason}, ended)
					assert.Equal(t, []dtlsserver.Reason{reason, reason, 0}, endReasons(sa, sb, other))
					stats := l.Stats()
					assert.EqualValues(t, 2, stats.Withdrawn+stats.ClosedByUs)
					assert.Equal(t, 1, stats.Established)
					dtlstest.RequireEOF(t, a)
					_, err = sa.Read(nil)
					assert.ErrorIs(t, err, want)
					_, err = sa.Write(nil)
					assert.ErrorIs(t, err, want)
					assert.ErrorIs(t, err, net.ErrClosed)

					n, err = l.EndIdentity(t.Context(), "psk:one", reason)
					require.NoError(t, err)
					assert.Zero(t, n)
					// A handshake that begins later is none of its concern.
					_, again := l.connectAs(t, netip.AddrPort{}, "one")
					assert.Zero(t, again.EndReason())
				})
			})
		}
	}
}

func TestEndIdentityRefusesWrongCalls(t *testing.T) {
	t.Parallel()
	l := listen(t, psk(), dtlsserver.Config{})
	for _, reason := range []dtlsserver.Reason{0, dtlsserver.ClosedByPeer, dtlsserver.Evicted, dtlsserver.Detached, dtlsserver.IdentityReplaced, 99} {
		_, err := l.EndIdentity(t.Context(), "psk:one", reason)
		assert.ErrorContains(t, err, reason.String())
	}
	_, err := l.EndIdentity(t.Context(), "", dtlsserver.Withdrawn)
	assert.ErrorContains(t, err, "key is empty")
	require.NoError(t, l.Close())
	_, err = l.EndIdentity(t.Context(), "psk:one", dtlsserver.Withdrawn)
	assert.ErrorIs(t, err, net.ErrClosed)
}

// TestEndIdentityRefusesHandshakesInProgress whose credentials were checked before: its session
// ends before the user knows of it, and ends nobody else's.
func TestEndIdentityRefusesHandshakesInProgress(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{0, 1} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			t.Parallel()
			var asked chan string  // whom Config.PSK has an answer for
			var goOn chan struct{} // which it waits for before it returns
			var established []string
			cfg := dtlsserver.Config{Sessions: 1, SessionsPerIdentity: limit, OnEstablished: func(c *dtlsserver.Conn) {
				established = append(established, c.IdentityKey())
			}}
			keys := func(_ context.Context, r dtlsserver.PSKRequest) ([]byte, error) {
				asked <- string(r.Identity)
				<-goOn
				return []byte("key"), nil
			}
			inBubbleWithPSK(t, keys, cfg, func(t *testing.T, l memory) {
				asked, goOn = make(chan string, 10), make(chan struct{}, 10) // in the bubble
				goOn <- struct{}{}
				_, bystander := l.connectAs(t, netip.AddrPort{}, "bystander")
				<-asked
				var clients sync.WaitGroup
				clients.Go(func() { l.refusedAs(t, netip.AddrPort{}, "one") })
				require.Equal(t, "one", <-asked)
				n, err := l.EndIdentity(t.Context(), "psk:one", dtlsserver.Withdrawn)
				require.NoError(t, err)
				assert.Zero(t, n)
				goOn <- struct{}{}
				clients.Wait()
				stats := l.Stats()
				assert.EqualValues(t, 1, stats.Withdrawn)
				assert.EqualValues(t, 2, stats.Completed)
				assert.Zero(t, bystander.EndReason(), "the listener is full")
				assert.Equal(t, []string{"psk:bystander"}, established)

				// Another identity's handshake goes on, and one that begins later.
				clients.Go(func() { l.connectAs(t, netip.AddrPort{}, "two") })
				<-asked
				_, err = l.EndIdentity(t.Context(), "psk:one", dtlsserver.Withdrawn)
				assert.NoError(t, err)
				close(goOn)
				clients.Wait()
				l.connectAs(t, netip.AddrPort{}, "one")
				assert.Equal(t, []string{"psk:bystander", "psk:two", "psk:one"}, established)
			})
		})
	}
}

// TestEndIdentityRefusesSessionsThatAreAttached: their credentials were checked before.
func TestEndIdentityRefusesSessionsThatAreAttached(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		conns := sessionsOf(t, l, "one", "two")
		one, two := unmarshal(t, detach(t, conns[0])), unmarshal(t, detach(t, conns[1]))
		var other *dtlsserver.Listener
		ends := "psk:one"
		other = listenOn(t, l.network.Listen(elsewhere), withoutPSK(), dtlsserver.Config{PSK: func(context.Context, dtlsserver.PSKRequest) ([]byte, error) {
			if ends != "" {
				_, err := other.EndIdentity(context.Background(), ends, dtlsserver.Withdrawn)
				assert.NoError(t, err)
			}
			return []byte("key"), nil
		}})
		_, err := other.Attach(one)
		require.ErrorIs(t, err, dtlsserver.ErrStateRefused)
		assert.ErrorContains(t, err, "ended")
		_, err = other.Attach(two)
		require.NoError(t, err)
		assert.EqualValues(t, 1, other.Stats().Restored)
		ends = ""
		_, err = other.Attach(one)
		require.NoError(t, err, "its credentials are checked anew")
	})
}

// TestEndIdentityFindsSessionsInUse: without the index a walk through the table misses sessions
// that are used meanwhile.
func TestEndIdentityFindsSessionsInUse(t *testing.T) {
	t.Parallel()
	const sessions = 100
	network := dtlstest.NewNetwork(1)
	l := memory{listenOn(t, network.Listen(netip.AddrPort{}), psk(), dtlsserver.Config{}), network}
	var conns []*dtlsserver.Conn
	for range sessions {
		_, c := l.connectAs(t, netip.AddrPort{}, "one")
		conns = append(conns, c)
	}
	var users sync.WaitGroup
	var stop = make(chan struct{})
	for n := range 2 {
		users.Go(func() {
			for {
				for _, c := range conns[n*sessions/2 : (n+1)*sessions/2] {
					_, _ = c.Write([]byte("x"))
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	n, err := l.EndIdentity(t.Context(), "psk:one", dtlsserver.Withdrawn)
	close(stop)
	users.Wait()
	require.NoError(t, err)
	assert.Equal(t, sessions, n)
	assert.Zero(t, l.Stats().Established)
}

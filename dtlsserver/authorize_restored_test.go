// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"context"
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

// TestAttachAsksAuthorize before anybody is evicted. What is denied can be attached elsewhere.
func TestAttachAsksAuthorize(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		var inFlight atomic.Int32
		var asked requests
		verdict := authorizing(t, &inFlight)
		cfg := dtlsserver.Config{Sessions: 1, AuthorizeTimeout: time.Second}
		cfg.Authorize = func(ctx context.Context, r *dtlsserver.AuthRequest) (any, error) {
			asked.add(*r)
			return verdict(ctx, r)
		}
		var restored []any
		cfg.OnRestored = func(c *dtlsserver.Conn) { restored = append(restored, c.Value()) }
		other := memory{listenOn(t, l.network.Listen(elsewhere), psk(), cfg), l.network}
		other.connect(t)
		for identity, want := range map[string]error{denied: errDenied, obeys: context.DeadlineExceeded, ignores: context.DeadlineExceeded} {
			client, c := l.connectAs(t, netip.AddrPort{}, identity)
			c.SetValue("stays behind")
			state := unmarshal(t, detach(t, c))
			_, err := other.Attach(state)
			require.ErrorIs(t, err, dtlsserver.ErrStateDenied)
			require.ErrorIs(t, err, want)
			s := requireSums(t, other.Listener)
			assert.Equal(t, 1, s.Established)
			assert.Zero(t, s.Evicted+s.Restored+s.Denied+s.AuthorizeTimedOut, "it is no handshake")

			here, err := l.Attach(state)
			require.NoError(t, err)
			assert.Nil(t, here.Value())
			write(t, client, "still here")
			assert.Equal(t, "still here", read(t, here))
		}
		require.Len(t, asked.list(), 4)
		_, c := l.connectAs(t, netip.AddrPort{}, "device")
		taken, err := other.Attach(unmarshal(t, detach(t, c)))
		require.NoError(t, err)
		assert.Equal(t, "device", taken.Value())
		assert.Equal(t, []any{"device"}, restored)
		assert.Equal(t, dtlsserver.AuthRequest{
			Identity: c.Identity(), IdentityKey: c.IdentityKey(), Peer: c.Peer(), Restored: true,
		}, asked.list()[4])
		assert.EqualValues(t, 1, requireSums(t, other.Listener).Evicted)
	})
}

// TestRestoreAsksAuthorize for at most Config.Handshakes sessions at the same time. Denied
// sessions are counted, and their peers are told.
func TestRestoreAsksAuthorize(t *testing.T) {
	t.Parallel()
	const handshakes, each = 3, 7
	for identity, test := range map[string]struct {
		want   dtlsserver.RestoreStats
		within time.Duration
	}{
		denied:  {dtlsserver.RestoreStats{Sessions: each + 1, Restored: 1, Denied: each}, 0},
		obeys:   {dtlsserver.RestoreStats{Sessions: each + 1, Restored: 1, Denied: each}, each * time.Second},
		ignores: {dtlsserver.RestoreStats{Sessions: each + 1, Restored: 1, Denied: each}, time.Second},
		slow:    {dtlsserver.RestoreStats{Sessions: each + 1, Restored: each + 1}, each * slowness},
	} {
		t.Run(identity, func(t *testing.T) {
			t.Parallel()
			inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
				kept, _ := l.connect(t) // the first one that is asked for
				var clients []*dtlstest.Client
				for range each {
					client, _ := l.connectAs(t, netip.AddrPort{}, identity)
					clients = append(clients, client)
				}
				stream := save(t, l)
				var inFlight, most atomic.Int32
				verdict := authorizing(t, &inFlight)
				cfg := dtlsserver.Config{Handshakes: handshakes, AuthorizeTimeout: time.Second}
				if identity == slow {
					cfg.AuthorizeTimeout = time.Minute
				}
				cfg.Authorize = func(ctx context.Context, r *dtlsserver.AuthRequest) (any, error) {
					most.Store(max(most.Load(), inFlight.Load()+1))
					return verdict(ctx, r)
				}
				cfg, stats, failed := restoring(t, cfg, stream)
				began := time.Now()
				next := l.successor(t, cfg)
				require.NoError(t, *failed)
				assert.LessOrEqual(t, time.Since(began), test.within)
				assert.Equal(t, test.want, *stats)
				assert.LessOrEqual(t, most.Load(), int32(handshakes))
				c, err := next.AcceptConn(t.Context())
				require.NoError(t, err)
				assert.Equal(t, dtlstest.Identity, c.Value())
				requireSums(t, next.Listener)
				write(t, kept, "hello")
				assert.Equal(t, "hello", read(t, c))
				if test.want.Denied > 0 {
					for _, client := range clients {
						dtlstest.RequireEOF(t, client)
					}
				}
			})
		})
	}
}

// TestJournalAsksAuthorize for the sessions that go on after a crash. Those that are only to be
// closed are nobody's any more.
func TestJournalAsksAuthorize(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]dtlsserver.AfterCrash{"continue": dtlsserver.ContinueSessions, "close": dtlsserver.CloseSessions} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := dtlsserver.Config{Journal: journalIn(t.TempDir(), after)}
			inBubble(t, cfg, func(t *testing.T, l memory) {
				client, _ := l.connectAs(t, netip.AddrPort{}, denied)
				l.connect(t)
				flushed()
				l.Crash()
				var inFlight, asked atomic.Int32
				verdict := authorizing(t, &inFlight)
				cfg.Authorize = func(ctx context.Context, r *dtlsserver.AuthRequest) (any, error) {
					asked.Add(1)
					return verdict(ctx, r)
				}
				next := l.successor(t, cfg)
				if after == dtlsserver.CloseSessions {
					assert.Zero(t, asked.Load())
					assert.Equal(t, dtlsserver.RestoreStats{Sessions: 2, Restored: 2}, next.Recovered())
					return
				}
				assert.EqualValues(t, 2, asked.Load())
				assert.Equal(t, dtlsserver.RestoreStats{Sessions: 2, Restored: 1, Denied: 1}, next.Recovered())
				c, err := next.AcceptConn(t.Context())
				require.NoError(t, err)
				assert.Equal(t, dtlstest.Identity, c.Value())
				dtlstest.RequireEOF(t, client)
				synctest.Wait()
				requireSums(t, next.Listener)
			})
		})
	}
}

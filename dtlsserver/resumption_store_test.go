// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/resume"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// faultyBackend is a Memory with a fault that a test sets.
type faultyBackend struct {
	*resume.Memory
	get atomic.Pointer[getFault]
	put atomic.Pointer[putFault]
}

// getFault replaces what a Get has found.
type getFault func(ctx context.Context, value []byte, ok bool) ([]byte, bool, error)

// putFault comes before a Put. After an error nothing is stored.
type putFault func(ctx context.Context) error

func newFaultyBackend(t *testing.T) *faultyBackend {
	t.Helper()
	memory, err := resume.NewMemory(100)
	require.NoError(t, err)
	return &faultyBackend{Memory: memory}
}

func (b *faultyBackend) Get(ctx context.Context, id []byte) ([]byte, bool, error) {
	value, ok, err := b.Memory.Get(ctx, id)
	if fault := b.get.Load(); fault != nil && err == nil {
		return (*fault)(ctx, value, ok)
	}
	return value, ok, err
}

func (b *faultyBackend) Put(ctx context.Context, id, value []byte, ttl time.Duration) error {
	if fault := b.put.Load(); fault != nil {
		if err := (*fault)(ctx); err != nil {
			return err
		}
	}
	return b.Memory.Put(ctx, id, value, ttl)
}

// A store that fails, hangs or returns garbage costs a full handshake, and no more time
// than a lookup may take.
func TestFaultyStoreCostsFullHandshake(t *testing.T) {
	t.Parallel()
	const timeout = 300 * time.Millisecond
	for _, test := range []struct {
		name  string
		fault getFault
		cost  time.Duration
	}{
		{"an error", func(context.Context, []byte, bool) ([]byte, bool, error) {
			return nil, false, errors.New("down")
		}, 0},
		{"garbage", func(_ context.Context, _ []byte, ok bool) ([]byte, bool, error) {
			return []byte("garbage"), ok, nil
		}, 0},
		{"another scope", func(_ context.Context, value []byte, ok bool) ([]byte, bool, error) {
			s, err := resume.Unmarshal(value)
			if err != nil {
				return nil, false, err
			}
			s.Scope = strings.Repeat("0", len(s.Scope))
			value, err = s.Marshal()
			return value, ok, err
		}, 0},
		{"no answer", func(ctx context.Context, _ []byte, _ bool) ([]byte, bool, error) {
			<-ctx.Done()
			return nil, false, ctx.Err()
		}, timeout},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			withResumption(t, func(t *testing.T, r *resumption) {
				backend := newFaultyBackend(t)
				r.cfg.Resumption = newStore(t, resume.Config{Backend: backend, LookupTimeout: timeout})
				// Nothing is repeated, so all time is the store's.
				r.server.FlightInterval, r.client.FlightInterval = time.Hour, time.Hour
				var took [3]time.Duration
				for n := range took {
					if n == 2 {
						backend.get.Store(&test.fault)
					}
					l := listenInMemory(t, r.server, r.cfg)
					socket := l.network.Dial(netip.AddrPort{}, l.addr())
					begin := time.Now()
					c, err := dtlstest.Handshake(socket, r.client)
					require.NoError(t, err)
					took[n] = time.Since(begin)
					s, err := l.AcceptConn(t.Context())
					require.NoError(t, err)
					assert.Equal(t, n == 1, s.Resumed())
					go func() { _ = c.Close() }()
					require.NoError(t, l.Close())
				}
				assert.Equal(t, [3]time.Duration{0, 0, test.cost}, took)
				time.Sleep(2 * time.Hour) // until pion's goroutines have ended
			})
		})
	}
}

// ClientHellos with IDs of no session, from addresses that are all different, cause no
// more lookups at one time than the store allows, and honest clients get in.
func TestFloodOfSessionIDsIsBounded(t *testing.T) {
	t.Parallel()
	strangers := dtlstest.Scaled(10_000, 100_000)
	const handshakes, lookups, perSource, clients = 64, 8, 4, 20
	synctest.Test(t, func(t *testing.T) {
		backend := newFaultyBackend(t)
		var inFlight, most atomic.Int64
		slow := getFault(func(_ context.Context, value []byte, ok bool) ([]byte, bool, error) {
			n := inFlight.Add(1)
			defer inFlight.Add(-1)
			for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
			}
			time.Sleep(time.Millisecond) // the way to the backend and back
			return value, ok, nil
		})
		backend.get.Store(&slow)
		store := newStore(t, resume.Config{Backend: backend, Lookups: lookups, LookupsPerSource: perSource})
		l := listenInMemory(t, psk(), dtlsserver.Config{Sessions: 100, Handshakes: handshakes, Resumption: store})
		serve(t, l.Listener, func(c *dtlsserver.Conn, datagram []byte) { _, _ = c.Write(datagram) })

		var honest []*dtlstest.Client
		id := make([]byte, 32)
		for i := range strangers {
			id[1], id[2], id[3] = byte(i>>16), byte(i>>8), byte(i)
			spoofed := dtlstest.ClientHello{Random: dtlstest.RandomOf(3), SessionID: id}.Datagram()
			require.True(t, l.network.Inject(dtlstest.NthAddr(10, i, 5684), l.addr(), spoofed))
			// At 40 000 in a second a handshake is displaced after 1.6 ms, so a lookup that
			// is not refused has its time.
			time.Sleep(25 * time.Microsecond)
			if i%(strangers/clients) == 0 {
				client := psk()
				client.SessionStore = &dtlstest.ClientStore{}
				honest = append(honest, l.network.DialClient(t, dtlstest.NthAddr(198, 100+len(honest), 5000), l.addr(), client))
			}
		}
		for _, c := range honest {
			dtlstest.Echo(t, c, "and in the end")
		}
		dtlstest.Eventually(t, func() bool { return store.Stats().Lookups == 0 }, "lookups end")
		stats := store.Stats()
		assert.LessOrEqual(t, most.Load(), int64(lookups))
		assert.Equal(t, statelessCookie, stats.Misses == 0)
		assert.Equal(t, statelessCookie, stats.Refused == 0)
		assert.EqualValues(t, len(honest), l.Stats().Completed)
		assert.Equal(t, len(honest), backend.Len())
		t.Logf("%d strangers: at most %d lookups at one time, %d misses, %d refused", strangers, most.Load(), stats.Misses, stats.Refused)
	})
}

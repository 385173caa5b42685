// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// greedy bounds the total of the queues, and no queue by itself.
func greedy(total int) dtlsserver.Config {
	return dtlsserver.Config{QueueTotal: total, QueueBytes: 1 << 30, QueueDatagrams: 1 << 20}
}

// TestEmptyDatagramsHoldSmallBuffers: 64 of them hold 8 KB.
func TestEmptyDatagramsHoldSmallBuffers(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		client, s := l.connect(t)
		for range dtlsserver.DefaultQueueDatagrams {
			write(t, client, "")
		}
		synctest.Wait()
		require.Equal(t, dtlsserver.DefaultQueueDatagrams, s.Unread())
		assert.Equal(t, dtlsserver.DefaultQueueDatagrams*(64+dtlsserver.BufferOverhead), s.QueuedBytes())
	})
}

// TestEmptyDatagramsFillQueueBytes: what a datagram occupies counts, and not its content.
func TestEmptyDatagramsFillQueueBytes(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{QueueBytes: 1000, QueueDatagrams: 1 << 20}, func(t *testing.T, l memory) {
		client, s := l.connect(t)
		for range 100 {
			write(t, client, "")
		}
		synctest.Wait()
		assert.Equal(t, 1000/(64+dtlsserver.BufferOverhead), s.Unread())
		assert.LessOrEqual(t, s.QueuedBytes(), 1000)
	})
}

// TestFloodedSessionDoesNotLoseDatagramsOfOthers: one session is flooded beyond the total,
// before and while others get single datagrams.
func TestFloodedSessionDoesNotLoseDatagramsOfOthers(t *testing.T) {
	t.Parallel()
	inBubble(t, greedy(64<<10), func(t *testing.T, l memory) {
		flooder, flooded := l.connect(t)
		flood := func() {
			t.Helper()
			for range 100 {
				write(t, flooder, string(make([]byte, 900)))
			}
			synctest.Wait()
			assert.LessOrEqual(t, l.QueuedTotal(), int64(64<<10))
		}
		flood()
		require.Greater(t, flooded.Unread(), 50)
		var others []*dtlsserver.Conn
		for range 10 {
			client, s := l.connect(t)
			write(t, client, "a single datagram")
			synctest.Wait()
			require.Equal(t, 1, s.Unread())
			others = append(others, s)
		}
		flood()
		for _, s := range others {
			require.Equal(t, 1, s.Unread())
			assert.Equal(t, "a single datagram", read(t, s))
		}
		assert.EqualValues(t, 200-flooded.Unread(), l.Stats().QueueFull, "all that was dropped was the flooded session's")
	})
}

// TestNewcomerIsServedBesideGreedySessions: many sessions together have filled the total.
// They share it, and a newcomer's datagram gets in.
func TestNewcomerIsServedBesideGreedySessions(t *testing.T) {
	t.Parallel()
	inBubble(t, greedy(128<<10), func(t *testing.T, l memory) {
		const sessions = 16
		var clients []*dtlstest.Client
		var conns []*dtlsserver.Conn
		for range sessions {
			client, s := l.connect(t)
			clients, conns = append(clients, client), append(conns, s)
		}
		for range 30 {
			for _, client := range clients {
				write(t, client, string(make([]byte, 900)))
			}
		}
		synctest.Wait()
		before := l.Stats().QueueFull
		require.NotZero(t, before)
		least, most := 1<<20, 0
		for _, s := range conns {
			least, most = min(least, s.QueuedBytes()), max(most, s.QueuedBytes())
		}
		assert.LessOrEqual(t, most, 2*least)
		newcomer, s := l.connect(t)
		write(t, newcomer, string(make([]byte, 1200)))
		synctest.Wait()
		assert.Equal(t, 1, s.Unread())
		assert.Greater(t, l.Stats().QueueFull, before, "another session has lost a datagram, which is counted")
		assert.LessOrEqual(t, l.QueuedTotal(), int64(128<<10))
		assert.Len(t, read(t, s), 1200)
	})
}

// TestQueueTotalIsGivenBackAtTheEnd of a session, however it ends. What is left to read
// does not count any more.
func TestQueueTotalIsGivenBackAtTheEnd(t *testing.T) {
	t.Parallel()
	for name, c := range ends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, dtlsserver.Config{Sessions: 1, IdleTimeout: 10 * time.Minute}, func(t *testing.T, l memory) {
				client, s := l.connect(t)
				for range 20 {
					write(t, client, string(make([]byte, 900)))
				}
				synctest.Wait()
				require.Equal(t, int64(s.QueuedBytes()), l.QueuedTotal())
				require.Equal(t, 1, l.LongQueues())
				c.end(t, l, client, s)
				synctest.Wait()
				assert.Zero(t, l.QueuedTotal())
				assert.Zero(t, l.LongQueues())
				for range s.Unread() {
					read(t, s)
				}
				_ = s.Close()
				assert.Zero(t, l.QueuedTotal())
				assert.Zero(t, s.QueuedBytes())
			})
		})
	}
}

// TestQueueTotalIsGivenBackByRead and by the workers of Serve.
func TestQueueTotalIsGivenBackByRead(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		client, s := l.connect(t)
		write(t, client, "x", string(make([]byte, 5000)))
		synctest.Wait()
		require.Equal(t, int64(s.QueuedBytes()), l.QueuedTotal())
		require.Equal(t, 1, l.LongQueues())
		read(t, s)
		read(t, s)
		assert.Zero(t, l.QueuedTotal())
		assert.Zero(t, l.LongQueues())
	})
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		write(t, l.dial(t, netip.AddrPort{}), "y", string(make([]byte, 5000)))
		synctest.Wait()
		assert.NotZero(t, l.QueuedTotal())
		serve(t, l.Listener, func(*dtlsserver.Conn, []byte) {})
		synctest.Wait()
		assert.Zero(t, l.QueuedTotal())
	})
}

// TestEndedSessionsCountUntilHandled: sessions that come, send and go while the handlers
// of Serve are slow keep their part of the total until the handlers, or the end of Serve,
// let them go.
func TestEndedSessionsCountUntilHandled(t *testing.T) {
	t.Parallel()
	for name, closeDetached := range map[string]func(t *testing.T, l memory, resumeServing chan struct{}){
		"handled": func(_ *testing.T, _ memory, resumeServing chan struct{}) { close(resumeServing) },
		"closed": func(t *testing.T, l memory, resumeServing chan struct{}) {
			require.NoError(t, l.Close())
			assert.LessOrEqual(t, l.QueuedTotal(), int64(9*(512+dtlsserver.BufferOverhead)), "the session with the worker")
			close(resumeServing)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := greedy(16 << 10)
			cfg.Workers = 1
			inBubble(t, cfg, func(t *testing.T, l memory) {
				resumeServing := make(chan struct{})
				serve(t, l.Listener, func(*dtlsserver.Conn, []byte) { <-resumeServing })
				for range 10 {
					client := l.dial(t, netip.AddrPort{})
					for range 10 {
						write(t, client, string(make([]byte, 400)))
					}
					require.NoError(t, client.Close())
					synctest.Wait()
				}
				require.Zero(t, l.Stats().Established)
				assert.Greater(t, l.QueuedTotal(), int64(8<<10))
				assert.LessOrEqual(t, l.QueuedTotal(), int64(16<<10))
				closeDetached(t, l, resumeServing)
				synctest.Wait()
				assert.Zero(t, l.QueuedTotal())
				assert.Zero(t, l.LongQueues())
			})
		})
	}
}

// TestQueueTotalIsZeroAfterStress has sessions flooded, read or handled, closed and
// replaced by several goroutines while the total is exceeded all the time.
func TestQueueTotalIsZeroAfterStress(t *testing.T) {
	t.Parallel()
	for name, serving := range map[string]bool{"Read": false, "Serve": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const clients, total = 12, 16 << 10
			cfg := greedy(total)
			cfg.Workers = 3
			l := listenInMemory(t, psk(), cfg)
			ctx, stop := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer stop()
			handle := func(s *dtlsserver.Conn) {
				if rand.IntN(200) == 0 {
					_ = s.Close()
				}
			}
			var group sync.WaitGroup
			if serving {
				group.Go(func() {
					_ = l.Serve(context.Background(), func(s *dtlsserver.Conn, _ []byte) { handle(s) })
				})
			} else {
				group.Go(func() {
					for s, err := l.AcceptConn(ctx); err == nil; s, err = l.AcceptConn(ctx) {
						group.Go(func() {
							for _, err := s.Read(make([]byte, 2048)); err == nil; _, err = s.Read(make([]byte, 2048)) {
								handle(s)
							}
						})
					}
				})
			}
			var floods sync.WaitGroup
			for range clients {
				floods.Go(func() {
					for ctx.Err() == nil {
						l.flood(t, ctx, total)
					}
				})
			}
			floods.Wait()
			require.NoError(t, l.Close())
			group.Wait()
			assert.Zero(t, l.QueuedTotal())
			assert.Zero(t, l.LongQueues())
		})
	}
}

// flood has a client connect and send, past the socket, until its session or ctx ends.
func (l memory) flood(t *testing.T, ctx context.Context, total int64) {
	client, err := dtlstest.Handshake(l.network.Dial(netip.AddrPort{}, l.addr()), psk())
	if err != nil {
		return
	}
	defer client.Kill()
	records, err := dtlstest.ClientRecords(client.Conn, 1000)
	if !assert.NoError(t, err) {
		return
	}
	from := dtlstest.AddrPort(client.Addr())
	var s *dtlsserver.Conn
	for ctx.Err() == nil && s == nil {
		for c := range l.Sessions() {
			if c.Peer() == from {
				s = c
			}
		}
	}
	for ctx.Err() == nil && s.EndReason() == 0 {
		sealed, err := records.Seal(nil, record.TypeApplicationData, make([]byte, rand.IntN(1500)))
		if !assert.NoError(t, err) {
			return
		}
		s.ReceiveFromPeer(sealed, time.Now())
		// Each of the goroutines may have put in one datagram that it has not made room for.
		assert.LessOrEqual(t, l.QueuedTotal(), total+16*(2048+dtlsserver.BufferOverhead))
	}
}

// TestDataBeforeTheSessionKeepQueueTotal: what was held during a handshake is queued when
// the session is established, at the expense of the longest queue.
func TestDataBeforeTheSessionKeepQueueTotal(t *testing.T) {
	t.Parallel()
	withEarlyClients(t, greedy(32<<10), func(t *testing.T, l memory, dial func() *dtlstest.Client) {
		flooder, flooded := l.connect(t)
		for range 100 {
			write(t, flooder, "small")
		}
		for range 100 {
			write(t, flooder, string(make([]byte, 900)))
		}
		synctest.Wait()
		require.Greater(t, l.QueuedTotal(), int64(31<<10))
		write(t, dial(), string(make([]byte, 1400)))
		synctest.Wait()
		require.Equal(t, 1, l.Stats().HalfOpen)
		before := flooded.Unread()
		s, err := l.AcceptConn(t.Context())
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, 1, s.Unread())
		assert.Less(t, flooded.Unread(), before)
		assert.LessOrEqual(t, l.QueuedTotal(), int64(32<<10))
	})
}

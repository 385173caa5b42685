// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// gauge counts what runs at the same time.
type gauge struct {
	mu            sync.Mutex
	running, most int
}

func (g *gauge) enter() (leave func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running++
	g.most = max(g.most, g.running)
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.running--
	}
}

func echoHandler(c *dtlsserver.Conn, datagram []byte) { _, _ = c.Write(datagram) }

// TestServeHandlesWhatWasReceivedBefore: sessions that were established before Serve was
// called are served, with what waited for it.
func TestServeHandlesWhatWasReceivedBefore(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		client := l.dial(t, netip.AddrPort{})
		write(t, client, "early", "and more")
		synctest.Wait()
		require.Equal(t, 1, l.Stats().Established)
		serve(t, l.Listener, echoHandler)
		dtlstest.Expect(t, client, "early")
		dtlstest.Expect(t, client, "and more")
		dtlstest.Echo(t, client, "late")
		_, err := l.Accept()
		assert.ErrorIs(t, err, dtlsserver.ErrServing)
		assert.ErrorIs(t, l.Serve(t.Context(), nil), dtlsserver.ErrServing)
	})
}

// TestSlowHandlerHoldsUpItsOwnSession only. Its datagrams are handled in order, except
// those that do not fit into its queue.
func TestSlowHandlerHoldsUpItsOwnSession(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{Workers: 2}, func(t *testing.T, l memory) {
		block := make(chan struct{})
		var all gauge
		serve(t, l.Listener, func(c *dtlsserver.Conn, datagram []byte) {
			defer all.enter()()
			switch string(datagram) {
			case "block":
				<-block
			case "close":
				assert.NoError(t, c.Close())
				return
			}
			_, err := c.Write(datagram)
			assert.NoError(t, err)
		})
		slow, quick := l.dial(t, netip.AddrPort{}), l.dial(t, netip.AddrPort{})
		write(t, slow, "block")
		for n := range 100 {
			write(t, slow, fmt.Sprint(n))
			dtlstest.Echo(t, quick, fmt.Sprint(n))
		}
		synctest.Wait()
		assert.Equal(t, 2, all.most)
		assert.EqualValues(t, 100-dtlsserver.DefaultQueueDatagrams, l.Stats().QueueFull)
		close(block)
		dtlstest.Expect(t, slow, "block")
		for want := range dtlsserver.DefaultQueueDatagrams {
			dtlstest.Expect(t, slow, fmt.Sprint(want))
		}
		write(t, quick, "close")
		dtlstest.RequireEOF(t, quick)
	})
}

// TestHandlerRunsOncePerSession: for one session one datagram is handled at a time, on
// whatever worker, and no more workers run than Config.Workers.
func TestHandlerRunsOncePerSession(t *testing.T) {
	t.Parallel()
	const workers, sessions, each = 4, 8, 50
	inBubble(t, dtlsserver.Config{Workers: workers}, func(t *testing.T, l memory) {
		var all gauge
		var total atomic.Int32
		serve(t, l.Listener, func(c *dtlsserver.Conn, datagram []byte) {
			defer all.enter()()
			defer c.Value().(*gauge).enter()()
			time.Sleep(time.Millisecond)
			total.Add(1)
		})
		var clients []*dtlstest.Client
		for range sessions {
			clients = append(clients, l.dial(t, netip.AddrPort{}))
		}
		synctest.Wait()
		for c := range l.Sessions() {
			c.SetValue(new(gauge))
		}
		for range each {
			for _, client := range clients {
				write(t, client, "x")
			}
		}
		begin := time.Now()
		dtlstest.Eventually(t, func() bool { return total.Load() == sessions*each }, "all are handled")
		assert.Equal(t, workers, all.most)
		for c := range l.Sessions() {
			assert.Equal(t, 1, c.Value().(*gauge).most)
		}
		assert.Equal(t, workers, l.Workers())
		assert.InDelta(t, sessions*each/workers, time.Since(begin).Milliseconds(), 5, "no worker idles")
		assert.Zero(t, l.Stats().QueueFull)
	})
}

// TestWorkersTakeTurns: a session with much to handle does not keep another one waiting
// for all of it.
func TestWorkersTakeTurns(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{Workers: 1}, func(t *testing.T, l memory) {
		resumeServing := make(chan struct{})
		var order []string
		serve(t, l.Listener, func(_ *dtlsserver.Conn, datagram []byte) {
			<-resumeServing
			order = append(order, string(datagram))
		})
		busy, modest := l.dial(t, netip.AddrPort{}), l.dial(t, netip.AddrPort{})
		for range 40 {
			write(t, busy, "busy")
		}
		write(t, modest, "modest")
		synctest.Wait()
		close(resumeServing)
		synctest.Wait()
		require.Len(t, order, 41)
		for n, who := range order {
			if who == "modest" {
				assert.LessOrEqual(t, n, 16)
			}
		}
	})
}

// TestServeEndsWithItsContext does not close the listener.
func TestServeEndsWithItsContext(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		begin := time.Now()
		assert.ErrorIs(t, l.Serve(ctx, echoHandler), context.DeadlineExceeded)
		assert.Equal(t, time.Minute, time.Since(begin))
		client := l.dial(t, netip.AddrPort{})
		synctest.Wait()
		assert.Equal(t, 1, l.Stats().Established)
		require.NoError(t, l.Close())
		dtlstest.RequireEOF(t, client)
		assert.ErrorIs(t, l.Serve(t.Context(), echoHandler), net.ErrClosed)
	})
}

// TestHandlerCanCloseItsSession while more was received for it: nothing more is handled,
// and no worker goes on looking for it.
func TestHandlerCanCloseItsSession(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{Workers: 1}, func(t *testing.T, l memory) {
		var calls atomic.Int32
		resumeServing := make(chan struct{})
		serve(t, l.Listener, func(c *dtlsserver.Conn, _ []byte) {
			if calls.Add(1) == 1 {
				<-resumeServing
				assert.NoError(t, c.Close())
			}
		})
		client := l.dial(t, netip.AddrPort{})
		write(t, client, "1", "2", "3", "4", "5")
		synctest.Wait()
		require.EqualValues(t, 1, calls.Load())
		close(resumeServing)
		synctest.Wait()
		require.EqualValues(t, 1, l.Stats().ClosedByUs)
		require.NoError(t, l.DrainQueue(t.Context()))
		assert.EqualValues(t, 1, calls.Load())
	})
}

// TestHandlerCanCloseTheListener calls Close and Shutdown from a handler.
func TestHandlerCanCloseTheListener(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(l *dtlsserver.Listener) error{
		"close": func(l *dtlsserver.Listener) error { return l.Close() },
		"shutdown": func(l *dtlsserver.Listener) error {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			if err := l.Shutdown(ctx); err != context.DeadlineExceeded { // it waits for this handler
				return fmt.Errorf("Shutdown: %w", err)
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
				served := make(chan error, 1)
				go func() {
					served <- l.Serve(context.Background(), func(c *dtlsserver.Conn, _ []byte) { assert.NoError(t, end(c.Listener())) })
				}()
				client := l.dial(t, netip.AddrPort{})
				write(t, client, "x")
				assert.ErrorIs(t, <-served, net.ErrClosed)
				dtlstest.RequireEOF(t, client)
			})
		})
	}
}

// TestNoHandlerRunsAfterServe ends Serve in each way while a handler runs and more was
// received: no other handler is called, and Serve waits for that one. Only Shutdown has
// all handled that came before the session was closed.
func TestNoHandlerRunsAfterServe(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"cancel", "close", "shutdown"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			inBubble(t, dtlsserver.Config{Workers: 1}, func(t *testing.T, l memory) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				var calls atomic.Int32
				resumeServing, served, down := make(chan struct{}), make(chan error, 1), make(chan error, 1)
				go func() {
					served <- l.Serve(ctx, func(*dtlsserver.Conn, []byte) {
						if calls.Add(1) == 1 {
							<-resumeServing
						}
					})
				}()
				client := l.dial(t, netip.AddrPort{})
				for range 12 {
					write(t, client, "x")
				}
				synctest.Wait()
				require.EqualValues(t, 1, calls.Load())
				want := 1
				switch how {
				case "cancel":
					cancel()
				case "close":
					require.NoError(t, l.Close())
				case "shutdown":
					require.NoError(t, client.Close())
					go func() { down <- l.Shutdown(context.Background()) }()
					want = 12
				}
				synctest.Wait()
				select {
				case <-served:
					require.FailNow(t, "Serve does not wait for the handler")
				case <-down:
					require.FailNow(t, "Shutdown does not wait for the handler")
				default:
				}
				if how == "shutdown" {
					require.EqualValues(t, 1, l.Stats().ClosedByPeer)
				} else {
					require.True(t, l.HandlersStopped())
				}
				close(resumeServing)
				err := <-served
				if how == "cancel" {
					assert.ErrorIs(t, err, context.Canceled)
				} else {
					assert.ErrorIs(t, err, net.ErrClosed)
				}
				if how == "shutdown" {
					assert.NoError(t, <-down)
				}
				assert.EqualValues(t, want, calls.Load())
			})
		})
	}
}

// TestHandlerGetsWhatWasReceivedBeforeTheEnd, after OnEnd, unless Conn.Close has dropped
// it.
func TestHandlerGetsWhatWasReceivedBeforeTheEnd(t *testing.T) {
	t.Parallel()
	for _, byUs := range []bool{false, true} {
		t.Run(fmt.Sprintf("Close was called %t", byUs), func(t *testing.T) {
			t.Parallel()
			var told []string // a handler and a hook, never both
			inBubble(t, dtlsserver.Config{Workers: 1, OnEnd: func(_ *dtlsserver.Conn, why dtlsserver.Reason) {
				told = append(told, why.String())
			}}, func(t *testing.T, l memory) {
				resumeServing := make(chan struct{})
				serve(t, l.Listener, func(_ *dtlsserver.Conn, datagram []byte) {
					<-resumeServing
					told = append(told, string(datagram))
				})
				client := l.dial(t, netip.AddrPort{})
				write(t, client, "1", "2")
				synctest.Wait()
				if byUs {
					for c := range l.Sessions() {
						require.NoError(t, c.Close())
					}
				} else {
					require.NoError(t, client.Close())
				}
				synctest.Wait()
				close(resumeServing)
				synctest.Wait()
				if byUs {
					assert.Equal(t, []string{"closed_by_us", "1"}, told, "the handler had this one already")
				} else {
					assert.Equal(t, []string{"closed_by_peer", "1", "2"}, told)
				}
			})
		})
	}
}

// TestHandlersOfSessionsGoOnWhileOneEnds: what Serve keeps of a session is gone with it.
func TestHandlersOfSessionsGoOnWhileOneEnds(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{Workers: 1, Sessions: 2}, func(t *testing.T, l memory) {
		serve(t, l.Listener, echoHandler)
		stays := l.dial(t, netip.AddrPort{})
		for range 10 {
			client := l.dial(t, netip.AddrPort{})
			dtlstest.Echo(t, client, "x")
			dtlstest.Echo(t, stays, "y")
			require.NoError(t, client.Close())
		}
		synctest.Wait()
		assert.EqualValues(t, 10, l.Stats().ClosedByPeer)
		for c := range l.Sessions() {
			assert.Equal(t, dsm.StateEstablished, c.State())
		}
	})
}

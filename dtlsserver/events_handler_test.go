// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"context"
	"log/slog"
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

// logHandler is a slog.Handler that calls functions.
type logHandler struct {
	enabled func(slog.Level) bool
	handle  func(slog.Record)
}

func (h *logHandler) Enabled(_ context.Context, level slog.Level) bool { return h.enabled(level) }
func (h *logHandler) Handle(_ context.Context, r slog.Record) error    { h.handle(r); return nil }
func (h *logHandler) WithAttrs([]slog.Attr) slog.Handler               { return h }
func (h *logHandler) WithGroup(string) slog.Handler                    { return h }

func atInfo(level slog.Level) bool { return level >= slog.LevelInfo }

// TestHangingLogDoesNotStopTheClock: sessions expire while the log's handler waits for something,
// and what waits for the log is bounded.
func TestHangingLogDoesNotStopTheClock(t *testing.T) {
	t.Parallel()
	var released chan struct{}
	handler := &logHandler{atInfo, func(r slog.Record) {
		if r.Message == "ClientHello refused" {
			<-released
		}
	}}
	synctest.Test(t, func(t *testing.T) {
		released = make(chan struct{})
		cfg := dtlsserver.Config{Sessions: 1, WhenFull: dtlsserver.RefuseNewcomer, IdleTimeout: time.Hour, Logger: slog.New(handler)}
		l := listenInMemory(t, psk(), cfg)
		defer close(released)
		_, c := l.connect(t)
		for time.Since(c.LastUsed()) < 50*time.Minute {
			for n := range 100 {
				l.occupyFrom(t, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(n), 1}), 5684), dtlstest.RandomOf(byte(n)))
			}
			time.Sleep(20 * time.Second)
		}
		assert.Equal(t, dtlsserver.MaxWaitingEvents, l.WaitingEvents())
		assert.Zero(t, c.EndReason())
		time.Sleep(20 * time.Minute)
		assert.Equal(t, dtlsserver.Expired, c.EndReason())
	})
}

// TestLogHandlerMayCallListener also in Enabled.
func TestLogHandlerMayCallListener(t *testing.T) {
	t.Parallel()
	inBubbleWithLog(t, func(t *testing.T, l memory, listener *atomic.Pointer[dtlsserver.Listener]) {
		client, c := l.connect(t)
		listener.Store(l.Listener)
		write(t, client, "1", "2") // the second finds no room in the queue
		synctest.Wait()
		assert.EqualValues(t, 1, l.Stats().QueueFull)
		require.Equal(t, "1", read(t, c))
	})
}

func inBubbleWithLog(t *testing.T, test func(*testing.T, memory, *atomic.Pointer[dtlsserver.Listener])) {
	t.Helper()
	var listener atomic.Pointer[dtlsserver.Listener]
	call := func() {
		if l := listener.Load(); l != nil {
			_ = l.Stats()
			_ = l.Refusals()
			for c := range l.Sessions() {
				_ = c.Peer()
			}
		}
	}
	handler := &logHandler{func(slog.Level) bool { call(); return true }, func(slog.Record) { call() }}
	inBubble(t, dtlsserver.Config{QueueDatagrams: 1, Logger: slog.New(handler)}, func(t *testing.T, l memory) { test(t, l, &listener) })
}

// TestLeftOutOfRefusals: what is left out is told also if the clock has written it to the log.
func TestLeftOutOfRefusals(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{Sessions: 1, WhenFull: dtlsserver.RefuseNewcomer}, func(t *testing.T, l memory) {
		l.connect(t)
		refuse := func(n int) {
			for n := range n {
				l.occupy(t, n+1)
			}
			synctest.Wait()
		}
		refuse(100)
		time.Sleep(time.Minute)
		refuse(1)
		time.Sleep(time.Minute)
		told := uint64(0)
		for _, r := range l.Refusals() {
			assert.Equal(t, "sessions_full", r.Word)
			told += 1 + r.LeftOut
		}
		assert.Equal(t, l.Stats().SessionsFull, told)
	})
}

// TestRefusalByAcceptsQueueIsARefusal.
func TestRefusalByAcceptsQueueIsARefusal(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{AcceptQueue: 1}, func(t *testing.T, l memory) {
		l.dial(t, netip.AddrPort{})
		l.dialRefused(t)
		synctest.Wait()
		require.EqualValues(t, 1, l.Stats().Refused)
		require.Len(t, l.Refusals(), 1)
		r := l.Refusals()[0]
		assert.Equal(t, dtlsserver.SessionEnd, r.Kind)
		assert.Equal(t, "refused", r.Word)
	})
}

// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// hookLog is what the hooks of a listener were told, as lines of text.
type hookLog struct {
	mu    sync.Mutex
	lines []string
}

func (h *hookLog) add(what string, c *dtlsserver.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lines = append(h.lines, what+" "+c.Peer().String())
}

// of returns the lines about one peer, in order.
func (h *hookLog) of(peer netip.AddrPort) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var lines []string
	for _, line := range h.lines {
		if what, found := strings.CutSuffix(line, " "+peer.String()); found {
			lines = append(lines, what)
		}
	}
	return lines
}

// TestHooksAreCalledOnceInOrder has hooks that call methods of the Conn and close it.
func TestHooksAreCalledOnceInOrder(t *testing.T) {
	t.Parallel()
	var told hookLog
	inBubble(t, dtlsserver.Config{
		Sessions: 1,
		OnEstablished: func(c *dtlsserver.Conn) {
			told.add("established", c)
			assert.Equal(t, dsm.StateEstablished, c.State())
			c.Slot()
			c.Listener().Stats()
			for range c.Listener().Sessions() {
			}
		},
		OnEnd: func(c *dtlsserver.Conn, why dtlsserver.Reason) {
			told.add(why.String(), c)
			assert.Equal(t, why, c.EndReason())
			c.Listener().Stats()
			_ = c.Close()
		},
	}, func(t *testing.T, l memory) {
		conns := echoServer(t, l.Listener)
		a := l.dial(t, netip.AddrPort{})
		dtlstest.Echo(t, a, "a")
		b := l.dial(t, netip.AddrPort{})
		dtlstest.Echo(t, b, "b")
		first, second := <-conns, <-conns
		synctest.Wait()
		require.NoError(t, second.Close())
		assert.Equal(t, []string{"established", "evicted"}, told.of(first.Peer()))
		assert.Equal(t, []string{"established", "closed_by_us"}, told.of(second.Peer()))
		assert.Len(t, told.lines, 4)
	})
}

// TestOnEstablishedCanCloseTheSession: OnEnd is called then, after OnEstablished has
// returned, and Accept does not return the session.
func TestOnEstablishedCanCloseTheSession(t *testing.T) {
	t.Parallel()
	var told hookLog
	inBubble(t, dtlsserver.Config{
		OnEstablished: func(c *dtlsserver.Conn) { assert.NoError(t, c.Close()); told.add("established", c) },
		OnEnd:         func(c *dtlsserver.Conn, why dtlsserver.Reason) { told.add(why.String(), c) },
	}, func(t *testing.T, l memory) {
		l.dialRefused(t)
		synctest.Wait()
		assert.EqualValues(t, 1, l.Stats().ClosedByUs)
		assert.Zero(t, l.Stats().Established)
		peer := netip.MustParseAddrPort(strings.TrimPrefix(told.lines[0], "established "))
		assert.Equal(t, []string{"established", "closed_by_us"}, told.of(peer))
	})
}

// TestSessionThatEndsLeavesItsSlotToItsHandshake: the slot stays the peer's, half-open.
func TestSessionThatEndsLeavesItsSlotToItsHandshake(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		client, s := l.connect(t)
		client.Send(t, opening(l.Listener, s.Peer(), dtlstest.RandomOf(1)))
		synctest.Wait()
		require.Equal(t, 1, l.Stats().HalfOpen)
		require.NoError(t, s.Close())
		assert.Equal(t, 1, l.Stats().HalfOpen)
		held, state := l.Table().Get(l.Sock(), s.Peer())
		assert.Equal(t, dsm.StateHandshake, state)
		assert.Nil(t, held.Value.Conn())
		assert.Equal(t, l.Table().MaxSlots()-1, l.Table().AvailableSlots())
	})
}

// TestReplacedSessionSendsNoCloseNotify: a client could take it for the end of its new
// session.
func TestReplacedSessionSendsNoCloseNotify(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		conns := echoServer(t, l.Listener)
		client := l.dial(t, netip.AddrPort{})
		old := <-conns
		client.Kill()
		var alerts atomic.Int32
		l.network.SetHook(dtlstest.ToClient, func(datagram []byte) bool {
			if dtlstest.Has(datagram, record.TypeAlert, true) {
				alerts.Add(1)
			}
			return true
		})
		fresh := l.dial(t, old.Peer())
		dtlstest.Echo(t, fresh, "a")
		assert.Equal(t, dtlsserver.Replaced, old.EndReason())
		assert.Zero(t, alerts.Load())
		s := <-conns
		assert.Equal(t, dsm.StateEstablished, s.State())
		require.NoError(t, s.Close())
		assert.EqualValues(t, 1, alerts.Load(), "close_notify would have been seen")
	})
}

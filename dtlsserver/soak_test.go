// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var soakFor = flag.Duration("soak", 2*time.Second, "how long TestSoak takes")

// soakClients counts what the clients of TestSoak have done.
type soakClients struct{ connects, reboots, echoes atomic.Int64 }

// run has a client connect and talk again and again until ctx has ended. The client ends
// each session in one of three ways: it closes it, dies, or dies and comes back on its
// port.
func (s *soakClients) run(ctx context.Context, server *net.UDPAddr, config *dtls.Config) {
	var from *net.UDPAddr // nil: any port
	for ctx.Err() == nil {
		udp, err := net.DialUDP("udp", from, server)
		if err != nil { // somebody else has the port now
			from = nil
			continue
		}
		if from != nil {
			s.reboots.Add(1)
		}
		from = nil
		attempt, cancel := context.WithTimeout(ctx, 3*time.Second)
		c, err := dtls.ClientWithContext(attempt, udp, config)
		cancel()
		if err != nil {
			_ = udp.Close()
			continue
		}
		s.connects.Add(1)
		s.talk(c)
		switch rand.IntN(3) {
		case 0: // dies, and comes back on its port
			from = udp.LocalAddr().(*net.UDPAddr)
			fallthrough
		case 1: // dies
			_ = udp.Close()
			_ = c.Close()
		default:
			_ = c.Close()
			_ = udp.Close()
		}
	}
}

func (s *soakClients) talk(c net.Conn) {
	buf := make([]byte, 100)
	for range rand.IntN(30) {
		if _, err := fmt.Fprint(c, "hello"); err != nil {
			return
		}
		_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if _, err := c.Read(buf); err == nil {
			s.echoes.Add(1)
		}
	}
}

// TestSoak has clients come, talk, close, die, come back on their port and get evicted,
// with loss, while all slots are taken. Nothing leaks, no session is left over, and the
// counts agree throughout. It measures the heap, so it does not run in parallel with
// other tests.
func TestSoak(t *testing.T) {
	const sessions, handshakes, clients = 16, 16, 24
	config := psk()
	config.FlightInterval = 20 * time.Millisecond
	var began, ended atomic.Int64
	l, tap := listenTap(t, config, dtlsserver.Config{
		Sessions: sessions, Handshakes: handshakes, HandshakesPerSource: -1, HandshakeTimeout: time.Second,
		IdleTimeout:   500 * time.Millisecond,
		OnEstablished: func(*dtlsserver.Conn) { began.Add(1) },
		OnEnd:         func(*dtlsserver.Conn, dtlsserver.Reason) { ended.Add(1) },
	})
	tap.SetIn(dtlstest.Lossy(0.05, 1))
	tap.SetOut(dtlstest.Lossy(0.05, 2))
	ctx, stop := context.WithTimeout(t.Context(), *soakFor)
	defer stop()
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = l.Serve(context.Background(), func(c *dtlsserver.Conn, datagram []byte) {
			_, _ = c.Write(datagram)
			if rand.IntN(50) == 0 {
				_ = c.Close()
			}
		})
	}()
	var done soakClients
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() { done.run(ctx, l.Addr().(*net.UDPAddr), config) })
	}
	var heaps []uint64
	for ctx.Err() == nil {
		s := l.Stats()
		assert.LessOrEqual(t, s.Established, sessions)
		assert.LessOrEqual(t, s.HalfOpen, handshakes)
		// A session that ends gives up its room a moment before its slot.
		dtlstest.Eventually(t, func() bool { return l.Table().Stats().Established <= sessions }, "no more slots are taken")
		table := l.Table().Stats()
		assert.Equal(t, table.Stored, table.Removed+table.Evicted+uint64(table.Established+table.Handshakes))
		free := l.Table().AvailableSlots()
		assert.True(t, free >= 0 && free <= l.Table().MaxSlots())
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		heaps = append(heaps, m.HeapAlloc)
		select {
		case <-ctx.Done():
		case <-time.After(max(*soakFor/20, 100*time.Millisecond)):
		}
	}
	wg.Wait()

	// All sessions expire by themselves, and all slots become free. A handshake that has
	// ended is counted in a moment.
	dtlstest.Eventually(t, func() bool {
		return l.Table().AvailableSlots() == l.Table().MaxSlots() && l.Stats().HalfOpen == 0
	}, "every slot is free")
	s := l.Stats()
	assert.Zero(t, s.Established)
	assert.Zero(t, s.HalfOpen)
	assert.Equal(t, s.Started, s.Completed+s.Failed+s.TimedOut+s.Displaced)
	assert.Equal(t, s.Completed, s.Evicted+s.Expired+s.Replaced+s.ClosedByPeer+s.ClosedByUs+s.Refused+s.Exhausted)
	dtlstest.Eventually(t, func() bool { return began.Load() == ended.Load() }, "every hook is called")
	assert.Equal(t, s.Completed-s.Refused, uint64(began.Load()))
	if n := len(heaps); n >= 10 {
		// The first tenth warms up. In the last half no more is held than in the first.
		assert.Less(t, slices.Max(heaps[n/2:]), 2*slices.Max(heaps[n/10:n/2])+(8<<20))
	}
	t.Logf("%d connects, %d on their old port, %d echoes, %+v", done.connects.Load(), done.reboots.Load(), done.echoes.Load(), s)
	require.NoError(t, l.Close())
	<-served
}

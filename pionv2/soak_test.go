// SPDX-License-Identifier: MIT

package pionv2

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/dtls/v2"
	"github.com/pion/transport/v2/test"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var soakFor = flag.Duration("soak", 2*time.Second, "how long TestSoak takes")

// Clients come, talk, close, die, reboot on their port and get evicted, with loss, at
// full slots. Nothing leaks, no session is stuck, and the counts agree throughout.
func TestSoak(t *testing.T) {
	defer test.CheckRoutines(t)()
	const sessions, handshakes, clients = 16, 16, 24
	config := pskConfig("key")
	config.FlightInterval = 20 * time.Millisecond
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	w := &wire{PacketConn: socket}
	var began, ended atomic.Int64
	l, err := NewListener(w, config, Config{
		Sessions: sessions, Handshakes: handshakes, HandshakesPerSource: -1, HandshakeTimeout: 2 * time.Second,
		IdleTimeout:   time.Second,
		OnEstablished: func(*Conn) { began.Add(1) },
		OnEnd:         func(*Conn, Reason) { ended.Add(1) },
	})
	require.NoError(t, err)
	lossy := func([]byte) bool { return rand.IntN(100) >= 5 }
	w.in.Store(&lossy)
	w.out.Store(&lossy)
	ctx, stop := context.WithTimeout(t.Context(), *soakFor)
	defer stop()
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = l.Serve(context.Background(), func(c *Conn, datagram []byte) {
			_, _ = c.Write(datagram)
			if rand.IntN(50) == 0 {
				_ = c.Close()
			}
		})
	}()

	var echoes, connects, reboots atomic.Int64
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			var from *net.UDPAddr // nil: any port
			for ctx.Err() == nil {
				udp, err := net.DialUDP("udp", from, l.Addr().(*net.UDPAddr))
				if err != nil { // somebody else has the port now
					from = nil
					continue
				}
				if from != nil {
					reboots.Add(1)
				}
				from = nil
				attempt, cancel := context.WithTimeout(ctx, 3*time.Second)
				c, err := dtls.ClientWithContext(attempt, udp, config)
				cancel()
				if err != nil {
					_ = udp.Close()
					continue
				}
				connects.Add(1)
				buf := make([]byte, 100)
				for range rand.IntN(30) {
					if _, err := fmt.Fprint(c, "hello"); err != nil {
						break
					}
					_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
					if _, err := c.Read(buf); err == nil {
						echoes.Add(1)
					}
				}
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
		})
	}
	var heaps []uint64
	for ctx.Err() == nil {
		s := l.Stats()
		assert.LessOrEqual(t, s.Established, sessions)
		assert.LessOrEqual(t, s.HalfOpen, handshakes)
		table := l.Table().Stats()
		assert.LessOrEqual(t, table.Established, sessions)
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

	// All sessions expire by themselves, and all slots come free.
	eventually(t, func() bool { return l.Table().AvailableSlots() == l.Table().MaxSlots() }, "every slot")
	s := l.Stats()
	assert.Zero(t, s.Established)
	assert.Zero(t, s.HalfOpen)
	assert.Equal(t, s.Started, s.Completed+s.Failed+s.TimedOut+s.Displaced)
	assert.Equal(t, s.Completed, s.Evicted+s.Expired+s.Replaced+s.ClosedByPeer+s.ClosedByUs+s.Refused)
	eventually(t, func() bool { return began.Load() == ended.Load() }, "every hook")
	assert.Equal(t, s.Completed-s.Refused, uint64(began.Load()))
	if n := len(heaps); n >= 10 {
		// The first tenth warms up. In the last half no more is held than in the first.
		assert.Less(t, maxOf(heaps[n/2:]), 2*maxOf(heaps[n/10:n/2])+(8<<20))
	}
	t.Logf("%d connects, %d on their old port, %d echoes, %+v", connects.Load(), reboots.Load(), echoes.Load(), s)
	require.NoError(t, l.Close())
	<-served
}

func maxOf(v []uint64) (m uint64) {
	for _, x := range v {
		m = max(m, x)
	}
	return m
}

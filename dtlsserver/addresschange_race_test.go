// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestMovesRace has clients move among few addresses, while sessions are written to, closed,
// evicted and replaced, and handshakes begin beside them.
func TestMovesRace(t *testing.T) {
	t.Parallel()
	for _, policy := range []AddressChange{VerifyAddress, TrustAddress} {
		t.Run(fmt.Sprint(policy), func(t *testing.T) {
			t.Parallel()
			network := dtlstest.NewNetwork(1)
			socket := network.Listen(netip.AddrPort{})
			socket.SetQueue(8, dtlstest.WaitWhenFull) // so that a session lives to see its records
			server := socket.AddrPort()
			const addresses, newcomers = 12, 300
			at := func() netip.AddrPort { return place(rand.IntN(addresses)) }

			l, err := NewListener([]net.PacketConn{socket}, &scriptedHandshaker{connectionIDs: true, rrc: true}, Config{
				Sessions: 6, Handshakes: 6, HandshakesPerSource: -1, AddressChange: policy,
			})
			require.NoError(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			var roles sync.WaitGroup
			roles.Go(func() { _ = l.Serve(ctx, func(c *Conn, datagram []byte) { _, _ = c.Write(datagram) }) })
			over := make(chan struct{})
			each := func(do func(c *Conn)) {
				for range 2 {
					roles.Go(func() {
						for {
							select {
							case <-over:
								return
							default:
							}
							for c := range l.Sessions() {
								do(c)
							}
							runtime.Gosched()
						}
					})
				}
			}
			roles.Go(func() { // newcomers, who evict and replace
				defer cancel()
				defer close(over)
				for n := range newcomers {
					network.Inject(at(), server, dtlstest.Hello(byte(n)))
					time.Sleep(100 * time.Microsecond)
				}
			})
			var mu sync.Mutex
			clients := map[*Conn]*record.Session{}
			clientOf := func(c *Conn) *record.Session {
				if clients[c] == nil {
					secrets := c.secrets()
					clients[c] = scriptedRecords(secrets.ClientRandom, true)
					clients[c].SetConnectionIDs(secrets.PeerConnectionID, secrets.ConnectionID)
				}
				return clients[c]
			}
			each(func(c *Conn) { // movers
				mu.Lock()
				datagram, _ := clientOf(c).Seal(nil, record.TypeApplicationData, []byte("x"))
				mu.Unlock()
				network.Inject(at(), server, datagram)
			})
			each(func(c *Conn) {
				switch rand.IntN(2000) {
				case 0:
					_ = c.Close()
				case 1, 2, 3, 4, 5, 6, 7, 8, 9:
					_, _ = c.Write(make([]byte, 100))
					_, _ = c.RemoteAddr(), c.LocalAddr()
				default:
					if from, ok := c.UnverifiedAddress(); ok {
						c.ConfirmAddress(from)
					}
				}
			})
			roles.Wait()
			stats := l.Stats()
			assert.Positive(t, stats.AddressChanges)
			t.Logf("%+v", stats)
			for session, state := range l.table.All() {
				p := session.Value
				p.mu.Lock()
				handle, addr := p.handleLocked(), p.addr
				p.mu.Unlock()
				if got, now := handle.Get(); now != dsm.StateNone && state != dsm.StateNone {
					assert.Equal(t, got.Peer, addr)
				}
			}
			require.NoError(t, l.Close())
			stats = l.Stats()
			assert.Zero(t, stats.Established+stats.HalfOpen)
			assert.Equal(t, stats.Started, stats.Completed+stats.Failed+stats.TimedOut+stats.Displaced)
			assert.Equal(t, stats.Completed, stats.ClosedByUs+stats.ClosedByPeer+stats.Evicted+stats.Replaced+stats.Refused+stats.Exhausted)
			assert.Equal(t, l.table.MaxSlots(), l.table.AvailableSlots())
		})
	}
}

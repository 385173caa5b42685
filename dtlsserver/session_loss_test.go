// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/stretchr/testify/assert"
)

// TestEveryClientIsServedDespiteLoss: every client connects and is heard, and no record is
// delivered twice.
func TestEveryClientIsServedDespiteLoss(t *testing.T) {
	t.Parallel()
	for name, conditions := range map[string]dtlstest.Conditions{
		"loss":                       {Loss: 0.3},
		"loss and delay":             {Loss: 0.3, Delay: 150 * time.Millisecond},
		"duplication and reordering": {Loss: 0.1, Duplication: 0.3, Delay: time.Millisecond, Jitter: 10 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const clients = 200
			cfg := dtlsserver.Config{HandshakesPerSource: -1, Handshakes: clients, HandshakeTimeout: 10 * time.Minute}
			inBubble(t, cfg, func(t *testing.T, l memory) {
				l.network.SetConditions(dtlstest.ToServer, conditions)
				l.network.SetConditions(dtlstest.ToClient, conditions)
				var mu sync.Mutex
				seen := map[string]int{}
				serve(t, l.Listener, func(c *dtlsserver.Conn, datagram []byte) {
					mu.Lock()
					seen[fmt.Sprint(c.Peer(), " ", string(datagram))]++
					mu.Unlock()
					_, _ = c.Write(datagram)
				})
				var wg sync.WaitGroup
				for n := range clients {
					wg.Go(func() { l.talk(t, n, 20*time.Millisecond+2*conditions.Delay) })
				}
				wg.Wait()
				mu.Lock()
				defer mu.Unlock()
				for text, times := range seen {
					assert.Equal(t, 1, times, text)
				}
				s := l.Stats()
				assert.EqualValues(t, clients, s.Completed)
				assert.Equal(t, conditions.Duplication > 0, s.Replayed > 0)
				t.Logf("%+v", s)
			})
		})
	}
}

// talk has a client connect, and write until something comes back, for which it waits a
// while each time.
func (l memory) talk(t *testing.T, n int, wait time.Duration) {
	config := dtlstest.WithTimeout(psk(), 10*time.Minute)
	config.FlightInterval = wait
	client, err := dtlstest.Handshake(l.network.Dial(netip.AddrPort{}, l.addr()), config)
	if !assert.NoError(t, err) {
		return
	}
	defer client.Kill()
	buf := make([]byte, 100)
	for try := range 100 {
		_, _ = fmt.Fprint(client, n, " ", try)
		_ = client.SetReadDeadline(time.Now().Add(wait))
		switch _, err := client.Read(buf); {
		case err == nil:
			return
		case !errors.Is(err, context.DeadlineExceeded):
			assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
		}
	}
	assert.Fail(t, "no echo")
}

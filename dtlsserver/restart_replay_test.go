// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/durable/crashfs"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestRestartForgetsNoReceivedRecord: after a planned restart each record that was received
// before it is refused, whatever their order was, and those that were lost are not.
func TestRestartForgetsNoReceivedRecord(t *testing.T) {
	t.Parallel()
	for _, window := range []int{64, 1024} {
		t.Run(fmt.Sprint("window ", window), func(t *testing.T) {
			t.Parallel()
			config := psk()
			config.ReplayProtectionWindow = window
			synctest.Test(t, func(t *testing.T) { testRestartReplay(t, config, window) })
		})
	}
}

// replayCapture has the protected records of clients that were delivered, and those that
// were withheld.
type replayCapture struct {
	mu                  sync.Mutex
	rng                 *rand.Rand
	withhold            bool
	delivered, withheld []dtlstest.Datagram
}

func (c *replayCapture) filter(d dtlstest.Datagram, forward func([]byte)) {
	kept := dtlstest.Datagram{From: d.From, To: d.To, Payload: bytes.Clone(d.Payload)}
	for rest := kept.Payload; len(rest) > 0; {
		r, after, fault := record.Next(rest)
		rest = after
		if fault == record.NoFault && r.Epoch > 0 {
			c.mu.Lock()
			if c.withhold && c.rng.IntN(5) == 0 {
				c.withheld = append(c.withheld, kept)
				c.mu.Unlock()
				return
			}
			// The record alone: the flight with the Finished has others before it.
			c.delivered = append(c.delivered, dtlstest.Datagram{From: d.From, To: d.To, Payload: r.Raw})
			c.mu.Unlock()
		}
	}
	forward(d.Payload)
}

func (c *replayCapture) setWithhold(withhold bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.withhold = withhold
}

func testRestartReplay(t *testing.T, config *dtls.Config, window int) {
	const clients, texts = 5, 300
	disk := crashfs.New(1)
	cfg := dtlsserver.Config{QueueDatagrams: texts}
	dtlsserver.SetDisk(&cfg, disk, nil)
	network := dtlstest.NewNetwork(1)
	capture := &replayCapture{rng: rand.New(rand.NewPCG(1, 1))}
	network.SetFilter(dtlstest.ToServer, capture.filter)
	l := listenOn(t, network.Listen(netip.AddrPort{}), config, cfg)
	var handled sync.Map
	handler := func(_ *dtlsserver.Conn, b []byte) {
		if _, again := handled.LoadOrStore(string(b), true); again {
			t.Errorf("%q reached the handler twice", b)
		}
	}
	serve(t, l, handler)
	var all []*dtlstest.Client
	for range clients {
		all = append(all, network.DialClient(t, netip.AddrPort{}, firstAddr, psk()))
	}
	synctest.Wait()
	capture.setWithhold(true)
	for i, client := range all {
		for n := range texts / (i + 1) { // fewer than the window, and more
			write(t, client, fmt.Sprintf("%d of client %d", n, i))
		}
	}
	synctest.Wait()
	require.Zero(t, l.Stats().QueueFull)
	require.NotEmpty(t, capture.withheld)
	_, err := l.SaveFile(t.Context(), nonceSnapshot, saveKey)
	require.NoError(t, err)

	cfg.Restore = func(l *dtlsserver.Listener) error {
		_, err := l.RestoreFile(t.Context(), nonceSnapshot, saveKey)
		return err
	}
	next := listenOn(t, network.Listen(firstAddr), config, cfg)
	serve(t, next, handler)
	require.EqualValues(t, clients, next.Stats().Restored)
	answered := next.Stats()
	for i, d := range capture.delivered {
		require.True(t, network.Inject(d.From, d.To, d.Payload))
		synctest.Wait()
		require.EqualValues(t, i+1, next.Stats().Replayed, "record %d", i)
	}
	answered.Replayed = uint64(len(capture.delivered))
	require.Equal(t, answered, next.Stats()) // nothing else has come of them
	// Those that were withheld are taken as before the restart: once, if the window reaches
	// as far.
	taken := 0
	for range 2 {
		for _, d := range capture.withheld {
			before := next.Stats().Replayed
			require.True(t, network.Inject(d.From, d.To, d.Payload))
			synctest.Wait()
			taken += 1 - int(next.Stats().Replayed-before)
		}
	}
	assert.Positive(t, taken)
	if window > texts {
		assert.Equal(t, len(capture.withheld), taken)
	} else {
		assert.Less(t, taken, len(capture.withheld))
	}
	capture.setWithhold(false)
	for _, client := range all {
		write(t, client, "the end of "+client.Addr().String())
		synctest.Wait()
		_, reached := handled.Load("the end of " + client.Addr().String())
		assert.True(t, reached)
	}
	t.Logf("%d records again, %d withheld, %d of them taken", len(capture.delivered), len(capture.withheld), taken)
}

// SPDX-License-Identifier: MIT

package pionv2

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A ClientHello that names a session skips pion's cookie, so it can have a forged source
// address: the server sends three times as many bytes as it has received, at most, and
// establishes no session.
func TestSpoofedResumptionIsNotAmplified(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		network := dtlstest.NewNetwork(1)
		config := dtlstest.PSKConfig("key")
		config.FlightInterval = 5 * time.Millisecond // pion repeats its flight
		cfg := Config{Resumption: newStore(t), HandshakeTimeout: 300 * time.Millisecond}
		l, err := NewListener([]net.PacketConn{network.Listen(netip.AddrPort{})}, config, cfg)
		require.NoError(t, err)
		sessions := dtlstest.ServeEcho[*Conn](t, l)
		client, _ := resumingClient()
		addr := dtlstest.AddrPort(l.Addr())
		visitOnce := func() *Conn {
			return visit(t, sessions, network.DialClient(t, netip.AddrPort{}, addr, client))
		}
		visitOnce()
		var spoofed []byte
		network.SetHook(dtlstest.ToServer, func(b []byte) bool {
			r, _, _ := record.Next(b)
			if hello, ok := record.ParseClientHello(r); ok && len(hello.SessionID) > 0 {
				spoofed = bytes.Clone(b)
			}
			return true
		})
		require.True(t, visitOnce().Resumed())
		network.SetHook(dtlstest.ToServer, nil)
		synctest.Wait()

		spoofed[record.HeaderSize+12+2] ^= 1 // another random
		before := network.Counts(dtlstest.ToClient).SentBytes
		network.Inject(dtlstest.NthAddr(10, 1, 5684), addr, spoofed)
		time.Sleep(time.Minute)
		sent := network.Counts(dtlstest.ToClient).SentBytes - before
		assert.EqualValues(t, 1, l.Stats().TimedOut)
		assert.Positive(t, sent)
		assert.LessOrEqual(t, sent, 3*len(spoofed))
		t.Logf("%d bytes came, %d went out", len(spoofed), sent)
		assert.EqualValues(t, 1, l.Stats().Resumed)
		assert.True(t, visitOnce().Resumed(), "the session is unchanged")
	})
}

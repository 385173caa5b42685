// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"net/netip"
	"testing"
	"testing/synctest"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestSlotsHaveSessionsAndHandshakes has two sessions and a handshake in one listener, and a
// session in another that shares its table.
func TestSlotsHaveSessionsAndHandshakes(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{Sessions: 4, Handshakes: 4}, func(t *testing.T, l memory) {
		echoServer(t, l.Listener)
		other := listenOn(t, l.network.Listen(netip.MustParseAddrPort("192.0.2.2:5684")), psk(), dtlsserver.Config{Table: l.FilledConfig().Table, Sessions: 2, Handshakes: 2})
		echoServer(t, other)
		dtlstest.Echo(t, l.network.DialClient(t, netip.AddrPort{}, dtlstest.AddrPort(other.Addr()), psk()), "other")
		one, two := l.dial(t, netip.AddrPort{}), l.dial(t, netip.AddrPort{})
		for _, c := range []*dtlstest.Client{one, two, one} {
			dtlstest.Echo(t, c, "used")
		}
		l.stall(t, netip.AddrPort{})
		synctest.Wait()

		var numbers []int
		var peers []netip.AddrPort
		for slot, c := range l.Slots() {
			assert.NotContains(t, numbers, slot)
			numbers = append(numbers, slot)
			if c == nil {
				peers = append(peers, netip.AddrPort{})
				continue
			}
			assert.Equal(t, slot, c.Slot())
			peers = append(peers, c.Peer())
		}
		require.Equal(t, []netip.AddrPort{dtlstest.AddrPort(two.Addr()), dtlstest.AddrPort(one.Addr()), {}}, peers)
		for range l.Slots() {
			break // must not go on
		}
	})
}

// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestPeerHasSlotFromItsHandshakeOn: it is half-open from when its slot is reserved, and
// established when its session is. When either ends the slot is free.
func TestPeerHasSlotFromItsHandshakeOn(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{HandshakeTimeout: time.Second}, func(t *testing.T, l memory) {
		conns := echoServer(t, l.Listener)
		peer := l.occupy(t, 1)
		synctest.Wait()
		held, state := l.Table().Get(l.Sock(), peer)
		require.Equal(t, dsm.StateHandshake, state)
		assert.Nil(t, held.Value.Conn())
		assert.Equal(t, l.Table().MaxSlots()-1, l.Table().AvailableSlots())
		time.Sleep(2 * time.Second)
		require.EqualValues(t, 1, l.Stats().TimedOut)
		_, state = l.Table().Get(l.Sock(), peer)
		assert.Equal(t, dsm.StateNone, state)

		client := l.dial(t, netip.AddrPort{})
		session := <-conns
		held, state = l.Table().Get(l.Sock(), session.Peer())
		assert.Equal(t, dsm.StateEstablished, state)
		assert.Same(t, session, held.Value.Conn())
		assert.Equal(t, held.Value.Slot(), session.Slot())
		require.NoError(t, client.Close())
		synctest.Wait()
		_, state = l.Table().Get(l.Sock(), session.Peer())
		assert.Equal(t, dsm.StateNone, state)
		assert.Nil(t, held.Value.Conn())
		assert.Equal(t, l.Table().MaxSlots(), l.Table().AvailableSlots())

		// A handshake that fails frees the slot, too. With another key pion gives up, or
		// its client does.
		_, err := dtlstest.Handshake(l.network.Dial(netip.AddrPort{}, l.addr()), dtlstest.PSKConfig("another"))
		require.Error(t, err)
		time.Sleep(2 * time.Second)
		stats := l.Stats()
		assert.EqualValues(t, 2, stats.Failed+stats.TimedOut)
		assert.Equal(t, l.Table().MaxSlots(), l.Table().AvailableSlots())
	})
}

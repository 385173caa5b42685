// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"net"
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

// TestLeastRecentlyUsedSessionIsEvicted uses sessions in all ways that count: what the
// client sends, and what the server sends.
func TestLeastRecentlyUsedSessionIsEvicted(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{Sessions: 3}, func(t *testing.T, l memory) {
		a, sa := l.connect(t)
		_, sb := l.connect(t)
		_, sc := l.connect(t)
		write(t, a, "use")
		synctest.Wait()
		_, err := sb.Write([]byte("use"))
		require.NoError(t, err)
		// Of c, a and b, in this order, c goes, then a.
		_, sd := l.connect(t)
		assert.Equal(t, dtlsserver.Evicted, sc.EndReason())
		assert.Equal(t, "use", read(t, sa), "to read is no use")
		l.connect(t)
		assert.Equal(t, dtlsserver.Evicted, sa.EndReason())
		for _, s := range []*dtlsserver.Conn{sb, sd} {
			assert.Equal(t, dsm.StateEstablished, s.State())
		}
		assert.EqualValues(t, 2, l.Stats().Evicted)
		_, err = sc.Write(nil)
		assert.ErrorIs(t, err, dtlsserver.ErrEvicted)
		assert.ErrorIs(t, err, net.ErrClosed)
	})
}

// TestRefuseNewcomerAdmitsNoHandshakeWhenFull: with RefuseNewcomer a client that could
// only be refused costs no handshake.
func TestRefuseNewcomerAdmitsNoHandshakeWhenFull(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{Sessions: 1, WhenFull: dtlsserver.RefuseNewcomer}, func(t *testing.T, l memory) {
		echoServer(t, l.Listener)
		client := l.dial(t, netip.AddrPort{})
		dtlstest.Echo(t, client, "x")
		l.sendHello(t, 1)
		synctest.Wait()
		require.EqualValues(t, 1, l.Stats().SessionsFull)
		require.Zero(t, l.Stats().Backlog, "it would wait for the end of a session")
		require.EqualValues(t, 1, l.Stats().Started)
		dtlstest.Echo(t, client, "y")
		require.NoError(t, client.Close())
		synctest.Wait()
		require.Zero(t, l.Stats().Established)
		dtlstest.Echo(t, l.dial(t, netip.AddrPort{}), "z")
	})
}

// TestRefuseNewcomerRefusesWhoCompletesLater starts two handshakes while there is room
// for one session.
func TestRefuseNewcomerRefusesWhoCompletesLater(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{Sessions: 1, WhenFull: dtlsserver.RefuseNewcomer}, func(t *testing.T, l memory) {
		l.network.SetRoundTrip(300 * time.Millisecond)
		results := make(chan error)
		for range 2 {
			go func() {
				client, err := dtlstest.Handshake(l.network.Dial(netip.AddrPort{}, l.addr()), psk())
				if err == nil {
					_, err = client.Read(make([]byte, 10)) // until the end of the session
					client.Kill()
				}
				results <- err
			}()
		}
		c, err := l.AcceptConn(t.Context())
		require.NoError(t, err)
		assert.Error(t, <-results)
		synctest.Wait()
		assert.EqualValues(t, 2, l.Stats().Completed)
		assert.EqualValues(t, 1, l.Stats().Refused)
		assert.Equal(t, dsm.StateEstablished, c.State(), "the one that was first")
		require.NoError(t, l.Close())
		assert.Error(t, <-results)
	})
}

// TestStaleAfterProtectsSessionsInUse evicts a session only once it was idle for longer
// than StaleAfter. Until then newcomers are refused.
func TestStaleAfterProtectsSessionsInUse(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{Sessions: 1, StaleAfter: time.Hour}, func(t *testing.T, l memory) {
		conns := echoServer(t, l.Listener)
		client := l.dial(t, netip.AddrPort{})
		dtlstest.Echo(t, client, "x")
		session := <-conns
		l.dialRefused(t)
		synctest.Wait()
		require.EqualValues(t, 1, l.Stats().Refused)
		time.Sleep(59 * time.Minute)
		l.dialRefused(t)
		synctest.Wait()
		require.EqualValues(t, 2, l.Stats().Refused)
		dtlstest.Echo(t, client, "y")
		time.Sleep(59 * time.Minute)
		l.dialRefused(t)
		synctest.Wait()
		require.EqualValues(t, 3, l.Stats().Refused, "it was used since")
		require.Zero(t, session.EndReason())
		time.Sleep(time.Minute + time.Second)
		dtlstest.Echo(t, l.dial(t, netip.AddrPort{}), "z")
		_, err := session.Write([]byte("x"))
		assert.ErrorIs(t, err, dtlsserver.ErrEvicted)
		assert.ErrorIs(t, err, net.ErrClosed)
		assert.EqualValues(t, 1, l.Stats().Evicted)
	})
}

// TestStaleAfterDoesNotApplyToFreeRoom: with room for another session StaleAfter says
// nothing.
func TestStaleAfterDoesNotApplyToFreeRoom(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{Sessions: 2, StaleAfter: time.Hour}, func(t *testing.T, l memory) {
		l.connect(t)
		l.connect(t)
		assert.Equal(t, 2, l.Stats().Established)
		assert.Zero(t, l.Stats().Refused)
	})
}

// TestListenersOfSharedTableEvictTheirOwnSessions: each has its own bound, and when the
// table is full no handshake begins.
func TestListenersOfSharedTableEvictTheirOwnSessions(t *testing.T) {
	t.Parallel()
	table, err := dsm.New[*dtlsserver.Peer](6)
	require.NoError(t, err)
	inBubble(t, dtlsserver.Config{Table: table, Sessions: 2, Handshakes: 2}, func(t *testing.T, one memory) {
		two := listenInMemory(t, psk(), dtlsserver.Config{Table: table, Handshakes: 2})
		assert.Equal(t, 4, two.FilledConfig().Sessions)
		echoServer(t, one.Listener)
		echoServer(t, two.Listener)
		for range 3 {
			dtlstest.Echo(t, one.dial(t, netip.AddrPort{}), "one")
		}
		for range 4 {
			dtlstest.Echo(t, two.dial(t, netip.AddrPort{}), "two")
		}
		assert.EqualValues(t, 1, one.Stats().Evicted)
		assert.Zero(t, two.Stats().Evicted)
		// There is no slot for a handshake, and no session of the other listener goes.
		one.occupy(t, 1)
		synctest.Wait()
		require.EqualValues(t, 1, one.Stats().NoRoom)
		assert.Zero(t, table.AvailableSlots())
		assert.Equal(t, 4, two.Stats().Established)
		require.NoError(t, one.Close())
		assert.Equal(t, 2, table.AvailableSlots())
		assert.Equal(t, 4, two.Stats().Established)
	})
}

// TestMinAvailableEvictsAfterAWhile keeps one session free, as RIOT's gcoap does.
func TestMinAvailableEvictsAfterAWhile(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{Sessions: 1, MinAvailable: 1}, func(t *testing.T, l memory) {
		_, s := l.connect(t)
		time.Sleep(10 * time.Second)
		require.Equal(t, dsm.StateEstablished, s.State())
		time.Sleep(15 * time.Second)
		require.Equal(t, dsm.StateNone, s.State())
		require.EqualValues(t, 1, l.Stats().Evicted)
	})
}

// TestMinAvailableEvictsAsManyAsAreMissing, least recently used first, and only when too
// few were free all the time.
func TestMinAvailableEvictsAsManyAsAreMissing(t *testing.T) {
	t.Parallel()
	cfg := dtlsserver.Config{Sessions: 5, MinAvailable: 3, MinAvailableAfter: time.Minute}
	inBubble(t, cfg, func(t *testing.T, l memory) {
		var sessions []*dtlsserver.Conn
		for range 4 {
			_, s := l.connect(t)
			sessions = append(sessions, s)
		}
		_, err := sessions[0].Write(nil)
		require.NoError(t, err)
		time.Sleep(50 * time.Second)
		require.NoError(t, sessions[2].Close())
		require.NoError(t, sessions[3].Close())
		time.Sleep(5 * time.Second) // three are free for a while
		for range 2 {
			_, s := l.connect(t)
			sessions = append(sessions, s)
		}
		time.Sleep(50 * time.Second)
		require.Zero(t, l.Stats().Evicted)
		time.Sleep(15 * time.Second)
		require.EqualValues(t, 2, l.Stats().Evicted)
		assert.Equal(t, dtlsserver.Evicted, sessions[1].EndReason())
		assert.Equal(t, dtlsserver.Evicted, sessions[0].EndReason())
		assert.Equal(t, 2, l.Stats().Established)
		time.Sleep(time.Hour)
		assert.Equal(t, 2, l.Stats().Established)
	})
}

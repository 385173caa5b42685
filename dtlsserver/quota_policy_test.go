// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// tryDialAs has a client with a PSK identity connect, from a free address if from is zero.
func (l memory) tryDialAs(from netip.AddrPort, identity string) (*dtlstest.Client, error) {
	config := psk()
	config.PSKIdentityHint = []byte(identity)
	return dtlstest.Handshake(l.network.Dial(from, l.addr()), config)
}

// connectAs has a client with a PSK identity connect, and accepts its session.
func (l memory) connectAs(t *testing.T, from netip.AddrPort, identity string) (*dtlstest.Client, *dtlsserver.Conn) {
	t.Helper()
	client, err := l.tryDialAs(from, identity)
	require.NoError(t, err)
	t.Cleanup(client.Kill)
	c, err := l.AcceptConn(t.Context())
	require.NoError(t, err)
	require.Equal(t, identity, string(c.Identity().PSKIdentity))
	return client, c
}

// refusedAs has a client connect whose session ends with its handshake: see dialRefused.
func (l memory) refusedAs(t *testing.T, from netip.AddrPort, identity string) {
	t.Helper()
	if client, err := l.tryDialAs(from, identity); err == nil {
		dtlstest.RequireEOF(t, client)
		client.Kill()
	}
	synctest.Wait()
}

func endReasons(conns ...*dtlsserver.Conn) (reasons []dtlsserver.Reason) {
	for _, c := range conns {
		reasons = append(reasons, c.EndReason())
	}
	return reasons
}

// TestSessionMakesRoomForNewerOneOfItsIdentity: its peer is sent close_notify, and the user
// learns why.
func TestSessionMakesRoomForNewerOneOfItsIdentity(t *testing.T) {
	t.Parallel()
	var log dtlstest.LogBuffer
	ended := map[*dtlsserver.Conn]dtlsserver.Reason{}
	cfg := dtlsserver.Config{SessionsPerIdentity: 2, StaleAfter: time.Hour, Logger: log.Logger(), OnEnd: func(c *dtlsserver.Conn, why dtlsserver.Reason) { ended[c] = why }}
	inBubble(t, cfg, func(t *testing.T, l memory) {
		a, sa := l.connectAs(t, netip.AddrPort{}, "one")
		time.Sleep(time.Second)
		_, sb := l.connectAs(t, netip.AddrPort{}, "one")
		_, other := l.connectAs(t, netip.AddrPort{}, "other")
		time.Sleep(time.Second)
		write(t, a, "use")
		synctest.Wait()
		time.Sleep(time.Second)
		_, sc := l.connectAs(t, netip.AddrPort{}, "one")
		assert.Equal(t, []dtlsserver.Reason{0, dtlsserver.IdentityReplaced, 0, 0}, endReasons(sa, sb, sc, other))
		time.Sleep(time.Second)
		l.connectAs(t, netip.AddrPort{}, "one")
		synctest.Wait()
		assert.Equal(t, map[*dtlsserver.Conn]dtlsserver.Reason{sa: dtlsserver.IdentityReplaced, sb: dtlsserver.IdentityReplaced}, ended)
		assert.Equal(t, "use", read(t, sa), "what was received first")
		_, err := sa.Read(make([]byte, 10))
		require.ErrorIs(t, err, dtlsserver.ErrIdentityReplaced)
		_, err = sa.Write(nil)
		require.ErrorIs(t, err, dtlsserver.ErrIdentityReplaced)
		require.ErrorIs(t, err, net.ErrClosed)
		dtlstest.RequireEOF(t, a)
		assert.EqualValues(t, 2, l.Stats().IdentityReplaced)
		assert.Contains(t, log.String(), `level=INFO msg="session ended" peer=`+sa.Peer().String()+" reason=identity_replaced")
	})
}

// TestRefuseNewcomerOfFullIdentity: nobody is evicted for it, and a peer that comes back from its
// own port is no newcomer.
func TestRefuseNewcomerOfFullIdentity(t *testing.T) {
	t.Parallel()
	var log dtlstest.LogBuffer
	established := 0
	cfg := dtlsserver.Config{
		Sessions: 4, SessionsPerIdentity: 2, WhenIdentityFull: dtlsserver.RefuseNewcomer, Logger: log.Logger(),
		OnEstablished: func(*dtlsserver.Conn) { established++ },
	}
	inBubble(t, cfg, func(t *testing.T, l memory) {
		a, sa := l.connectAs(t, netip.AddrPort{}, "one")
		_, sb := l.connectAs(t, netip.AddrPort{}, "one")
		other, so := l.connectAs(t, netip.AddrPort{}, "other")
		_, full := l.connectAs(t, netip.AddrPort{}, "last")
		l.refusedAs(t, netip.AddrPort{}, "one")
		stats := l.Stats()
		assert.EqualValues(t, 1, stats.IdentityRefused)
		assert.EqualValues(t, 5, stats.Completed)
		assert.Equal(t, 4, stats.Established)
		assert.Zero(t, stats.Evicted, "the listener is full")
		assert.Equal(t, 4, established)
		assert.Contains(t, log.String(), `msg="session refused"`)
		assert.Contains(t, log.String(), "reason=identity_refused")

		// From the address of another identity's session, which stays: its client is not the one.
		from := dtlstest.AddrPort(other.Addr())
		other.Kill()
		l.refusedAs(t, from, "one")
		assert.EqualValues(t, 2, l.Stats().IdentityRefused)
		assert.Equal(t, []dtlsserver.Reason{0, 0, 0, 0}, endReasons(sa, sb, so, full))

		from = dtlstest.AddrPort(a.Addr())
		a.Kill()
		l.connectAs(t, from, "one")
		assert.Equal(t, []dtlsserver.Reason{dtlsserver.Replaced, 0, 0, 0}, endReasons(sa, sb, so, full))
		assert.EqualValues(t, 2, l.Stats().IdentityRefused)
	})
}

// TestPeerThatComesBackReplacesItsOwnSession, although another one of the identity was used less
// recently. A peer with another identity at the address of a session counts for its own.
func TestPeerThatComesBackReplacesItsOwnSession(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{SessionsPerIdentity: 2}, func(t *testing.T, l memory) {
		_, sa := l.connectAs(t, netip.AddrPort{}, "one")
		time.Sleep(time.Second)
		b, sb := l.connectAs(t, netip.AddrPort{}, "one")
		time.Sleep(time.Second)
		from := dtlstest.AddrPort(b.Addr())
		b.Kill()
		again, sc := l.connectAs(t, from, "one")
		assert.Equal(t, []dtlsserver.Reason{0, dtlsserver.Replaced, 0}, endReasons(sa, sb, sc))
		time.Sleep(time.Second)
		o, so := l.connectAs(t, netip.AddrPort{}, "other")
		from = dtlstest.AddrPort(o.Addr())
		o.Kill()
		_, sd := l.connectAs(t, from, "one")
		assert.Equal(t, []dtlsserver.Reason{dtlsserver.IdentityReplaced, 0, dtlsserver.Replaced, 0}, endReasons(sa, sc, so, sd))
		again.Kill()
		assert.Equal(t, 2, l.Stats().Established)
	})
}

// sessionsOf connects clients of some identities, one second after the other.
func sessionsOf(t *testing.T, l memory, identities ...string) (conns []*dtlsserver.Conn) {
	t.Helper()
	for _, identity := range identities {
		time.Sleep(time.Second)
		_, c := l.connectAs(t, netip.AddrPort{}, identity)
		conns = append(conns, c)
	}
	return conns
}

// TestRestoreObeysLimitOfIdentity: the most recently used ones stay, also with RefuseNewcomer.
func TestRestoreObeysLimitOfIdentity(t *testing.T) {
	t.Parallel()
	for _, policy := range []dtlsserver.Policy{dtlsserver.EvictLeastRecentlyUsed, dtlsserver.RefuseNewcomer} {
		inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
			conns := sessionsOf(t, l, "one", "one", "two", "one", "two", "one")
			_, err := conns[0].Write([]byte("use"))
			require.NoError(t, err)
			cfg, stats, failed := restoring(t, dtlsserver.Config{SessionsPerIdentity: 2, WhenIdentityFull: policy}, save(t, l))
			next := l.successor(t, cfg)
			require.NoError(t, *failed)
			assert.Equal(t, dtlsserver.RestoreStats{Sessions: 6, Restored: 4, IdentityFull: 2}, *stats)
			var want, got []netip.AddrPort
			for _, n := range []int{2, 4, 5, 0} {
				want = append(want, conns[n].Peer())
			}
			for c := range next.Sessions() {
				got = append(got, c.Peer())
			}
			assert.Equal(t, want, got)
			assert.EqualValues(t, 2, next.Stats().IdentityReplaced)
		})
	}
}

// TestAttachObeysLimitOfIdentity: what is refused can be attached elsewhere.
func TestAttachObeysLimitOfIdentity(t *testing.T) {
	t.Parallel()
	cfg := dtlsserver.Config{SessionsPerIdentity: 1, WhenIdentityFull: dtlsserver.RefuseNewcomer}
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		conns := sessionsOf(t, l, "one", "one", "two")
		var states [][]byte
		for _, c := range conns {
			states = append(states, detach(t, c))
		}
		refusing := listenOn(t, l.network.Listen(elsewhere), psk(), cfg)
		_, err := refusing.Attach(unmarshal(t, states[0]))
		require.NoError(t, err)
		second := unmarshal(t, states[1])
		_, err = refusing.Attach(second)
		require.ErrorIs(t, err, dtlsserver.ErrStateIdentityFull)
		_, err = refusing.Attach(unmarshal(t, states[2]))
		require.NoError(t, err, "of another identity")
		assert.EqualValues(t, 2, refusing.Stats().Restored)

		cfg.WhenIdentityFull = dtlsserver.EvictLeastRecentlyUsed
		evicting := listenOn(t, l.network.Listen(netip.MustParseAddrPort("192.0.2.10:5684")), psk(), cfg)
		earlier := sessionsOf(t, memory{evicting, l.network}, "two", "one")
		_, err = evicting.Attach(second)
		require.NoError(t, err)
		assert.Equal(t, []dtlsserver.Reason{0, dtlsserver.IdentityReplaced}, endReasons(earlier...))
	})
}

// TestNothingIsLeftInIndex when sessions have ended, for whatever reason. The sessions in the
// index are always those of the listener.
func TestNothingIsLeftInIndex(t *testing.T) {
	t.Parallel()
	var log dtlstest.LogBuffer
	cfg := dtlsserver.Config{Sessions: 5, SessionsPerIdentity: 2, IdleTimeout: time.Hour, AcceptQueue: 1, Logger: log.Logger()}
	inBubble(t, cfg, func(t *testing.T, l memory) {
		want := func(l memory, n int, after string) {
			t.Helper()
			synctest.Wait()
			_, sessions := l.IndexedSessions()
			assert.Equal(t, n, sessions, after)
			assert.Equal(t, n, l.Stats().Established, after)
		}
		_, c := l.connectAs(t, netip.AddrPort{}, "one")
		want(l, 1, "established")
		require.NoError(t, c.Close())
		want(l, 0, "Close")
		client, _ := l.connectAs(t, netip.AddrPort{}, "one")
		require.NoError(t, client.Close())
		want(l, 0, "closed by the peer")
		_, c = l.connectAs(t, netip.AddrPort{}, "one")
		state := unmarshal(t, detach(t, c))
		want(l, 0, "Detach")
		_, err := l.Attach(state)
		require.NoError(t, err)
		want(l, 1, "Attach")
		sessionsOf(t, l, "one", "one")
		want(l, 2, "replaced by a session of the identity")
		client, _ = l.connectAs(t, netip.AddrPort{}, "two")
		from := dtlstest.AddrPort(client.Addr())
		client.Kill()
		l.connectAs(t, from, "two")
		want(l, 3, "replaced")
		_, c = l.connectAs(t, netip.AddrPort{}, "three")
		exhaust(t, c)
		want(l, 3, "exhausted")
		sessionsOf(t, l, "two", "three", "four", "five")
		want(l, 5, "evicted")
		time.Sleep(2 * time.Hour)
		want(l, 0, "expired")
		l.dial(t, netip.AddrPort{}) // nobody accepts its session
		want(l, 1, "in Accept's queue")
		l.dialRefused(t)
		want(l, 1, "no room in Accept's queue")
		ended, err := l.EndIdentity(t.Context(), "psk:"+dtlstest.Identity, dtlsserver.Withdrawn)
		require.NoError(t, err)
		require.Equal(t, 1, ended)
		want(l, 0, "EndIdentity")
	})
	for _, reason := range []string{"evicted", "expired", "replaced", "identity_replaced", "refused", "exhausted", "detached", "closed_by_peer", "withdrawn"} {
		assert.Contains(t, log.String(), "reason="+reason)
	}
}

// exhaust has a session end because it has no sequence number left.
func exhaust(t *testing.T, c *dtlsserver.Conn) {
	t.Helper()
	c.SetNextSequence(1 << 48)
	_, err := c.Write(nil)
	require.ErrorIs(t, err, dtlsserver.ErrExhausted)
}

// TestFailedRestoreLeavesNothingInIndex, and neither do Save and Close.
func TestFailedRestoreLeavesNothingInIndex(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{SessionsPerIdentity: 2}, func(t *testing.T, l memory) {
		sessionsOf(t, l, "one", "one", "two")
		stream := save(t, l)
		_, sessions := l.IndexedSessions()
		require.Zero(t, sessions, "Save")
		restored := -1
		next := l.successor(t, dtlsserver.Config{SessionsPerIdentity: 2, Restore: func(l *dtlsserver.Listener) error {
			stats, err := l.Restore(t.Context(), bytes.NewReader(stream[:len(stream)-1]), saveKey)
			assert.Error(t, err)
			restored = stats.Restored
			_, sessions := l.IndexedSessions()
			assert.Zero(t, sessions, "of a stream that is not whole")
			_, err = l.Restore(t.Context(), bytes.NewReader(stream), saveKey)
			assert.NoError(t, err)
			_, sessions = l.IndexedSessions()
			assert.Equal(t, 3, sessions)
			return nil
		}})
		assert.Zero(t, restored)
		require.NoError(t, next.Close())
		identities, sessions := next.IndexedSessions()
		assert.Zero(t, identities)
		assert.Zero(t, sessions)
	})
}

// TestWithoutLimitThereIsNoIndex.
func TestWithoutLimitThereIsNoIndex(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		sessionsOf(t, l, "one", "one", "one")
		assert.Equal(t, 3, l.Stats().Established)
		identities, _ := l.IndexedSessions()
		assert.Equal(t, -1, identities)
		assert.False(t, l.HasIdentityEntries())
	})
}

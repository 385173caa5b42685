// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestSilentSessionReleasesItsCiphers: the next datagram builds them again.
func TestSilentSessionReleasesItsCiphers(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		client, s := l.connect(t)
		write(t, client, "x")
		synctest.Wait()
		require.True(t, s.HasCiphers())
		require.True(t, s.HasBuiltCiphers())
		time.Sleep(50 * time.Second)
		require.True(t, s.HasBuiltCiphers())
		time.Sleep(70 * time.Second)
		require.False(t, s.HasCiphers())
		require.False(t, s.HasBuiltCiphers())
		assert.Equal(t, 1, s.Unread(), "what was not read stays")
		write(t, client, "y")
		assert.Equal(t, "x", read(t, s))
		assert.Equal(t, "y", read(t, s))
		require.True(t, s.HasCiphers())
		require.True(t, s.HasBuiltCiphers())
	})
}

// TestSilentSessionReleasesItsInbox only if it is not needed: not while something is to
// be read, somebody reads, or a deadline is set or has passed.
func TestSilentSessionReleasesItsInbox(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		client, s := l.connect(t)
		const silence = 2 * time.Minute
		use := func() {
			t.Helper()
			write(t, client, "x")
			require.Equal(t, "x", read(t, s))
			require.True(t, s.HasInbox())
		}
		use()
		time.Sleep(silence)
		require.False(t, s.HasInbox())

		use()
		require.NoError(t, s.SetReadDeadline(time.Now().Add(time.Hour)))
		time.Sleep(silence)
		require.True(t, s.HasInbox(), "a read deadline to come")
		time.Sleep(time.Hour)
		require.NoError(t, s.SetReadDeadline(time.Time{}))
		use()
		require.NoError(t, s.SetReadDeadline(time.Now()))
		time.Sleep(silence)
		require.True(t, s.HasInbox(), "a read deadline that has passed")
		require.NoError(t, s.SetReadDeadline(time.Time{}))
		use()
		require.NoError(t, s.SetWriteDeadline(time.Now().Add(time.Second)))
		time.Sleep(silence)
		require.True(t, s.HasInbox(), "a write deadline")
		require.NoError(t, s.SetWriteDeadline(time.Time{}))
		use()
		errs := readers(t, s, 1)
		time.Sleep(silence)
		require.True(t, s.HasInbox(), "a Read that waits")
		write(t, client, "y")
		require.NoError(t, <-errs)
		use()
		time.Sleep(silence)
		require.False(t, s.HasInbox())
	})
}

// TestForgedRecordDoesNotKeepCiphersOfSilentSession: a record that is not authentic makes
// a silent session larger for some time at most.
func TestForgedRecordDoesNotKeepCiphersOfSilentSession(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		conns := echoServer(t, l.Listener)
		client := l.dial(t, netip.AddrPort{})
		dtlstest.Echo(t, client, "x")
		s := <-conns
		l.SweepAll(time.Now().Add(time.Hour))
		require.Zero(t, l.SweeperConns())
		for _, size := range []int{3, 40} {
			before := l.Stats().Forged
			client.Send(t, dtlstest.Unauthentic(record.TypeApplicationData, 1000, size))
			synctest.Wait()
			require.Equal(t, before+1, l.Stats().Forged)
			assert.False(t, s.HasCiphers())
			assert.Equal(t, size == 40, s.HasBuiltCiphers(), "a record of 3 bytes is too short to be opened")
		}
		time.Sleep(2 * time.Minute)
		assert.False(t, s.HasBuiltCiphers())
		assert.Zero(t, l.WarmConns())
		dtlstest.Echo(t, client, "y")
	})
}

// TestSweeperLetsGoOfEndedSessions, however many come and go between two of its turns.
func TestSweeperLetsGoOfEndedSessions(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{Sessions: 1}, func(t *testing.T, l memory) {
		const sessions = 150
		most := 0
		for range sessions {
			client, c := l.connect(t)
			require.NoError(t, c.Close())
			client.Kill()
			most = max(most, l.SweeperConns())
		}
		assert.Less(t, most, sessions*2/3)
		assert.Greater(t, most, 1)
	})
}

// TestUnreadOfReplacedSessionIsReleased: a replaced session, which is in one piece of
// memory with its successor, can still be read. What is not read is gone when it is
// closed.
func TestUnreadOfReplacedSessionIsReleased(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		client, s := l.connect(t)
		for range 10 {
			write(t, client, string(make([]byte, 1200)))
		}
		synctest.Wait()
		require.Equal(t, 10, s.Unread())
		client.Kill()
		l.dial(t, s.Peer())
		_, err := l.Accept()
		require.NoError(t, err)
		require.Equal(t, dtlsserver.Replaced, s.EndReason())
		assert.Len(t, read(t, s), 1200, "it can still be read")
		require.NoError(t, s.Close())
		l.SweepAll(time.Now().Add(time.Hour))
		assert.False(t, s.HasInbox())
		_, err = s.Read(make([]byte, 2000))
		assert.ErrorIs(t, err, net.ErrClosed)
	})
}

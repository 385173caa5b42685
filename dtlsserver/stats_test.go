// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestReasonIsOneWord: a failed handshake and a refused ClientHello are told by the same word
// in Stats, in the log and by Refusals.
func TestReasonIsOneWord(t *testing.T) {
	t.Parallel()
	var log dtlstest.LogBuffer
	inBubble(t, dtlsserver.Config{Handshakes: 2, HandshakesPerSource: -1, Logger: log.Logger(), HandshakeTimeout: 10 * time.Second}, func(t *testing.T, l memory) {
		for n := range 3 {
			l.occupy(t, n)
		}
		synctest.Wait()
		s := l.Stats()
		require.EqualValues(t, 1, s.NoRoom)
		require.Equal(t, 2, s.HalfOpen)
		assert.Equal(t, []dtlsserver.HandshakeNetwork{{Network: netip.MustParsePrefix("10.0.0.0/24"), Handshakes: 2}}, l.HandshakeNetworks())
		require.Len(t, l.Refusals(), 1)
		r := l.Refusals()[0]
		assert.Equal(t, dtlsserver.HelloRefusal, r.Kind)
		assert.Equal(t, "no_room", r.Word)
		time.Sleep(2 * time.Second)
		assert.Contains(t, log.String(), `reason=no_room`)

		time.Sleep(20 * time.Second)
		require.EqualValues(t, 3, l.Stats().TimedOut, "the one that has waited, too")
		assert.Empty(t, l.HandshakeNetworks())
		r = l.Refusals()[0]
		assert.Equal(t, dtlsserver.HandshakeResult, r.Kind)
		assert.Equal(t, "timed_out", r.Word)
		assert.Contains(t, log.String(), `reason=timed_out error=`)
	})
}

// TestClosingIsCounted: a ClientHello that comes while Shutdown waits is refused for that.
func TestClosingIsCounted(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		_, _ = l.connect(t)
		go func() { _ = l.Shutdown(t.Context()) }()
		synctest.Wait()
		l.occupy(t, 1)
		synctest.Wait()
		assert.EqualValues(t, 1, l.Stats().Closing)
		assert.Equal(t, "closing", l.Refusals()[0].Word)
		require.NoError(t, l.Close())
	})
}

// TestSessionTimes: how old a session was when it ended, and for how long it had not been used.
func TestSessionTimes(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		began := time.Now()
		client, s := l.connect(t)
		assert.WithinDuration(t, began, s.Established(), time.Second)
		time.Sleep(2 * time.Hour)
		write(t, client, "x")
		synctest.Wait()
		used := time.Now()
		assert.Equal(t, used, s.LastUsed())
		time.Sleep(5 * time.Minute)
		assert.Equal(t, used, s.LastUsed())
		require.NoError(t, s.Close())
		stats := l.Stats()
		age, idle := s.LastUsed().Add(5*time.Minute).Sub(s.Established()), 5*time.Minute
		assert.Equal(t, age, stats.SessionAges.Sum)
		assert.Equal(t, idle, stats.SessionIdles.Sum)
		assert.EqualValues(t, 1, stats.SessionAges.Counts[5], "up to 6 h")
		assert.Equal(t, 6*time.Hour, stats.SessionAges.Bounds()[5])
		assert.EqualValues(t, 1, stats.SessionIdles.Counts[3], "up to 10 min")
		assert.Equal(t, 10*time.Minute, stats.SessionIdles.Bounds()[3])
		assert.Equal(t, 50*time.Millisecond, stats.HandshakeTimes.Bounds()[0])
		assert.Equal(t, 1024, stats.MaxEstablished)
		assert.Equal(t, 1000, stats.MaxHalfOpen)
	})
}

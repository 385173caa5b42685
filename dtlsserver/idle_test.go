// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestIdleSessionExpires: what the client sends and what the server sends is use.
func TestIdleSessionExpires(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{IdleTimeout: time.Minute}, func(t *testing.T, l memory) {
		client, s := l.connect(t)
		for range 5 {
			time.Sleep(50 * time.Second)
			write(t, client, "alive")
			synctest.Wait()
		}
		require.Equal(t, dsm.StateEstablished, s.State())
		time.Sleep(50 * time.Second)
		_, err := s.Write([]byte("what the server sends is use, too"))
		require.NoError(t, err)
		time.Sleep(50 * time.Second)
		require.Equal(t, dsm.StateEstablished, s.State())
		time.Sleep(11 * time.Second)
		require.Equal(t, dsm.StateNone, s.State())
		require.EqualValues(t, 1, l.Stats().Expired)
		_, err = s.Write(nil)
		require.ErrorIs(t, err, dtlsserver.ErrExpired)
	})
}

// TestForgeriesAreNoUse: what anybody can send does not keep a session alive.
func TestForgeriesAreNoUse(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{IdleTimeout: time.Minute}, func(t *testing.T, l memory) {
		client, s := l.connect(t)
		write(t, client, "x")
		synctest.Wait()
		var last []byte
		client.Transport.SetOut(func(datagram []byte) bool {
			last = append([]byte(nil), datagram...)
			return true
		})
		write(t, client, "y")
		client.Transport.SetOut(nil)
		for range 4 {
			time.Sleep(14 * time.Second)
			client.Send(t, dtlstest.Unauthentic(record.TypeApplicationData, 100, 40))
			client.Send(t, dtlstest.Plaintext(record.TypeApplicationData, 100, 'x'))
			client.Send(t, last) // a replay
			client.Send(t, dtlstest.Hello(1))
		}
		time.Sleep(5 * time.Second)
		stats := l.Stats()
		assert.GreaterOrEqual(t, stats.Forged, uint64(4))
		assert.GreaterOrEqual(t, stats.Replayed, uint64(4))
		assert.Equal(t, dtlsserver.Expired, s.EndReason())
	})
}

// TestExpiryKeepsItsTime: sessions end within a quarter of the timeout after it, and no
// longer than a second.
func TestExpiryKeepsItsTime(t *testing.T) {
	t.Parallel()
	for _, timeout := range []time.Duration{10 * time.Millisecond, time.Second, time.Hour} {
		inBubble(t, dtlsserver.Config{IdleTimeout: timeout}, func(t *testing.T, l memory) {
			client, s := l.connect(t)
			_, other := l.connect(t)
			begin := time.Now()
			write(t, client, "x")
			done := s.Done()
			<-done
			took := time.Since(begin)
			assert.GreaterOrEqual(t, took, timeout)
			assert.LessOrEqual(t, took, timeout+min(timeout/4, time.Second)+time.Millisecond)
			<-other.Done()
			synctest.Wait() // the end is counted after that
			assert.EqualValues(t, 2, l.Stats().Expired)
		})
	}
}

func TestSessionsNeverExpireByDefault(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		client, s := l.connect(t)
		time.Sleep(3 * 24 * time.Hour)
		assert.Zero(t, s.EndReason())
		write(t, client, "still there")
		assert.Equal(t, "still there", read(t, s))
	})
}

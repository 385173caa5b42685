// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"net/netip"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/durable"
	"github.com/go-dsm/dsm/resume"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestEndedSessionClearsNoOther: its slot has another session.
func TestEndedSessionClearsNoOther(t *testing.T) {
	t.Parallel()
	store, err := resume.New(resume.Config{})
	require.NoError(t, err)
	cfg := exactJournalOn(t.TempDir(), durable.OS)
	cfg.Sessions, cfg.Handshakes, cfg.Resumption = 1, 1, store
	inBubble(t, cfg, func(t *testing.T, l memory) {
		client := l.dial(t, netip.AddrPort{})
		c1, err := l.AcceptConn(t.Context())
		require.NoError(t, err)
		require.NoError(t, c1.SetSessionData([]byte("one")))
		flushed()
		l.connect(t) // evicts
		require.Equal(t, dtlsserver.Evicted, c1.EndReason())
		_, other := l.connect(t)
		require.Equal(t, c1.Slot(), other.Slot())
		flushed()
		require.NoError(t, c1.SetSessionData([]byte("two")))
		flushed()
		l.Crash()
		next := l.successor(t, cfg)
		assert.Equal(t, 1, next.Recovered().Restored)
		assert.Equal(t, []netip.AddrPort{other.Peer()}, peers(next.Listener))
		client.Kill()
	})
}

// TestNewestSessionOfPeerIsRecovered when the disk has not learned that an earlier one has
// ended.
func TestNewestSessionOfPeerIsRecovered(t *testing.T) {
	t.Parallel()
	disk := &faultyDisk{FS: durable.OS}
	cfg := exactJournalOn(t.TempDir(), disk)
	cfg.Journal.BytesPerSecond = 1 // one entry in an interval
	cfg.Sessions = 4
	inBubble(t, cfg, func(t *testing.T, l memory) {
		a := netip.MustParseAddrPort("192.0.2.77:1000")
		old := l.dial(t, a)
		c, err := l.AcceptConn(t.Context())
		require.NoError(t, err)
		slot := c.Slot()
		for range 5 {
			flushed()
		}
		var broken atomic.Bool
		broken.Store(true)
		disk.sync = func() error {
			if broken.Load() {
				return errDisk
			}
			return nil
		}
		write(t, old, "use")
		flushed()
		old.Kill()
		require.NoError(t, c.Close())
		_, other := l.connect(t) // takes the slot
		require.Equal(t, slot, other.Slot())
		client := l.dial(t, a)
		c, err = l.AcceptConn(t.Context())
		require.NoError(t, err)
		_, err = other.Write([]byte("use"))
		require.NoError(t, err)
		next := c.NextSequence()
		before := l.Stats().JournalBytes
		broken.Store(false)
		for l.Stats().JournalBytes == before {
			time.Sleep(dtlsserver.DefaultJournalInterval / 2)
			synctest.Wait()
		}
		l.Crash()
		cfg.Journal.BytesPerSecond = 0
		after := l.successor(t, cfg)
		assert.Equal(t, dtlsserver.RestoreStats{Sessions: 2, Restored: 1, Present: 1}, after.Recovered())
		taken, err := after.AcceptConn(t.Context())
		require.NoError(t, err)
		assert.Equal(t, a, taken.Peer())
		assert.Greater(t, taken.NextSequence(), next)
		write(t, client, "after")
		assert.Equal(t, "after", read(t, taken))
	})
}

// TestHangingDiskTakesNoMemory: what waits for it is bounded, and Close waits a second.
func TestHangingDiskTakesNoMemory(t *testing.T) {
	t.Parallel()
	disk := &faultyDisk{FS: durable.OS}
	cfg := exactJournalOn(t.TempDir(), disk)
	cfg.Sessions = 2
	inBubble(t, cfg, func(t *testing.T, l memory) {
		client, c := l.connect(t)
		other, _ := l.connect(t)
		flushed()
		state, err := c.Detach()
		require.NoError(t, err)
		hang := make(chan struct{})
		disk.sync = func() error { <-hang; return nil }
		write(t, other, "use")
		flushed() // it hangs from now on
		for range 2000 {
			c, err = l.Attach(state)
			require.NoError(t, err)
			state, err = c.Detach() // which the journal does not have, so it does not wait
			require.NoError(t, err)
		}
		c, err = l.Attach(state)
		require.NoError(t, err)
		assert.EqualValues(t, 1, l.Stats().JournalErrors)
		write(t, client, "use")
		assert.Equal(t, "use", read(t, c))
		disk.sync = nil
		close(hang)
		flushed()
		flushed()
		l.Crash()
		assert.Equal(t, 2, l.successor(t, cfg).Recovered().Restored)
	})
}

// TestRestoredSessionIsUsedWhileJournalIsRead by the user of OnRestored.
func TestRestoredSessionIsUsedWhileJournalIsRead(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		l.connect(t)
		stream := save(t, l)
		cfg, _, failed := restoring(t, exactJournalOn(t.TempDir(), durable.OS), stream)
		done := make(chan error, 1)
		cfg.OnRestored = func(c *dtlsserver.Conn) {
			go func() {
				var err error
				for range 100 {
					_, err = c.Write([]byte("x"))
				}
				done <- err
			}()
		}
		next := l.successor(t, cfg)
		require.NoError(t, *failed)
		require.NoError(t, <-done)
		flushed()
		next.Crash()
		assert.Equal(t, 1, next.successor(t, exactJournalOn(cfg.Journal.Dir, durable.OS)).Recovered().Restored)
	})
}

// TestLockedJournalKeepsSnapshot: the journal is another listener's still, and the snapshot is
// not claimed.
func TestLockedJournalKeepsSnapshot(t *testing.T) {
	t.Parallel()
	dir, path := t.TempDir(), filepath.Join(t.TempDir(), "sessions")
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		l.connect(t)
		_, err := l.SaveFile(t.Context(), path, saveKey)
		require.NoError(t, err)
		other := listenOn(t, l.network.Listen(netip.MustParseAddrPort("192.0.2.9:5684")), psk(), exactJournalOn(dir, durable.OS))
		cfg := exactJournalOn(dir, durable.OS)
		var stats dtlsserver.RestoreStats
		cfg.Restore = func(l *dtlsserver.Listener) (err error) {
			stats, err = l.RestoreFile(t.Context(), path, saveKey)
			return err
		}
		socket := l.network.Listen(l.addr())
		_, err = newListener(socket, psk(), cfg)
		require.ErrorIs(t, err, durable.ErrLocked)
		require.NoError(t, socket.Close())
		require.NoError(t, other.Close())
		l.successor(t, cfg)
		assert.Equal(t, 1, stats.Restored)
	})
}

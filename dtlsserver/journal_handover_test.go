// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"io"
	"testing"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/durable/crashfs"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A session that somebody else has must not be in the journal.

// TestDetachedSessionIsNotRecovered though the listener crashes at once.
func TestDetachedSessionIsNotRecovered(t *testing.T) {
	t.Parallel()
	cfg := exactJournalOn(nonceJournal, crashfs.New(1))
	inBubble(t, cfg, func(t *testing.T, l memory) {
		_, c := l.connect(t)
		_, stays := l.connect(t)
		flushed()
		_, err := c.Detach()
		require.NoError(t, err)
		l.Crash()
		next := l.successor(t, cfg)
		assert.Equal(t, 1, next.Recovered().Restored)
		assert.Equal(t, stays.Peer(), peers(next.Listener)[0])
	})
}

// TestHandoverFailsWhileJournalIsBroken: Detach, Save and SaveFile. The sessions go on, and
// once the disk is well they are in the journal again.
func TestHandoverFailsWhileJournalIsBroken(t *testing.T) {
	t.Parallel()
	disk := crashfs.New(1)
	cfg := exactJournalOn(nonceJournal, disk)
	inBubble(t, cfg, func(t *testing.T, l memory) {
		client, c := l.connect(t)
		flushed()
		for range 2 { // before and after the journal has noticed
			disk.FailSync(errDisk)
			_, err := c.Detach()
			require.Error(t, err)
			_, err = l.Save(t.Context(), io.Discard, saveKey)
			require.ErrorIs(t, err, errDisk)
			_, err = l.SaveFile(t.Context(), nonceSnapshot, saveKey)
			require.ErrorIs(t, err, errDisk)
			write(t, client, "still here")
			require.Equal(t, "still here", read(t, c))
			_, err = c.Write([]byte("answer"))
			require.NoError(t, err)
			flushed()
		}
		disk.FailSync(nil)
		time.Sleep(2 * time.Minute) // the longest time until the journal is tried again
		l.Crash()
		assert.Equal(t, 1, l.successor(t, cfg).Recovered().Restored)
	})
}

// TestFileThatIsRestoredMeanwhileIsNotTheSaversAnyMore: if another listener has the sessions
// before SaveFile has failed, the listener is closed.
func TestFileThatIsRestoredMeanwhileIsNotTheSaversAnyMore(t *testing.T) {
	t.Parallel()
	disk := &nonceDisk{FS: crashfs.New(1)}
	var cfg dtlsserver.Config
	dtlsserver.SetDisk(&cfg, disk, nil)
	inBubble(t, cfg, func(t *testing.T, l memory) {
		l.connect(t)
		const syncDir = 4 // after the file was created, synced and renamed
		restored := 0
		disk.before(syncDir, func() {
			other := cfg
			other.Restore = func(l *dtlsserver.Listener) error {
				stats, err := l.RestoreFile(t.Context(), nonceSnapshot, saveKey)
				restored = stats.Restored
				return err
			}
			listenOn(t, l.network.Listen(secondAddr), psk(), other)
			disk.failAt(1, 1)
		})
		_, err := l.SaveFile(t.Context(), nonceSnapshot, saveKey)
		require.ErrorIs(t, err, errDisk)
		require.Equal(t, 1, restored)
		assert.True(t, l.IsClosed())
	})
}

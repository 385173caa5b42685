// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/resume"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// slowWriter takes a second for each Write. The one with number fails, counted from 1, has no room.
type slowWriter struct{ writes, fails int }

var errFull = errors.New("no space left")

func (w *slowWriter) Write(p []byte) (int, error) {
	time.Sleep(time.Second)
	if w.writes++; w.writes == w.fails {
		return 0, errFull
	}
	return len(p), nil
}

// TestSavedSessionDoesNotExpire while Save writes, nor is it closed for Config.MinAvailable:
// whoever restores it decides.
func TestSavedSessionDoesNotExpire(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]dtlsserver.Config{
		"idle":          {IdleTimeout: 4 * time.Second},
		"min available": {Sessions: 1, MinAvailable: 1, MinAvailableAfter: 4 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var ends []dtlsserver.Reason
			cfg.OnEnd = func(_ *dtlsserver.Conn, why dtlsserver.Reason) { ends = append(ends, why) }
			inBubble(t, cfg, func(t *testing.T, l memory) {
				l.connect(t)
				time.Sleep(2500 * time.Millisecond)
				stats, err := l.Save(t.Context(), &slowWriter{}, saveKey)
				require.NoError(t, err)
				assert.Equal(t, 1, stats.Sessions)
				assert.EqualValues(t, 1, l.Stats().Detached)
				assert.Equal(t, []dtlsserver.Reason{dtlsserver.Detached}, ends)
			})
		})
	}
}

// TestSessionExpiresAfterFailedSave, and its peer is told.
func TestSessionExpiresAfterFailedSave(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{IdleTimeout: 4 * time.Second}, func(t *testing.T, l memory) {
		client, _ := l.connect(t)
		time.Sleep(2500 * time.Millisecond)
		_, err := l.Save(t.Context(), &slowWriter{fails: 2}, saveKey)
		require.ErrorIs(t, err, errFull)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		assert.EqualValues(t, 1, l.Stats().Expired)
		dtlstest.RequireEOF(t, client)
	})
}

// TestInterruptedPeerIsToldDuringSave: a session that is about to end when Save comes is not
// saved, and its peer is told.
func TestInterruptedPeerIsToldDuringSave(t *testing.T) {
	t.Parallel()
	skipResuming(t, true)
	dir := t.TempDir()
	cfg := dtlsserver.Config{Resumption: newStore(t, resume.Config{}), Journal: journalIn(dir, dtlsserver.CloseSessions)}
	inBubble(t, cfg, func(t *testing.T, l memory) {
		client, _ := l.connect(t)
		flushed()
		l.Crash()
		cfg.Resumption, _ = slowStore(t, untilTimeout)
		next := l.successor(t, cfg)
		write(t, client, "after")
		synctest.Wait() // it is being stored
		require.Zero(t, next.Stats().Interrupted)
		stats, err := next.Save(t.Context(), io.Discard, saveKey)
		require.NoError(t, err)
		assert.Zero(t, stats.Sessions)
		assert.Zero(t, next.Stats().Detached)
		assert.EqualValues(t, 1, next.Stats().Interrupted)
		dtlstest.RequireEOF(t, client)
	})
}

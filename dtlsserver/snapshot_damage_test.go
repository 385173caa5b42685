// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"bytes"
	"testing"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestDamagedSnapshotRestoresNothing: any bit of the snapshot's ends that is flipped, and any
// length at which the snapshot is cut, is an error.
func TestDamagedSnapshotRestoresNothing(t *testing.T) {
	t.Parallel()
	const sessions, ends = 40, 2 << 10
	stride := 1
	if dtlstest.RaceEnabled || testing.Short() {
		stride = 9
	}
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		for range sessions {
			l.connect(t)
		}
		stream := save(t, l)
		require.Greater(t, len(stream), 2*ends)
		cfg := dtlsserver.Config{OnRestored: func(*dtlsserver.Conn) { t.Error("a session was announced") }}
		tried := 0
		cfg.Restore = func(next *dtlsserver.Listener) error {
			refuse := func(damaged []byte, what string, where int) {
				tried++
				stats, err := next.Restore(t.Context(), bytes.NewReader(damaged), saveKey)
				require.Error(t, err, "%s %d", what, where)
				require.Zero(t, stats)
				require.Zero(t, next.Stats().Established)
				require.Empty(t, peers(next))
			}
			for n := range stream {
				if n < ends || n >= len(stream)-ends || n%101 == 0 {
					refuse(stream[:n], "cut at", n)
				}
			}
			damaged := bytes.Clone(stream)
			for i := range stream {
				if i >= ends/2 && i < len(stream)-ends/2 {
					continue
				}
				for bit := range 8 {
					if (8*i+bit)%stride != 0 {
						continue
					}
					damaged[i] ^= 1 << bit
					refuse(damaged, "bit", 8*i+bit)
					damaged[i] ^= 1 << bit
				}
			}
			refuse(append(damaged, 0), "one byte more than", len(damaged))
			return nil
		}
		next := l.successor(t, cfg)
		s := next.Stats()
		assert.Equal(t, s.Restored, s.Detached)
		t.Logf("%d damaged snapshots of %d bytes; sessions taken over and given up: %d", tried, len(stream), s.Restored)

		// The same stream, whole, is restored.
		cfg, stats, failed := restoring(t, dtlsserver.Config{}, stream)
		require.NoError(t, next.Close())
		l.successor(t, cfg)
		require.NoError(t, *failed)
		assert.Equal(t, dtlsserver.RestoreStats{Sessions: sessions, Restored: sessions}, *stats)
	})
}

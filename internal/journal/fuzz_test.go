// SPDX-License-Identifier: MIT

package journal_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-dsm/dsm/internal/journal"
	"github.com/go-dsm/dsm/internal/sealed"
)

// FuzzRecover replaces a file of the small journal, or adds one, and checks that the others are
// recovered, with a beginning of the replaced one at most.
func FuzzRecover(f *testing.F) {
	ring := newRing(f, 1)
	fs, superseded := smallJournal(f, ring)
	files := content(f, fs)
	for number := range uint8(6) {
		for _, data := range []string{files["journal.2"], files["journal.3"], string(superseded), files["journal.3"][:200], "dsmseal\x01\x02"} {
			f.Add([]byte(data), number)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, number uint8) {
		name := fmt.Sprint("journal.", number%6)
		fs := with(t, fs, name, data)
		l, err := journal.Open(fs, dir, ring)
		require.NoError(t, err)
		got, r, err := recoverValues(l)
		if err != nil {
			require.Greater(t, len(data), sealed.HeaderSize)
			require.Empty(t, got)
			return
		}
		requireOneOf(t, prefixes(name), got, "%d bytes as %s", len(data), name)
		require.LessOrEqual(t, len(r.Damage), 1)

		require.NoError(t, l.Start(func(b *journal.Batch) error {
			for slot, state := range got {
				b.SetState(slot, []byte(state))
			}
			return nil
		}))
		again, r, err := recoverValues(l)
		require.NoError(t, err)
		require.Equal(t, got, again)
		require.Equal(t, journal.Recovery{Files: 1, Slots: len(got)}, r)
	})
}

// SPDX-License-Identifier: MIT

package record

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestWindowEdges(t *testing.T) {
	for _, asked := range []int{-1, 0, 1, 64, 65, 128, 1000} {
		w := NewWindow(asked)
		size := w.size()
		assert.GreaterOrEqual(t, size, uint64(64))
		assert.GreaterOrEqual(t, int(size), asked)
		const top = 1000
		require.True(t, w.Fresh(0))
		w.See(top + size)
		assert.False(t, w.Fresh(top+size), "seen")
		assert.True(t, w.Fresh(top+1), "the oldest in the window")
		assert.False(t, w.Fresh(top), "older than the window")
		w.See(top + 1)
		assert.False(t, w.Fresh(top+1))
		assert.True(t, w.Fresh(top+2))
		assert.True(t, w.Fresh(MaxSequence))
		w.See(MaxSequence)
		assert.False(t, w.Fresh(top+size))
		assert.True(t, w.Fresh(MaxSequence-1))
	}
}

// FuzzWindow compares with a set of all numbers seen.
func FuzzWindow(f *testing.F) {
	f.Add(uint16(64), []byte{0, 0, 1, 255, 3, 0, 0, 64})
	f.Add(uint16(200), []byte{1, 0, 255, 255, 0, 200, 0, 201})
	f.Fuzz(func(t *testing.T, size uint16, steps []byte) {
		w := NewWindow(int(size))
		seen := map[uint64]bool{}
		var highest, at uint64
		none := true
		for ; len(steps) >= 2; steps = steps[2:] {
			// A signed step from the last number.
			step := int64(int16(binary.BigEndian.Uint16(steps)))
			if next := int64(at) + step; next >= 0 {
				at = uint64(next)
			}
			fresh := none || !seen[at] && at+w.size() > highest
			require.Equal(t, fresh, w.Fresh(at), "number %d, highest %d", at, highest)
			if fresh {
				w.See(at)
				seen[at] = true
				highest = max(highest, at)
				none = false
			}
		}
	})
}

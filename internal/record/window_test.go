// SPDX-License-Identifier: MIT

package record

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestWindowRejectsMarkedAndOldNumbers(t *testing.T) {
	for _, minSize := range []int{-1, 0, 1, 64, 65, 128, 1000} {
		w := NewWindow(minSize)
		size := w.size()
		assert.GreaterOrEqual(t, size, uint64(64))
		assert.GreaterOrEqual(t, int(size), minSize)
		const old = 1000 // the number just before the window, once old+size is marked
		require.True(t, w.Check(0))
		w.Mark(old + size)
		assert.False(t, w.Check(old+size), "marked")
		assert.True(t, w.Check(old+1), "the oldest in the window")
		assert.False(t, w.Check(old), "older than the window")
		w.Mark(old + 1)
		assert.False(t, w.Check(old+1))
		assert.True(t, w.Check(old+2))
		assert.True(t, w.Check(MaxSequence))
		w.Mark(MaxSequence)
		assert.False(t, w.Check(old+size))
		assert.True(t, w.Check(MaxSequence-1))
	}
}

// FuzzWindow compares a window with the set of all numbers marked.
func FuzzWindow(f *testing.F) {
	f.Add(uint16(64), []byte{0, 0, 1, 255, 3, 0, 0, 64})
	f.Add(uint16(200), []byte{1, 0, 255, 255, 0, 200, 0, 201})
	f.Fuzz(func(t *testing.T, size uint16, steps []byte) {
		w := NewWindow(int(size))
		marked := map[uint64]bool{}
		var highest, sequence uint64
		for ; len(steps) >= 2; steps = steps[2:] {
			// Two bytes are a signed distance from the previous number.
			step := int64(int16(binary.BigEndian.Uint16(steps)))
			if next := int64(sequence) + step; next >= 0 {
				sequence = uint64(next)
			}
			acceptable := len(marked) == 0 || !marked[sequence] && sequence+w.size() > highest
			require.Equal(t, acceptable, w.Check(sequence), "number %d, highest %d", sequence, highest)
			if acceptable {
				w.Mark(sequence)
				marked[sequence] = true
				highest = max(highest, sequence)
			}
		}
	})
}

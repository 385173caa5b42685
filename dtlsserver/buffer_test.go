// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"slices"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestBufferCostsWhatItOccupies: the room that the allocator gives, and the overhead. A
// pooled buffer has at most twice the room that is needed, except the smallest.
func TestBufferCostsWhatItOccupies(t *testing.T) {
	t.Parallel()
	assert.LessOrEqual(t, int(unsafe.Sizeof(buffer{})+2*unsafe.Sizeof(&buffer{})), bufferOverhead)
	for size := range maxDatagram + 1 {
		b := newBuffer(size)
		require.GreaterOrEqual(t, len(b.room), size)
		require.Equal(t, cap(b.room), len(b.room))
		require.Equal(t, len(b.room)+bufferOverhead, b.cost())
		require.LessOrEqual(t, len(b.room), max(2*size, bufferSizes[0]))
		require.Equal(t, size <= bufferSizes[len(bufferSizes)-1], slices.Contains(bufferSizes[:], len(b.room)))
	}
}

// TestPooledSizesAreThoseOfTheAllocator: otherwise a buffer would occupy more than it has
// room for.
func TestPooledSizesAreThoseOfTheAllocator(t *testing.T) {
	t.Parallel()
	assert.True(t, slices.IsSorted(bufferSizes[:]))
	for _, size := range bufferSizes {
		assert.Equal(t, size, cap(slices.Grow([]byte(nil), size)))
	}
}

// TestOnlyPooledSizesReachPools: a pool gives what it promises.
func TestOnlyPooledSizesReachPools(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 63, 100, 2047, 2049, 1 << 14} {
		(&buffer{room: make([]byte, size)}).release()
	}
	for _, size := range bufferSizes {
		for range 3 {
			require.Len(t, newBuffer(size).room, size)
		}
	}
}

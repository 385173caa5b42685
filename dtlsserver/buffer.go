// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"slices"
	"sync"
)

// buffer is room for a datagram.
type buffer struct {
	b    []byte // the datagram
	room []byte
}

// bufferSizes are the sizes of the pooled buffers, in bytes. Each is a size of the
// runtime's allocator, so that a buffer occupies what it has room for.
var bufferSizes = [...]int{64, 128, 256, 512, 1024, 1536, 2048}

// bufferPools has a pool for each of bufferSizes.
var bufferPools [len(bufferSizes)]sync.Pool

// poolOf returns the index of the smallest of bufferSizes that is not less than size, or
// len(bufferSizes).
func poolOf(size int) int {
	i := 0
	for i < len(bufferSizes) && bufferSizes[i] < size {
		i++
	}
	return i
}

// newBuffer returns a buffer with room for at least size bytes. Larger ones than those of
// the pools are rare, and are allocated.
func newBuffer(size int) *buffer {
	i := poolOf(size)
	if i == len(bufferSizes) {
		room := slices.Grow([]byte(nil), size)
		return &buffer{room: room[:cap(room)]} // what the allocator gives
	}
	if pooled, ok := bufferPools[i].Get().(*buffer); ok {
		return pooled
	}
	return &buffer{room: make([]byte, bufferSizes[i])}
}

// release gives the buffer back to its pool, if it is from one. It must not be used any more.
func (b *buffer) release() {
	if i := poolOf(len(b.room)); i < len(bufferSizes) && len(b.room) == bufferSizes[i] {
		b.b = nil
		bufferPools[i].Put(b)
	}
}

// cost returns the bytes of memory that the buffer occupies while it is queued.
func (b *buffer) cost() int { return len(b.room) + bufferOverhead }

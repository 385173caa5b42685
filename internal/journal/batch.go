// SPDX-License-Identifier: MIT

package journal

import (
	"encoding/binary"
	"errors"

	"github.com/go-dsm/dsm/internal/sealed"
)

// The kinds of entries.
const (
	entryState    = 1 // of a slot, which has no update then
	entryUpdate   = 2 // of a slot's state
	entryClear    = 3 // nothing is in a slot
	entryComplete = 4 // older files count no more
)

const (
	entryHeader = 1 + 4 + 4 // kind, slot, length
	chunkSize   = 64 << 10  // bytes at which a chunk ends
)

// Batch is entries that are appended together. The zero Batch is empty.
type Batch struct {
	writer *sealed.Writer // of Start: chunks are written as they are full
	err    error          // of it
	buf    []byte
	ends   []int // of the chunks in buf, except the last one
}

// SetState gives a slot a state, of less than sealed.MaxChunk - 128 KiB.
func (b *Batch) SetState(slot uint32, state []byte) { b.add(entryState, slot, state) }

// Update gives a slot's state an update, in place of the one before.
func (b *Batch) Update(slot uint32, update []byte) { b.add(entryUpdate, slot, update) }

// Clear says that nothing is in a slot any more.
func (b *Batch) Clear(slot uint32) { b.add(entryClear, slot, nil) }

// Len returns how many bytes the entries take.
func (b *Batch) Len() int { return len(b.buf) }

// Reset makes the Batch empty.
func (b *Batch) Reset() { b.buf, b.ends = b.buf[:0], b.ends[:0] }

func (b *Batch) add(kind byte, slot uint32, data []byte) {
	start := 0
	if n := len(b.ends); n > 0 {
		start = b.ends[n-1]
	}
	if len(b.buf)-start >= chunkSize {
		if b.writer != nil {
			b.err = errors.Join(b.err, b.flush())
		} else {
			b.ends = append(b.ends, len(b.buf))
		}
	}
	b.buf = append(b.buf, kind)
	b.buf = binary.BigEndian.AppendUint32(b.buf, slot)
	b.buf = binary.BigEndian.AppendUint32(b.buf, uint32(len(data)))
	b.buf = append(b.buf, data...)
}

// flush writes what there is to the writer of Start.
func (b *Batch) flush() error {
	err := errors.Join(b.err, b.writeTo(b.writer))
	b.Reset()
	return err
}

func (b *Batch) writeTo(w *sealed.Writer) error {
	start := 0
	for _, end := range append(b.ends, len(b.buf)) {
		if start == end {
			continue
		}
		if err := w.WriteChunk(b.buf[start:end]); err != nil {
			return err
		}
		start = end
	}
	return nil
}

// SPDX-License-Identifier: MIT

package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/go-dsm/dsm/internal/durable"
	"github.com/go-dsm/dsm/internal/sealed"
	"github.com/go-dsm/dsm/keyring"
)

// Recovery is what Recover has found.
type Recovery struct {
	Files, Slots int
	// Damage has an error for each file that is not whole: after a crash the newest one often
	// ends torn. What is before the damage counts.
	Damage []error
}

// found is what the journal has of a slot.
type found struct {
	state, update []byte
	generation    uint64 // of the file that has the state
}

var errEntry = errors.New("journal: not an entry")

// Recover calls yield with each slot's state and update, nil if there is none. The slots are
// in their order. An error other than yield's says that a file cannot be read, is of another
// version of the format, or is sealed with a key that the keyring does not have. That file may
// have the newest entries, so the older ones must not be used without it.
func (l *Log) Recover(yield func(slot uint32, state, update []byte) error) (Recovery, error) {
	var r Recovery
	generations, err := l.generations()
	if err != nil {
		return r, err
	}
	next, err := durable.NextGeneration(l.fs, l.base())
	if err != nil {
		return r, err
	}
	slots := map[uint32]found{}
	for _, generation := range generations {
		if generation+1 < next {
			continue // an old copy, or one that could not be removed
		}
		r.Files++
		damage, err := l.readFile(generation, slots)
		if err != nil {
			return r, fmt.Errorf("%s: %w", l.path(generation), err)
		}
		if damage != nil {
			r.Damage = append(r.Damage, fmt.Errorf("%s: %w", l.path(generation), damage))
		}
	}
	r.Slots = len(slots)
	for _, slot := range slices.Sorted(maps.Keys(slots)) {
		if err := yield(slot, slots[slot].state, slots[slot].update); err != nil {
			return r, err
		}
	}
	return r, nil
}

// readFile applies the entries of a file. damage says that the file is not whole. err says that
// the file may be whole and cannot be read.
func (l *Log) readFile(generation uint64, slots map[uint32]found) (damage, err error) {
	file, err := l.fs.Open(l.path(generation))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	input := &counter{r: file}
	reader, damage := sealed.NewReader(input, l.ring, sealed.Journal)
	if damage == nil {
		damage = l.readEntries(reader, generation, slots)
	} else if isForOther(damage) {
		// A header is on the disk before anything is appended to it. One that is alone may be
		// torn, and nothing is lost with it.
		_, _ = io.Copy(io.Discard, input) // input has the error
		if input.n > sealed.HeaderSize {
			return nil, damage
		}
	}
	return damage, input.err
}

// isForOther reports whether an error of a header says that the file can be read with other
// keys or by another version of the program.
func isForOther(err error) bool {
	var unknown *keyring.UnknownKeyError
	return errors.As(err, &unknown) || errors.Is(err, sealed.ErrVersion)
}

// counter counts what is read, and has the error of the io.Reader.
type counter struct {
	r   io.Reader
	n   int
	err error // except io.EOF
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += n
	if err != nil && err != io.EOF {
		c.err = err
	}
	return n, err
}

// readEntries applies the entries of a file whose header was read. All chunks of a file are
// sealed with the key of its header, so a chunk with the ID of another key is damaged.
func (l *Log) readEntries(reader *sealed.Reader, generation uint64, slots map[uint32]found) error {
	if reader.Header().Generation != generation {
		return fmt.Errorf("journal: a file of generation %d", reader.Header().Generation)
	}
	for {
		chunk, err := reader.Next()
		if err == io.EOF || errors.Is(err, sealed.ErrTruncated) { // the ordinary end: see below
			return endOf(err, reader)
		}
		if err != nil {
			return err
		}
		for len(chunk) > 0 {
			if chunk, err = apply(chunk, generation, slots); err != nil {
				return err
			}
		}
	}
}

// endOf returns the error of a file that ends within a chunk. A file that ends after one is
// whole: it is appended to as long as its Log lives.
func endOf(err error, reader *sealed.Reader) error {
	if err == io.EOF || reader.AtBoundary() {
		return nil
	}
	return err
}

// apply applies the first entry of a chunk, and returns the rest.
func apply(chunk []byte, generation uint64, slots map[uint32]found) ([]byte, error) {
	if len(chunk) < entryHeader || uint64(len(chunk)-entryHeader) < uint64(binary.BigEndian.Uint32(chunk[5:])) {
		return nil, errEntry
	}
	slot, end := binary.BigEndian.Uint32(chunk[1:]), entryHeader+int(binary.BigEndian.Uint32(chunk[5:]))
	data := chunk[entryHeader:end]
	switch chunk[0] {
	case entryState:
		slots[slot] = found{state: bytes.Clone(data), generation: generation}
	case entryUpdate:
		if f, ok := slots[slot]; ok {
			f.update = bytes.Clone(data)
			slots[slot] = f
		}
	case entryClear:
		delete(slots, slot)
	case entryComplete:
		maps.DeleteFunc(slots, func(_ uint32, f found) bool { return f.generation < generation })
	default:
		return nil, errEntry
	}
	return chunk[end:], nil
}

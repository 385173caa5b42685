// SPDX-License-Identifier: MIT

// Package journal is an append-only log on a disk that can fail and lose power. It has, for
// each slot, a state and the newest update since. It knows nothing of what they mean.
//
// The directory has files of rising generations. A file is sealed (package sealed), and the
// number in its name is that in its header. A complete file has all slots, and its generation
// is claimed (package durable): those before it count no more, also if an old copy is put
// back. Whatever is lost, a later entry of a slot wins over an earlier one. What Append has
// returned nil for is not lost.
//
// That the whole directory is put back from an old copy cannot be seen here.
package journal

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/go-dsm/dsm/internal/durable"
	"github.com/go-dsm/dsm/internal/sealed"
	"github.com/go-dsm/dsm/keyring"
)

const (
	fileName = "journal" // and a dot and the generation
	lockName = "lock"
)

// Log is the journal of a directory. It is not safe for concurrent use.
type Log struct {
	fs   durable.FS
	dir  string
	ring *keyring.Ring
	lock io.Closer

	file     durable.File // that Append writes to; nil: Begin was not called, or has failed
	writer   *sealed.Writer
	previous [16]byte // ID of the stream before
	current  uint64   // generation of file
	err      error    // of an Append
}

// Open takes the lock of a directory, which exists. The error is durable.ErrLocked if another
// Log has it.
func Open(fs durable.FS, dir string, ring *keyring.Ring) (*Log, error) {
	lock, err := fs.Lock(filepath.Join(dir, lockName))
	if err != nil {
		return nil, err
	}
	return &Log{fs: fs, dir: dir, ring: ring, lock: lock}, nil
}

// Start begins with a new complete file, which has the entries that write appends. When it
// returns nil the file is durable, and what older files have counts no more. Begin follows.
func (l *Log) Start(write func(b *Batch) error) error {
	l.closeFile() // what would be appended to it would not count
	generation, err := l.nextGeneration()
	if err != nil {
		return err
	}
	var writer *sealed.Writer
	err = durable.WriteFile(l.fs, l.path(generation), func(w io.Writer) (err error) {
		writer, err = sealed.NewWriter(w, l.ring, sealed.Header{Kind: sealed.Journal, Generation: generation, Previous: l.previous})
		if err != nil {
			return err
		}
		b := Batch{writer: writer}
		if err := write(&b); err != nil {
			return err
		}
		b.add(entryComplete, 0, nil)
		return b.flush()
	})
	if err != nil {
		return err
	}
	l.previous, l.current = writer.Header().ID, generation
	return l.supersede(generation)
}

// Begin begins a new file for Append. The older files count until Complete.
func (l *Log) Begin() error {
	l.closeFile()
	generation, err := l.nextGeneration()
	if err != nil {
		return err
	}
	file, err := l.fs.Create(l.path(generation))
	if err != nil {
		return err
	}
	l.file = file
	l.writer, err = sealed.NewWriter(file, l.ring, sealed.Header{Kind: sealed.Journal, Generation: generation, Previous: l.previous})
	if err == nil {
		err = file.Sync()
	}
	if err == nil {
		err = l.fs.SyncDir(l.dir)
	}
	if err != nil {
		l.closeFile()
		_ = l.fs.Remove(l.path(generation)) // it has no entry
		return err
	}
	l.previous, l.current, l.err = l.writer.Header().ID, generation, nil
	return nil
}

// Append writes entries. When it returns nil they are on the disk. After an error the file is
// not to be used any more: each further Append returns the error, until Begin.
func (l *Log) Append(b *Batch) error {
	if l.file == nil {
		return errors.New("journal: no file was begun")
	}
	if l.err != nil {
		return l.err
	}
	l.err = b.writeTo(l.writer)
	if l.err == nil {
		l.err = l.file.Sync()
	}
	return l.err
}

// Complete says that the file which Begin has begun has all slots, and removes the older
// ones.
func (l *Log) Complete() error {
	var b Batch
	b.add(entryComplete, 0, nil)
	if err := l.Append(&b); err != nil {
		return err
	}
	return l.supersede(l.current)
}

// Size returns how many bytes the file has that Begin has begun.
func (l *Log) Size() int64 {
	if l.writer == nil {
		return 0
	}
	return l.writer.Bytes()
}

// Close releases the lock. With retire nothing is recovered from the directory any more, once
// Close has returned nil.
func (l *Log) Close(retire bool) error {
	l.closeFile()
	var err error
	if retire {
		var generation uint64
		if generation, err = l.nextGeneration(); err == nil {
			err = l.supersede(generation)
		}
	}
	return errors.Join(err, l.lock.Close())
}

func (l *Log) closeFile() {
	if l.file != nil {
		_ = l.file.Close() // what counts was synced
	}
	l.file, l.writer = nil, nil
}

// base is the name at which generations are claimed.
func (l *Log) base() string { return filepath.Join(l.dir, fileName) }

func (l *Log) path(generation uint64) string {
	return l.base() + "." + strconv.FormatUint(generation, 10)
}

// generations returns those of the files, rising.
func (l *Log) generations() ([]uint64, error) {
	names, err := l.fs.List(l.dir)
	if err != nil {
		return nil, err
	}
	var generations []uint64
	for _, name := range names {
		decimal, ok := strings.CutPrefix(name, fileName+".")
		generation, err := strconv.ParseUint(decimal, 10, 64)
		if ok && err == nil && strconv.FormatUint(generation, 10) == decimal {
			generations = append(generations, generation)
		}
	}
	slices.SortFunc(generations, cmp.Compare[uint64])
	return generations, nil
}

// nextGeneration returns one that is higher than any in the directory, and than any that this
// Log has used.
func (l *Log) nextGeneration() (uint64, error) {
	generations, err := l.generations()
	if err != nil {
		return 0, err
	}
	next, err := durable.NextGeneration(l.fs, l.base())
	if n := len(generations); n > 0 {
		if generations[n-1] == math.MaxUint64 {
			return 0, fmt.Errorf("journal: no generation is left in %s", l.dir)
		}
		next = max(next, generations[n-1]+1)
	}
	return max(next, l.current+1), err
}

// supersede makes the files of lower generations count no more, durably, and removes them.
func (l *Log) supersede(generation uint64) error {
	if err := durable.Claim(l.fs, l.base(), generation); err != nil {
		return err
	}
	// A file that stays only takes room, until the next supersede.
	generations, _ := l.generations()
	for _, g := range generations {
		if g < generation {
			_ = l.fs.Remove(l.path(g))
		}
	}
	return nil
}

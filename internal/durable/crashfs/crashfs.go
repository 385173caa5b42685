// SPDX-License-Identifier: MIT

// Package crashfs is a file system in memory for tests, which loses power. What is lost
// is chosen at random, as badly as a real file system and disk may do:
//
//   - Of the data written to a file since its last Sync, any prefix may be left, and the
//     end of what is left may be zeroes or garbage.
//   - Each creation, renaming and removal since the last SyncDir of the directory may have
//     happened or not, whether or not others have. Of a renaming, the new name alone
//     may have been written, so that the file has both names.
//   - Data and names that were synced stay.
//
// A Sync of a file does not make its name durable. Directories exist as soon as they are
// named.
package crashfs

import (
	"errors"
	"math/rand/v2"
	"path/filepath"
	"sync"

	"github.com/go-dsm/dsm/internal/durable"
)

// ErrCrashed is the error of each operation after the loss of power.
var ErrCrashed = errors.New("crashfs: no power")

// FS is a durable.FS. It is safe for concurrent use.
type FS struct {
	mu sync.Mutex
	// mu guards the following.
	rng     *rand.Rand
	dirs    map[string]*directory
	locks   map[string]bool
	crashed bool
	ops     int // operations since New or Crash
	crashAt int // the value of ops at which the power is lost; 0: never

	writeErr           error // the error of writes when writeRoom is used up
	writeRoom          int
	syncErr            error
	lieFiles, lieNames bool
}

var _ durable.FS = (*FS)(nil)

// directory is one directory: the names that the program sees, the names that are
// durable, and the changes that lead from the latter to the former.
type directory struct {
	names, durable map[string]*node
	pending        []change
}

// change is one change of a directory that is not durable. The file n gets the name to
// and loses the name from; each name may be empty.
type change struct {
	from, to string
	n        *node
}

func (c change) apply(names map[string]*node, removeFrom bool) {
	if c.to != "" {
		names[c.to] = c.n
	}
	if c.from != "" && removeFrom {
		delete(names, c.from)
	}
}

// sync makes all changes durable.
func (d *directory) sync() {
	for _, c := range d.pending {
		c.apply(d.durable, true)
	}
	d.pending = nil
}

// node is the content of a file.
type node struct {
	data   []byte
	synced int // how much of data is durable
	// failed: a Sync failed. As on Linux, a later Sync reports success and does not
	// write what the failed one could not.
	failed bool
}

// New returns an empty file system. What a crash does is chosen by seed.
func New(seed uint64) *FS {
	return &FS{
		rng:   rand.New(rand.NewPCG(seed, 1)),
		dirs:  make(map[string]*directory),
		locks: make(map[string]bool),
	}
}

// Ops returns the number of operations up to now: each Create, Write, Sync, Rename,
// Remove, SyncDir and Lock is one.
func (fs *FS) Ops() int {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.ops
}

// CrashAfter lets the power be lost in the n-th operation from now, which may happen,
// partly happen, or not. That operation and all calls after it fail with ErrCrashed,
// except Close, which does nothing then. There is no crash if n is 0.
func (fs *FS) CrashAfter(n int) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.crashAt = 0
	if n > 0 {
		fs.crashAt = fs.ops + n
	}
}

// FailWrites lets Write fail with err when room more bytes have been written, as on a
// full disk. The write that fails writes what there is room for. With a nil error,
// writes succeed again.
func (fs *FS) FailWrites(err error, room int) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.writeErr, fs.writeRoom = err, room
}

// FailSync lets Sync and SyncDir fail with err. The content of a file whose Sync failed
// never becomes durable. With a nil error, they succeed again.
func (fs *FS) FailSync(err error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.syncErr = err
}

// Lie lets Sync (files) and SyncDir (names) report success and do nothing.
func (fs *FS) Lie(files, names bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.lieFiles, fs.lieNames = files, names
}

// Crash loses the power, if there still is some, and returns the file system as it is
// found afterwards. Several calls return several outcomes of the same crash. The
// settings for failures are not carried over.
func (fs *FS) Crash() *FS {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.crashed = true
	after := New(fs.rng.Uint64())
	for path, d := range fs.dirs {
		after.dirs[path] = fs.crashDirLocked(d)
	}
	return after
}

func (fs *FS) crashDirLocked(d *directory) *directory {
	names := make(map[string]*node, len(d.durable))
	for name, n := range d.durable {
		names[name] = n
	}
	all := fs.rng.IntN(4) // often, all changes or no change happened
	for _, c := range d.pending {
		if all == 0 || all > 1 && fs.rng.IntN(2) == 0 {
			c.apply(names, c.to == "" || fs.rng.IntN(4) > 0)
		}
	}
	after := &directory{names: make(map[string]*node), durable: make(map[string]*node)}
	found := make(map[*node]*node) // a file may have two names
	for name, n := range names {
		if found[n] == nil {
			data := fs.crashDataLocked(n)
			found[n] = &node{data: data, synced: len(data)}
		}
		after.names[name], after.durable[name] = found[n], found[n]
	}
	return after
}

// crashDataLocked returns the content of n after the loss of power.
func (fs *FS) crashDataLocked(n *node) []byte {
	data := append([]byte(nil), n.data...)
	length := fs.betweenLocked(n.synced, len(data))
	data = data[:length]
	torn := data[fs.betweenLocked(n.synced, length):]
	switch fs.rng.IntN(3) {
	case 0:
		clear(torn)
	case 1:
		for i := range torn {
			torn[i] = byte(fs.rng.Uint32())
		}
	}
	return data
}

// betweenLocked returns a number from low to high, often one of these two.
func (fs *FS) betweenLocked(low, high int) int {
	switch fs.rng.IntN(4) {
	case 0:
		return low
	case 1:
		return high
	}
	return low + fs.rng.IntN(high-low+1)
}

// dirLocked returns the directory of a file and the base name of the file.
func (fs *FS) dirLocked(path string) (*directory, string) {
	return fs.namedDirLocked(filepath.Dir(path)), filepath.Base(path)
}

func (fs *FS) namedDirLocked(path string) *directory {
	path = filepath.Clean(path)
	d := fs.dirs[path]
	if d == nil {
		d = &directory{names: make(map[string]*node), durable: make(map[string]*node)}
		fs.dirs[path] = d
	}
	return d
}

// stepLocked counts an operation. crash says that the power is lost in it: the operation
// happens if happens is set, and then fails with ErrCrashed.
func (fs *FS) stepLocked() (crash, happens bool) {
	if fs.crashed {
		return true, false
	}
	fs.ops++
	if fs.ops == fs.crashAt {
		fs.crashed = true
		return true, fs.rng.IntN(2) == 0
	}
	return false, true
}

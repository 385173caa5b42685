// SPDX-License-Identifier: MIT

package crashfs

import (
	"fmt"
	"io"
	iofs "io/fs"
	"path/filepath"
	"slices"

	"github.com/go-dsm/dsm/internal/durable"
)

// Open opens a file to read.
func (fs *FS) Open(name string) (durable.File, error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.crashed {
		return nil, ErrCrashed
	}
	d, base := fs.dirLocked(name)
	n := d.names[base]
	if n == nil {
		return nil, pathError("open", name, iofs.ErrNotExist)
	}
	return &file{fs: fs, n: n}, nil
}

// Create creates a file and opens it to write.
func (fs *FS) Create(name string) (durable.File, error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	d, base := fs.dirLocked(name)
	if !fs.crashed && d.names[base] != nil {
		return nil, pathError("create", name, iofs.ErrExist)
	}
	n := &node{}
	if err := fs.changeLocked(d, change{to: base, n: n}); err != nil {
		return nil, err
	}
	return &file{fs: fs, n: n, writes: true}, nil
}

// Rename gives a file a new name in the same directory.
func (fs *FS) Rename(from, to string) error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	d, fromBase := fs.dirLocked(from)
	toDir, toBase := fs.dirLocked(to)
	if d != toDir {
		return fmt.Errorf("crashfs: rename from one directory to another: %s, %s", from, to)
	}
	n := d.names[fromBase]
	if !fs.crashed && n == nil {
		return pathError("rename", from, iofs.ErrNotExist)
	}
	if fromBase == toBase {
		return nil
	}
	return fs.changeLocked(d, change{from: fromBase, to: toBase, n: n})
}

// Remove removes a file.
func (fs *FS) Remove(name string) error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	d, base := fs.dirLocked(name)
	if !fs.crashed && d.names[base] == nil {
		return pathError("remove", name, iofs.ErrNotExist)
	}
	return fs.changeLocked(d, change{from: base})
}

// changeLocked makes a change of a directory, as one operation.
func (fs *FS) changeLocked(d *directory, c change) error {
	crash, happens := fs.stepLocked()
	if happens {
		c.apply(d.names, true)
		d.pending = append(d.pending, c)
	}
	if crash {
		return ErrCrashed
	}
	return nil
}

// List returns the names of the files in a directory, sorted.
func (fs *FS) List(dir string) ([]string, error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.crashed {
		return nil, ErrCrashed
	}
	var names []string
	for name := range fs.namedDirLocked(dir).names {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

// SyncDir makes the changes of a directory durable.
func (fs *FS) SyncDir(dir string) error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	d := fs.namedDirLocked(dir)
	return fs.syncLocked(fs.lieNames, d.sync, func() {})
}

// syncLocked is one operation that does sync, unless it is to lie or to fail.
func (fs *FS) syncLocked(lie bool, sync, fail func()) error {
	crash, happens := fs.stepLocked()
	switch {
	case fs.syncErr != nil && !crash:
		fail()
		return fs.syncErr
	case happens && !lie:
		sync()
	}
	if crash {
		return ErrCrashed
	}
	return nil
}

// Lock takes the lock on a lock file. A crash releases it.
func (fs *FS) Lock(name string) (io.Closer, error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	name = filepath.Clean(name)
	d, base := fs.dirLocked(name)
	if fs.locks[name] && !fs.crashed {
		return nil, pathError("lock", name, durable.ErrLocked)
	}
	if n := d.names[base]; n == nil {
		if err := fs.changeLocked(d, change{to: base, n: &node{}}); err != nil {
			return nil, err
		}
	} else if crash, _ := fs.stepLocked(); crash {
		return nil, ErrCrashed
	}
	fs.locks[name] = true
	return &held{fs: fs, name: name}, nil
}

// held is a held lock.
type held struct {
	fs     *FS
	name   string
	closed bool // guarded by fs.mu
}

func (h *held) Close() error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if h.closed {
		return iofs.ErrClosed
	}
	h.closed = true
	delete(h.fs.locks, h.name)
	return nil
}

// Put makes a file of the given content, in place of the one that there is, and makes it
// and all changes of its directory durable. It is no operation.
func (fs *FS) Put(name string, data []byte) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	d, base := fs.dirLocked(name)
	c := change{to: base, n: &node{data: slices.Clone(data), synced: len(data)}}
	c.apply(d.names, true)
	d.pending = append(d.pending, c)
	d.sync()
}

// Get returns the content of a file as the program sees it.
func (fs *FS) Get(name string) (data []byte, ok bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	d, base := fs.dirLocked(name)
	n := d.names[base]
	if n == nil {
		return nil, false
	}
	return slices.Clone(n.data), true
}

func pathError(op, name string, err error) error {
	return &iofs.PathError{Op: op, Path: name, Err: err}
}

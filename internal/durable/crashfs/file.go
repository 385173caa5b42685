// SPDX-License-Identifier: MIT

package crashfs

import (
	"errors"
	"io"
	iofs "io/fs"
)

// errMode is the error of a Write to a file that was opened, or a Read of one that was
// created.
var errMode = errors.New("crashfs: the file is not open for that")

// file is an open file. fs.mu guards its fields that change.
type file struct {
	fs     *FS
	n      *node
	writes bool
	offset int
	closed bool
}

func (f *file) Read(p []byte) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.usableLocked(false); err != nil {
		return 0, err
	}
	if f.fs.crashed {
		return 0, ErrCrashed
	}
	if len(p) > 0 && f.offset >= len(f.n.data) {
		return 0, io.EOF
	}
	n := copy(p, f.n.data[f.offset:])
	f.offset += n
	return n, nil
}

func (f *file) Write(p []byte) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.usableLocked(true); err != nil {
		return 0, err
	}
	crash, happens := f.fs.stepLocked()
	if crash {
		if happens { // Crash chooses how much of the data is left
			f.n.data = append(f.n.data, p...)
		}
		return 0, ErrCrashed
	}
	if f.fs.writeErr != nil && len(p) > f.fs.writeRoom {
		n := f.fs.writeRoom
		f.n.data = append(f.n.data, p[:n]...)
		f.fs.writeRoom = 0
		return n, f.fs.writeErr
	}
	f.fs.writeRoom -= min(len(p), f.fs.writeRoom)
	f.n.data = append(f.n.data, p...)
	return len(p), nil
}

func (f *file) Sync() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.usableLocked(true); err != nil {
		return err
	}
	return f.fs.syncLocked(f.fs.lieFiles, func() {
		if !f.n.failed {
			f.n.synced = len(f.n.data)
		}
	}, func() { f.n.failed = true })
}

func (f *file) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.closed {
		return iofs.ErrClosed
	}
	f.closed = true
	return nil
}

func (f *file) usableLocked(writes bool) error {
	switch {
	case f.closed:
		return iofs.ErrClosed
	case f.writes != writes:
		return errMode
	}
	return nil
}

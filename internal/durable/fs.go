// SPDX-License-Identifier: MIT

// Package durable writes files that survive a crash and a loss of power, and claims
// numbered files exactly once. All access to files goes through FS, so that tests can
// lose power at each operation (package crashfs).
package durable

import (
	"errors"
	"io"
)

// ErrLocked is the error of FS.Lock if another holder has the lock.
var ErrLocked = errors.New("durable: locked by another holder")

// FS is the part of a file system that durable files need. It is safe for concurrent use.
// Errors wrap fs.ErrExist and fs.ErrNotExist as those of package os do.
type FS interface {
	// Open opens a file to read.
	Open(name string) (File, error)
	// Create creates a file with mode 0600 and opens it to write. It fails with
	// fs.ErrExist if the name is in use.
	Create(name string) (File, error)
	// Rename gives a file a new name in the same directory. A file that had the new
	// name is replaced.
	Rename(from, to string) error
	// Remove removes a file.
	Remove(name string) error
	// List returns the base names in a directory, sorted.
	List(dir string) ([]string, error)
	// SyncDir makes the creations, renames and removals in a directory durable.
	SyncDir(dir string) error
	// Lock takes the exclusive lock on a lock file, which it creates if there is none
	// and never removes. Close and the end of the process release the lock. Lock
	// never waits: it fails with ErrLocked if another holder has the lock, in this
	// process too.
	Lock(name string) (io.Closer, error)
}

// File is an open file of an FS, either to read or to write. It is for one goroutine.
type File interface {
	io.ReadWriteCloser
	// Sync makes the content durable. After an error the content must be regarded as
	// lost: a second Sync may succeed without having written anything.
	Sync() error
}

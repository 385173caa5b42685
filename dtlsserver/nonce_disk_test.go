// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"errors"
	"strings"
	"sync"

	"github.com/go-dsm/dsm/internal/durable"
	"github.com/go-dsm/dsm/internal/durable/crashfs"
)

// nonceDisk is a disk at one of whose operations something happens.
type nonceDisk struct {
	*crashfs.FS
	noClaim bool // claims vanish

	mu sync.Mutex
	// mu guards the following.
	eventIn       int // operations
	event         func()
	failIn, fails int // operations until some fail
}

var _ durable.FS = (*nonceDisk)(nil)

// before has event called before the n-th operation from now.
func (d *nonceDisk) before(n int, event func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.eventIn, d.event = n, event
}

// failAt has some operations fail, from the n-th from now on, before they do anything.
func (d *nonceDisk) failAt(n, fails int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failIn, d.fails = n, fails
}

func (d *nonceDisk) isCrashed() bool {
	_, err := d.FS.List(nonceJournal)
	return errors.Is(err, crashfs.ErrCrashed)
}

// operate is called at the beginning of each operation.
func (d *nonceDisk) operate() error {
	d.mu.Lock()
	var event func()
	if d.eventIn--; d.eventIn == 0 {
		event, d.event = d.event, nil
	}
	d.mu.Unlock()
	if event != nil {
		event()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failIn--
	if d.failIn <= 0 && d.fails > 0 {
		d.fails--
		return errDisk
	}
	return nil
}

func (d *nonceDisk) Open(name string) (durable.File, error) {
	if err := d.operate(); err != nil {
		return nil, err
	}
	return d.FS.Open(name)
}

func (d *nonceDisk) Create(name string) (durable.File, error) {
	if err := d.operate(); err != nil {
		return nil, err
	}
	f, err := d.FS.Create(name)
	if err == nil && d.noClaim && strings.Contains(name, ".claimed.") {
		_ = d.FS.Remove(name)
	}
	if err != nil {
		return nil, err
	}
	return &nonceFile{f, d}, nil
}

func (d *nonceDisk) Rename(from, to string) error {
	return errors.Join(d.operate(), d.FS.Rename(from, to)) // which may have happened
}

func (d *nonceDisk) SyncDir(dir string) error {
	if err := d.operate(); err != nil {
		return err
	}
	return d.FS.SyncDir(dir)
}

// nonceFile is a file to write.
type nonceFile struct {
	durable.File
	disk *nonceDisk
}

func (f *nonceFile) Sync() error {
	if err := f.disk.operate(); err != nil {
		return err
	}
	return f.File.Sync()
}

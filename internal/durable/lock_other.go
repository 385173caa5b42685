// SPDX-License-Identifier: MIT

//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd || windows)

package durable

import (
	"os"
	"path/filepath"
	"sync"
)

// held has the absolute names of the lock files that this process holds.
var held sync.Map

// lock excludes other holders in this process only: these systems have no lock that ends
// with its holder and that also excludes other holders in the same process.
func lock(f *os.File) (release func(), err error) {
	name, err := filepath.Abs(f.Name())
	if err != nil {
		return nil, err
	}
	if _, loaded := held.LoadOrStore(name, true); loaded {
		return nil, ErrLocked
	}
	return func() { held.Delete(name) }, nil
}

// SPDX-License-Identifier: MIT

package durable

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
)

// temporary is between the name of a file and the random end of the name of a temporary.
const temporary = ".tmp."

// writeBuffer is how much WriteFile collects before it writes.
const writeBuffer = 64 << 10

// ErrUnclear is the error of WriteFile that leaves open which file is there.
var ErrUnclear = errors.New("durable: the file may have been replaced")

// WriteFile replaces the file at path by what write writes. At each moment, also after a
// crash, the file is the old one or the new one, whole. When WriteFile has returned nil,
// the file is the new one, durably. After an error the file is the old one, or with
// ErrUnclear the old one or the new one.
//
// The content is written to a temporary file in the same directory, which is removed after
// an error. Temporary files of path that a crash left are removed first. Of two WriteFile
// of the same path at the same time, one or both may fail.
func WriteFile(fs FS, path string, write func(io.Writer) error) error {
	dir, base := filepath.Split(path)
	dir = filepath.Clean(dir)
	names, err := fs.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		// A name without the end that a temporary has belongs to somebody else.
		if end, ok := strings.CutPrefix(name, base+temporary); ok && len(end) == len(rand.Text()) {
			if err := fs.Remove(filepath.Join(dir, name)); err != nil {
				return err
			}
		}
	}

	// The name is random, so that a WriteFile of the same path at the same time cannot
	// make this one rename a file that is not yet whole.
	temp := path + temporary + rand.Text()
	f, err := fs.Create(temp)
	if err != nil {
		return err
	}
	renamed := false
	defer func() { // also if write panics
		if !renamed {
			f.Close()
			fs.Remove(temp) // best effort: the next WriteFile of path removes it
		}
	}()
	b := bufio.NewWriterSize(f, writeBuffer)
	if err := write(b); err != nil {
		return err
	}
	if err := b.Flush(); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil { // before the rename: Windows renames no open file
		return err
	}
	if err := fs.Rename(temp, path); err != nil { // a network file system may have renamed all the same
		return fmt.Errorf("%w: %w", ErrUnclear, err)
	}
	renamed = true
	if err := fs.SyncDir(dir); err != nil {
		return fmt.Errorf("%w: %w", ErrUnclear, err)
	}
	return nil
}

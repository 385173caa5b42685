// SPDX-License-Identifier: MIT

package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"strconv"
	"strings"
)

// ErrClaimed is the error of Claim if the generation, or a higher one, is claimed.
var ErrClaimed = errors.New("durable: claimed already")

const (
	claimMarker = ".claimed."   // between the path and the generation that is claimed
	claimLock   = ".claim-lock" // after the path: the lock of those who claim
)

// NextGeneration returns a generation that can be claimed at path: one more than the
// highest that is claimed, or 1.
func NextGeneration(fsys FS, path string) (uint64, error) {
	claimed, err := claims(fsys, path)
	if err != nil {
		return 0, err
	}
	var highest uint64
	for _, generation := range claimed {
		highest = max(highest, generation)
	}
	if highest == math.MaxUint64 {
		return 0, fmt.Errorf("durable: no generation is left at %s", path)
	}
	return highest + 1, nil
}

// Claim claims a generation of the file at path for the caller, who alone may use that
// generation of the file from then on. When Claim has returned nil, no other Claim of this
// or of a lower generation at path ever succeeds, also after a crash. Claim fails with
// ErrClaimed if this or a higher generation is claimed, and with ErrLocked if another
// Claim at path is under way. After another error the generation may be claimed or not:
// it is lost for the caller, who can try the next one.
//
// The claim is a marker, an empty file whose name has the generation. There is always a
// durable marker of the highest generation that was claimed: markers of lower generations
// are removed only after the marker of the higher one is durable. The lock lets nobody
// list the markers while another Claim adds and removes some. For file systems whose locks
// do not work between processes or hosts, the marker is also created exclusively, which
// excludes a Claim of the same generation, and the markers are listed again after it is
// durable, which finds a Claim of a higher generation at the same time.
func Claim(fsys FS, path string, generation uint64) error {
	l, err := fsys.Lock(path + claimLock)
	if err != nil {
		return err
	}
	defer l.Close()

	claimed, err := claims(fsys, path)
	if err != nil {
		return err
	}
	for _, other := range claimed {
		if other >= generation {
			return claimedBy(path, generation, other)
		}
	}
	f, err := fsys.Create(marker(path, generation))
	if errors.Is(err, fs.ErrExist) {
		return claimedBy(path, generation, generation)
	}
	if err != nil {
		return err
	}
	err = f.Sync()
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	if err := fsys.SyncDir(filepath.Dir(path)); err != nil {
		return err
	}
	claimed, err = claims(fsys, path)
	if err != nil {
		return err
	}
	for _, other := range claimed {
		if other > generation {
			return claimedBy(path, generation, other)
		}
	}
	for _, other := range claimed {
		if other < generation {
			fsys.Remove(marker(path, other)) // best effort: a lower marker forbids nothing that this one allows
		}
	}
	return nil
}

func claimedBy(path string, generation, other uint64) error {
	return fmt.Errorf("%w: generation %d of %s, by a claim of generation %d", ErrClaimed, generation, path, other)
}

func marker(path string, generation uint64) string {
	return path + claimMarker + strconv.FormatUint(generation, 10)
}

// claims returns the generations that have a marker at path.
func claims(fsys FS, path string) ([]uint64, error) {
	dir, base := filepath.Split(path)
	names, err := fsys.List(filepath.Clean(dir))
	if err != nil {
		return nil, err
	}
	var generations []uint64
	for _, name := range names {
		decimal, ok := strings.CutPrefix(name, base+claimMarker)
		if !ok {
			continue
		}
		// A name that Claim would not write is no marker.
		if generation, err := strconv.ParseUint(decimal, 10, 64); err == nil && strconv.FormatUint(generation, 10) == decimal {
			generations = append(generations, generation)
		}
	}
	return generations, nil
}

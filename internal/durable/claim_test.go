// SPDX-License-Identifier: MIT

package durable_test

import (
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-dsm/dsm/internal/durable"
	"github.com/go-dsm/dsm/internal/durable/crashfs"
)

func TestClaimOnceAndRising(t *testing.T) {
	fs := crashfs.New(1)
	next := func() uint64 {
		generation, err := durable.NextGeneration(fs, "d/a")
		require.NoError(t, err)
		return generation
	}
	require.EqualValues(t, 1, next())
	require.NoError(t, durable.Claim(fs, "d/a", 9))
	require.NoError(t, durable.Claim(fs, "d/a", 10))
	for _, generation := range []uint64{0, 9, 10} {
		require.ErrorIs(t, durable.Claim(fs, "d/a", generation), durable.ErrClaimed)
	}
	require.EqualValues(t, 11, next())
	names, err := fs.List("d")
	require.NoError(t, err)
	require.Equal(t, []string{"a.claim-lock", "a.claimed.10"}, names)

	// Other files and names that are no marker do not count.
	for _, name := range []string{"b.claimed.20", "a.claimed.020", "a.claimed.x", "a.claimed.", "a.claimed.-1", "a.claimed.18446744073709551616"} {
		fs.Put("d/"+name, nil)
	}
	require.EqualValues(t, 11, next())
	require.NoError(t, durable.Claim(fs, "d/a", math.MaxUint64))
	_, err = durable.NextGeneration(fs, "d/a")
	require.Error(t, err)
}

// crashClaims claims rising generations with a crash at each operation, tries all of them
// again after each crash, and returns how many claims succeeded that must not.
func crashClaims(t *testing.T, prepare func(*crashfs.FS)) (violations int) {
	for n := 1; n <= 14; n++ {
		for seed := range uint64(100) {
			fs := crashfs.New(seed)
			var highest uint64 // that a Claim has succeeded for
			claim := func(generation uint64) {
				if durable.Claim(fs, "d/a", generation) == nil {
					if generation <= highest {
						violations++
					}
					highest = max(highest, generation)
				}
			}
			for range 3 { // the crash may come during the claims after a crash, too
				prepare(fs)
				fs.CrashAfter(n)
				for _, generation := range []uint64{highest + 2, highest + 1, highest + 3} {
					claim(generation)
				}
				fs = fs.Crash()
				next, err := durable.NextGeneration(fs, "d/a")
				require.NoError(t, err)
				if next <= highest {
					violations++
				}
				for generation := uint64(1); generation <= highest; generation++ {
					claim(generation)
				}
			}
		}
	}
	return violations
}

func TestClaimStaysAfterCrash(t *testing.T) {
	require.Zero(t, crashClaims(t, func(*crashfs.FS) {}))
}

// The test above must see that the sync of the directory is missing. The marker's content
// is empty, so that the sync of the file makes no difference to crashfs.
func TestLyingSyncBreaksClaim(t *testing.T) {
	require.Positive(t, crashClaims(t, func(fs *crashfs.FS) { fs.Lie(false, true) }))
}

func TestFailedSyncFailsClaim(t *testing.T) {
	fs := crashfs.New(1)
	failure := errors.New("failure")
	fs.FailSync(failure)
	require.ErrorIs(t, durable.Claim(fs, "d/a", 1), failure)
	fs.FailSync(nil)
	require.ErrorIs(t, durable.Claim(fs, "d/a", 1), durable.ErrClaimed)
	require.NoError(t, durable.Claim(fs, "d/a", 2))
}

func TestClaimersAtOnce(t *testing.T) {
	for seed := range uint64(200) {
		fs := crashfs.New(seed)
		var succeeded [4]atomic.Int32
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				generation := i % len(succeeded)
				err := durable.Claim(fs, "d/a", uint64(generation))
				for errors.Is(err, durable.ErrLocked) {
					err = durable.Claim(fs, "d/a", uint64(generation))
				}
				if err == nil {
					succeeded[generation].Add(1)
				} else if !errors.Is(err, durable.ErrClaimed) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for generation := range succeeded {
			require.LessOrEqual(t, succeeded[generation].Load(), int32(1))
		}
		require.EqualValues(t, 1, succeeded[3].Load(), "the highest generation")
	}
}

func TestClaimUnderWayIsLocked(t *testing.T) {
	fs := crashfs.New(1)
	l, err := fs.Lock("d/a.claim-lock")
	require.NoError(t, err)
	require.ErrorIs(t, durable.Claim(fs, "d/a", 1), durable.ErrLocked)
	require.NoError(t, l.Close())
	require.NoError(t, durable.Claim(fs, "d/a", 1))
}

// noLockFS is a file system whose locks exclude nobody. It calls step before the at-th
// operation.
type noLockFS struct {
	durable.FS
	ops, at int
	step    func()
}

func (fs *noLockFS) count() {
	if fs.ops++; fs.ops == fs.at {
		fs.step()
	}
}

func (fs *noLockFS) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }
func (fs *noLockFS) Create(name string) (durable.File, error) {
	fs.count()
	return fs.FS.Create(name)
}
func (fs *noLockFS) List(dir string) ([]string, error) { fs.count(); return fs.FS.List(dir) }
func (fs *noLockFS) SyncDir(dir string) error          { fs.count(); return fs.FS.SyncDir(dir) }
func (fs *noLockFS) Remove(name string) error          { fs.count(); return fs.FS.Remove(name) }

// A whole Claim at each moment of another one, without locks: when one of them has returned
// nil before the other one has decided, the other one fails if its generation is not higher.
func TestClaimWithoutLocks(t *testing.T) {
	for _, second := range []uint64{4, 5, 6} {
		for at := 1; at <= 4; at++ { // the second listing decides
			t.Run(fmt.Sprintf("second %d at %d", second, at), func(t *testing.T) {
				inner := crashfs.New(1)
				inner.Put("d/a.claimed.1", nil)
				var secondErr error
				first := &noLockFS{FS: inner, at: at}
				first.step = func() { secondErr = durable.Claim(&noLockFS{FS: inner}, "d/a", second) }
				firstErr := durable.Claim(first, "d/a", 5)
				require.GreaterOrEqual(t, first.ops, at)
				if secondErr == nil && second >= 5 {
					require.ErrorIs(t, firstErr, durable.ErrClaimed)
				}
				if firstErr != nil && secondErr != nil {
					t.Fatalf("both failed: %v; %v", firstErr, secondErr)
				}
			})
		}
	}
}

// SPDX-License-Identifier: MIT

package crashfs_test

import (
	"errors"
	iofs "io/fs"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-dsm/dsm/internal/durable"
	"github.com/go-dsm/dsm/internal/durable/crashfs"
)

// outcomes is how often a crash is repeated to see all that it may do.
const outcomes = 400

func create(t *testing.T, fs *crashfs.FS, name, data string) durable.File {
	t.Helper()
	f, err := fs.Create(name)
	require.NoError(t, err)
	n, err := f.Write([]byte(data))
	require.NoError(t, err)
	require.Equal(t, len(data), n)
	return f
}

// after returns how often each content of the file was found after a crash of fs; a file
// that is not there is "absent".
func after(fs *crashfs.FS, name string) map[string]int {
	found := make(map[string]int)
	for range outcomes {
		data, ok := fs.Crash().Get(name)
		if !ok {
			data = []byte("absent")
		}
		found[string(data)]++
	}
	return found
}

func TestSyncedDataAndNamesStay(t *testing.T) {
	fs := crashfs.New(1)
	f := create(t, fs, "d/a", "data")
	require.NoError(t, f.Sync())
	require.NoError(t, fs.SyncDir("d"))
	require.Equal(t, map[string]int{"data": outcomes}, after(fs, "d/a"))
}

func TestUnsyncedDataIsLostTornOrKept(t *testing.T) {
	fs := crashfs.New(1)
	f := create(t, fs, "d/a", "AA")
	require.NoError(t, f.Sync())
	_, err := f.Write([]byte("bb"))
	require.NoError(t, err)
	require.NoError(t, fs.SyncDir("d"))
	found := after(fs, "d/a")
	for _, content := range []string{"AA", "AAb", "AAbb", "AA\x00", "AAb\x00", "AA\x00\x00"} {
		require.Positive(t, found[content], "%q", content)
		delete(found, content)
	}
	require.NotEmpty(t, found, "no garbage was found")
	for content := range found {
		require.Equal(t, "AA", content[:2])
		require.LessOrEqual(t, len(content), 4)
	}
}

func TestNameIsLostWithoutSyncDir(t *testing.T) {
	fs := crashfs.New(1)
	require.NoError(t, create(t, fs, "d/a", "data").Sync())
	found := after(fs, "d/a")
	require.Positive(t, found["absent"])
	require.Positive(t, found["data"])
	require.Len(t, found, 2)
}

func TestChangesOfDirectoryHappenIndividually(t *testing.T) {
	fs := crashfs.New(1)
	fs.Put("d/a", []byte("a"))
	fs.Put("d/b", []byte("b"))
	require.NoError(t, fs.Rename("d/a", "d/c"))
	require.NoError(t, fs.Remove("d/b"))
	found := make(map[string]int)
	for range outcomes {
		names, err := fs.Crash().List("d")
		require.NoError(t, err)
		key := ""
		for _, name := range names {
			key += name
		}
		found[key]++
	}
	for _, names := range []string{"ab", "a", "bc", "c", "abc", "ac"} {
		require.Positive(t, found[names], names)
	}
	require.Len(t, found, 6)
}

func TestCrashedOperationsFail(t *testing.T) {
	seen := make(map[bool]bool)
	for seed := range uint64(20) {
		fs := crashfs.New(seed)
		fs.CrashAfter(3)
		f := create(t, fs, "d/a", "1") // two operations
		_, err := f.Write([]byte("2"))
		require.ErrorIs(t, err, crashfs.ErrCrashed)
		data, _ := fs.Get("d/a")
		seen[len(data) == 2] = true

		for range 2 {
			_, err = f.Write([]byte("3"))
			require.ErrorIs(t, err, crashfs.ErrCrashed)
		}
		require.ErrorIs(t, f.Sync(), crashfs.ErrCrashed)
		require.ErrorIs(t, fs.SyncDir("d"), crashfs.ErrCrashed)
		require.ErrorIs(t, fs.Rename("d/a", "d/b"), crashfs.ErrCrashed)
		require.ErrorIs(t, fs.Remove("d/a"), crashfs.ErrCrashed)
		_, err = fs.Create("d/c")
		require.ErrorIs(t, err, crashfs.ErrCrashed)
		_, err = fs.Open("d/a")
		require.ErrorIs(t, err, crashfs.ErrCrashed)
		_, err = fs.List("d")
		require.ErrorIs(t, err, crashfs.ErrCrashed)
		_, err = fs.Lock("d/lock")
		require.ErrorIs(t, err, crashfs.ErrCrashed)
		again, _ := fs.Get("d/a")
		require.Equal(t, data, again)
	}
	require.Len(t, seen, 2, "the write in which the power is lost happens or not")
}

func TestFullDiskWritesPartially(t *testing.T) {
	fs := crashfs.New(1)
	full := errors.New("full")
	f := create(t, fs, "d/a", "12")
	fs.FailWrites(full, 3)
	n, err := f.Write([]byte("34"))
	require.NoError(t, err)
	require.Equal(t, 2, n)
	n, err = f.Write([]byte("567"))
	require.ErrorIs(t, err, full)
	require.Equal(t, 1, n)
	data, _ := fs.Get("d/a")
	require.Equal(t, "12345", string(data))
}

func TestFailedSyncLosesDataForGood(t *testing.T) {
	fs := crashfs.New(1)
	f := create(t, fs, "d/a", "data")
	require.NoError(t, fs.SyncDir("d"))
	broken := errors.New("broken")
	fs.FailSync(broken)
	require.ErrorIs(t, f.Sync(), broken)
	require.ErrorIs(t, fs.SyncDir("d"), broken)
	fs.FailSync(nil)
	require.NoError(t, f.Sync())
	require.Positive(t, after(fs, "d/a")[""])
}

func TestLyingSyncLosesDataAndNames(t *testing.T) {
	for _, lie := range []struct{ files, names bool }{{true, false}, {false, true}} {
		fs := crashfs.New(1)
		fs.Lie(lie.files, lie.names)
		require.NoError(t, create(t, fs, "d/a", "data").Sync())
		require.NoError(t, fs.SyncDir("d"))
		found := after(fs, "d/a")
		require.Equal(t, lie.files, found[""] > 0)
		require.Equal(t, lie.names, found["absent"] > 0)
	}
}

func TestLockExcludesUntilCloseOrCrash(t *testing.T) {
	fs := crashfs.New(1)
	l, err := fs.Lock("d/lock")
	require.NoError(t, err)
	_, err = fs.Lock("d/./lock")
	require.ErrorIs(t, err, durable.ErrLocked)
	require.NoError(t, l.Close())
	second, err := fs.Lock("d/lock")
	require.NoError(t, err)
	require.Error(t, l.Close(), "a second Close must not release the lock of the second holder")
	_, err = fs.Lock("d/lock")
	require.ErrorIs(t, err, durable.ErrLocked)
	_, err = fs.Crash().Lock("d/lock")
	require.NoError(t, err)
	require.NoError(t, second.Close())
}

func TestErrorsAreThoseOfTheOS(t *testing.T) {
	fs := crashfs.New(1)
	f := create(t, fs, "d/a", "data")
	_, err := fs.Create("d/a")
	require.ErrorIs(t, err, iofs.ErrExist)
	_, err = fs.Open("d/b")
	require.ErrorIs(t, err, iofs.ErrNotExist)
	require.ErrorIs(t, fs.Remove("d/b"), iofs.ErrNotExist)
	require.ErrorIs(t, fs.Rename("d/b", "d/c"), iofs.ErrNotExist)
	require.NoError(t, f.Close())
	require.ErrorIs(t, f.Close(), iofs.ErrClosed)
	_, err = f.Write([]byte("x"))
	require.ErrorIs(t, err, iofs.ErrClosed)
}

func TestConcurrentUse(t *testing.T) {
	fs := crashfs.New(1)
	var wg sync.WaitGroup
	for _, name := range []string{"d/a", "d/b", "e/a"} {
		wg.Go(func() {
			for range 100 {
				f, err := fs.Create(name)
				if err != nil {
					t.Error(err)
					return
				}
				f.Write([]byte("data"))
				f.Sync()
				fs.SyncDir("d")
				fs.Remove(name)
			}
		})
	}
	wg.Wait()
	fs.Crash()
}

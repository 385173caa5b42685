// SPDX-License-Identifier: MIT

package journal_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-dsm/dsm/internal/durable"
	"github.com/go-dsm/dsm/internal/durable/crashfs"
	"github.com/go-dsm/dsm/internal/journal"
	"github.com/go-dsm/dsm/internal/sealed"
)

func openLog(t testing.TB, fs durable.FS) *journal.Log {
	l, err := journal.Open(fs, dir, newRing(t, 1))
	require.NoError(t, err)
	return l
}

func appendState(l *journal.Log, slot uint32, state string) error {
	var b journal.Batch
	b.SetState(slot, []byte(state))
	return l.Append(&b)
}

func TestAppendNeedsFile(t *testing.T) {
	fs := crashfs.New(1)
	l := openLog(t, fs)
	require.Error(t, appendState(l, 1, "a"))
	require.Error(t, l.Complete())
	require.Zero(t, l.Size())
	require.NoError(t, l.Begin())
	require.EqualValues(t, sealed.HeaderSize, l.Size())
	require.NoError(t, appendState(l, 1, "a"))

	// What would be appended to the file after Start would not be recovered.
	require.NoError(t, l.Start(func(*journal.Batch) error { return nil }))
	require.Error(t, appendState(l, 1, "b"))
	require.NoError(t, l.Begin())
	require.NoError(t, appendState(l, 1, "c"))
	got, _, err := recoverValues(l)
	require.NoError(t, err)
	require.Equal(t, values{1: "c"}, got)
}

// dirFS is a file system that fails to make names durable while fail is set.
type dirFS struct {
	durable.FS
	fail bool
}

func (fs *dirFS) SyncDir(dir string) error {
	if fs.fail {
		return errDisk
	}
	return fs.FS.SyncDir(dir)
}

func TestAppendFailsAfterStartThatFailed(t *testing.T) {
	fs := &dirFS{FS: crashfs.New(1)}
	l := openLog(t, fs)
	require.NoError(t, l.Begin())
	fs.fail = true
	require.ErrorIs(t, l.Start(func(*journal.Batch) error { return nil }), errDisk)
	fs.fail = false
	require.Error(t, appendState(l, 1, "a"), "the file counts no more")
}

func TestFailedAppendFailsUntilBegin(t *testing.T) {
	for name, fail := range map[string]func(*crashfs.FS, error){
		"write": func(fs *crashfs.FS, err error) { fs.FailWrites(err, 20) },
		"sync":  func(fs *crashfs.FS, err error) { fs.FailSync(err) },
	} {
		t.Run(name, func(t *testing.T) {
			fs := crashfs.New(1)
			l := openLog(t, fs)
			require.NoError(t, l.Begin())
			require.NoError(t, appendState(l, 1, "a"))
			fail(fs, errDisk)
			require.ErrorIs(t, appendState(l, 1, "b"), errDisk)
			fail(fs, nil)
			require.ErrorIs(t, appendState(l, 1, "c"), errDisk)
			require.ErrorIs(t, l.Complete(), errDisk)
			require.NoError(t, l.Begin())
			require.NoError(t, appendState(l, 1, "d"))
			got, _, err := recoverAll(t, fs.Crash(), newRing(t, 1))
			require.NoError(t, err)
			require.Equal(t, values{1: "d"}, got)
		})
	}
}

func TestFailedBeginLeavesNoFile(t *testing.T) {
	fs := crashfs.New(1)
	l := openLog(t, fs)
	fs.FailWrites(errDisk, 20)
	require.ErrorIs(t, l.Begin(), errDisk)
	require.Error(t, appendState(l, 1, "a"))
	names, err := fs.List(dir)
	require.NoError(t, err)
	require.Equal(t, []string{"lock"}, names)
}

func TestFailedStartChangesNothing(t *testing.T) {
	fs, _ := smallJournal(t, newRing(t, 1))
	before := content(t, fs)
	l := openLog(t, fs)
	failure := errors.New("failure")
	require.ErrorIs(t, l.Start(func(b *journal.Batch) error { b.SetState(1, nil); return failure }), failure)
	fs.FailWrites(errDisk, 0)
	require.ErrorIs(t, l.Start(func(b *journal.Batch) error { b.SetState(1, nil); return nil }), errDisk)
	require.Equal(t, before, content(t, fs))
}

func TestCompleteRemovesOlderFiles(t *testing.T) {
	fs, _ := smallJournal(t, newRing(t, 1))
	l := openLog(t, fs)
	require.NoError(t, l.Begin())
	require.NoError(t, appendState(l, 1, "a"))
	require.NoError(t, l.Complete())
	require.NoError(t, appendState(l, 2, "b"))
	got, r, err := recoverValues(l)
	require.NoError(t, err)
	require.Equal(t, values{1: "a", 2: "b"}, got)
	require.Equal(t, 1, r.Files)
	names, err := fs.List(dir)
	require.NoError(t, err)
	require.Equal(t, []string{"journal.4", "journal.claim-lock", "journal.claimed.4", "lock"}, names)
}

func TestBatchOfAnyLengthIsRecovered(t *testing.T) {
	fs := crashfs.New(1)
	l := openLog(t, fs)
	want := values{}
	fill := func(b *journal.Batch) error {
		for slot := range uint32(40) {
			state := strings.Repeat(string(rune('a'+slot%26)), int(slot*slot)*40)
			if slot == 30 {
				state = strings.Repeat("x", sealed.MaxChunk-128<<10-1)
			}
			b.SetState(slot, []byte(state))
			want[slot] = state
		}
		return nil
	}
	require.NoError(t, l.Start(fill))
	got, _, err := recoverValues(l)
	require.NoError(t, err)
	require.Equal(t, want, got)

	require.NoError(t, l.Begin())
	var b journal.Batch
	require.NoError(t, fill(&b))
	for range 2 { // a Batch can be appended again
		require.NoError(t, l.Append(&b))
	}
	require.NoError(t, l.Complete())
	got, _, err = recoverValues(l)
	require.NoError(t, err)
	require.Equal(t, want, got)

	require.Error(t, appendState(l, 1, strings.Repeat("x", sealed.MaxChunk)))
	b.Reset()
	require.Zero(t, b.Len())
	require.NoError(t, l.Begin())
	require.NoError(t, l.Append(&b), "an empty Batch")
}

func TestErrorOfYieldEndsRecover(t *testing.T) {
	fs, _ := smallJournal(t, newRing(t, 1))
	calls := 0
	_, err := openLog(t, fs).Recover(func(uint32, []byte, []byte) error { calls++; return errDisk })
	require.ErrorIs(t, err, errDisk)
	require.Equal(t, 1, calls)
}

func TestLastGenerationIsError(t *testing.T) {
	for _, name := range []string{"journal.18446744073709551615", "journal.claimed.18446744073709551615"} {
		fs := crashfs.New(1)
		fs.Put(dir+"/"+name, nil)
		l := openLog(t, fs)
		require.ErrorContains(t, l.Begin(), "no generation is left")
		require.ErrorContains(t, l.Start(func(*journal.Batch) error { return nil }), "no generation is left")
		require.Error(t, l.Close(true))
	}
}

// BenchmarkAppend appends 10 000 updates of 16 bytes.
func BenchmarkAppend(b *testing.B) {
	var batch journal.Batch
	for slot := range uint32(10_000) {
		batch.Update(slot, make([]byte, 16))
	}
	for name, fs := range map[string]durable.FS{"disk": durable.OS, "memory": crashfs.New(1)} {
		b.Run(name, func(b *testing.B) {
			l, err := journal.Open(fs, b.TempDir(), newRing(b, 1))
			require.NoError(b, err)
			defer l.Close(true)
			require.NoError(b, l.Begin())
			b.SetBytes(int64(batch.Len()))
			b.ReportAllocs()
			for b.Loop() {
				if err := l.Append(&batch); err != nil {
					b.Fatal(err)
				}
				if l.Size() > 64<<20 {
					require.NoError(b, l.Begin())
					require.NoError(b, l.Complete())
				}
			}
		})
	}
}

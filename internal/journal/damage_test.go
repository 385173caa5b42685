// SPDX-License-Identifier: MIT

package journal_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-dsm/dsm/internal/durable"
	"github.com/go-dsm/dsm/internal/durable/crashfs"
	"github.com/go-dsm/dsm/internal/journal"
	"github.com/go-dsm/dsm/internal/sealed"
	"github.com/go-dsm/dsm/keyring"
)

// entry is what one chunk of the small journal does.
type entry func(values)

func set(slot uint32, value string) entry { return func(v values) { v[slot] = value } }
func clearing(slot uint32) entry          { return func(v values) { delete(v, slot) } }

// The small journal is two files: file 2 is complete, file 3 was begun after it. The files have
// these chunks.
var (
	oldEntries = []entry{
		func(v values) { v[1], v[2], v[3] = "a1", "b1", "c1" },
		func(values) {}, // complete
		set(3, "c1|u1"), set(2, "b1|u1"), set(3, "c1|u2"),
	}
	newEntries = []entry{set(2, "b2"), set(2, "b2|u3"), clearing(1), set(4, "d1")}
	wholeSmall = apply(len(oldEntries), len(newEntries))
)

// apply returns what the first chunks of the small journal's files leave.
func apply(oldChunks, newChunks int) values {
	v := values{}
	for _, e := range slices.Concat(oldEntries[:oldChunks], newEntries[:newChunks]) {
		e(v)
	}
	return v
}

// prefixes returns what can be recovered if the end of one file of the small journal is lost.
func prefixes(file string) (all []values) {
	switch file {
	case "journal.2":
		for n := range len(oldEntries) + 1 {
			all = append(all, apply(n, len(newEntries)))
		}
	case "journal.3":
		for n := range len(newEntries) + 1 {
			all = append(all, apply(len(oldEntries), n))
		}
	default:
		all = append(all, wholeSmall)
	}
	return all
}

// smallJournal returns the small journal, and the file before it that counts no more.
func smallJournal(t testing.TB, ring *keyring.Ring) (fs *crashfs.FS, superseded []byte) {
	fs = crashfs.New(1)
	l, err := journal.Open(fs, dir, ring)
	require.NoError(t, err)
	do := func(fill func(b *journal.Batch)) {
		var b journal.Batch
		fill(&b)
		require.NoError(t, l.Append(&b))
	}
	require.NoError(t, l.Begin())
	do(func(b *journal.Batch) { b.SetState(1, []byte("a0")); b.SetState(7, []byte("g0")) })
	require.NoError(t, l.Complete())
	superseded, _ = fs.Get("d/journal.1")

	require.NoError(t, l.Begin())
	do(func(b *journal.Batch) {
		b.SetState(1, []byte("a1"))
		b.SetState(2, []byte("b1"))
		b.SetState(3, []byte("c1"))
	})
	require.NoError(t, l.Complete())
	do(func(b *journal.Batch) { b.Update(3, []byte("u1")) })
	do(func(b *journal.Batch) { b.Update(2, []byte("u1")) })
	do(func(b *journal.Batch) { b.Update(3, []byte("u2")) })
	require.NoError(t, l.Begin())
	do(func(b *journal.Batch) { b.SetState(2, []byte("b2")) })
	do(func(b *journal.Batch) { b.Update(2, []byte("u3")) })
	do(func(b *journal.Batch) { b.Clear(1) })
	do(func(b *journal.Batch) { b.SetState(4, []byte("d1")) })
	require.NoError(t, l.Close(false))
	return fs, superseded
}

// content returns the files of the directory.
func content(t testing.TB, fs *crashfs.FS) map[string]string {
	names, err := fs.List(dir)
	require.NoError(t, err)
	files := map[string]string{}
	for _, name := range names {
		data, _ := fs.Get(dir + "/" + name)
		files[name] = string(data)
	}
	return files
}

// with returns a copy of a file system in which a file has other content.
func with(t testing.TB, fs *crashfs.FS, name string, data []byte) *crashfs.FS {
	other := crashfs.New(1)
	for n, d := range content(t, fs) {
		other.Put(dir+"/"+n, []byte(d))
	}
	other.Put(dir+"/"+name, data)
	return other
}

// recoverAll opens, recovers and closes a journal.
func recoverAll(t testing.TB, fs durable.FS, ring *keyring.Ring) (values, journal.Recovery, error) {
	l, err := journal.Open(fs, dir, ring)
	require.NoError(t, err)
	got, r, err := recoverValues(l)
	require.NoError(t, l.Close(false))
	return got, r, err
}

func requireOneOf(t testing.TB, all []values, got values, what string, args ...any) {
	t.Helper()
	if !slices.ContainsFunc(all, func(v values) bool { return maps.Equal(v, got) }) {
		require.Fail(t, fmt.Sprintf(what, args...), "recovered %v", got)
	}
}

func TestWholeJournalIsRecovered(t *testing.T) {
	ring := newRing(t, 1)
	fs, _ := smallJournal(t, ring)
	got, r, err := recoverAll(t, fs, ring)
	require.NoError(t, err)
	require.Equal(t, values{2: "b2|u3", 3: "c1|u2", 4: "d1"}, got)
	require.Equal(t, wholeSmall, got)
	require.Equal(t, journal.Recovery{Files: 2, Slots: 3}, r)
}

func TestCutJournalHasBeginning(t *testing.T) {
	ring := newRing(t, 1)
	fs, _ := smallJournal(t, ring)
	for name, entries := range map[string][]entry{"journal.2": oldEntries, "journal.3": newEntries} {
		data, _ := fs.Get(dir + "/" + name)
		found := map[string]bool{}
		whole := 0 // cuts after a whole chunk or the header
		for n := range len(data) {
			got, r, err := recoverAll(t, with(t, fs, name, data[:n]), ring)
			require.NoError(t, err)
			requireOneOf(t, prefixes(name), got, "%s cut to %d bytes", name, n)
			if len(r.Damage) == 0 {
				whole++
			}
			found[fmt.Sprint(got)] = true
		}
		require.Equal(t, len(entries), whole)
		require.Greater(t, len(found), 2, "all cuts have the same effect")
	}
}

func TestFlippedBitLeavesBeginning(t *testing.T) {
	ring := newRing(t, 1)
	fs, _ := smallJournal(t, ring)
	for _, name := range []string{"journal.2", "journal.3"} {
		data, _ := fs.Get(dir + "/" + name)
		errs := 0
		for i := range data {
			for bit := range 8 {
				flipped := bytes.Clone(data)
				flipped[i] ^= 1 << bit
				got, r, err := recoverAll(t, with(t, fs, name, flipped), ring)
				if err != nil { // the version or the key's ID of the header
					errs++
					require.Less(t, i, sealed.HeaderSize, "bit %d of byte %d: %v", bit, i, err)
					require.Empty(t, got)
					continue
				}
				requireOneOf(t, prefixes(name), got, "%s, bit %d of byte %d", name, bit, i)
				require.False(t, maps.Equal(wholeSmall, got) && len(r.Damage) == 0, "bit %d of byte %d is not seen", bit, i)
			}
		}
		require.Equal(t, 8*(1+4), errs)
	}
}

func TestMisplacedFilesDoNotCount(t *testing.T) {
	ring := newRing(t, 1)
	fs, superseded := smallJournal(t, ring)
	files := content(t, fs)
	for _, test := range []struct {
		what, name, data string
		want             values
		damaged          int
	}{
		{"old copy in its place", "journal.1", string(superseded), wholeSmall, 0},
		{"old copy under a new number", "journal.9", string(superseded), wholeSmall, 1},
		{"old copy in the place of the newest file", "journal.3", string(superseded), apply(len(oldEntries), 0), 1},
		{"complete file under a new number", "journal.4", files["journal.2"], wholeSmall, 1},
		{"newest file under a new number", "journal.4", files["journal.3"], wholeSmall, 1},
		{"newest file under an old number", "journal.1", files["journal.3"], wholeSmall, 0},
		{"complete file in the place of the newest", "journal.3", files["journal.2"], apply(len(oldEntries), 0), 1},
		{"newest file in the place of the complete one", "journal.2", files["journal.3"], apply(0, len(newEntries)), 1},
		{"text", "journal.4", "some text", wholeSmall, 1},
		{"empty file", "journal.4", "", wholeSmall, 1},
		{"zeroes", "journal.4", strings.Repeat("\x00", 4096), wholeSmall, 1},
		{"file with another name", "journal.04", "some text", wholeSmall, 0},
		{"copy with another name", "journal.3.bak", string(superseded), wholeSmall, 0},
	} {
		t.Run(test.what, func(t *testing.T) {
			fs := with(t, fs, test.name, []byte(test.data))
			got, r, err := recoverAll(t, fs, ring)
			require.NoError(t, err)
			require.Equal(t, test.want, got)
			require.Len(t, r.Damage, test.damaged, "%v", r.Damage)

			// What is recovered is what counts from now on.
			l, err := journal.Open(fs, dir, ring)
			require.NoError(t, err)
			require.NoError(t, l.Start(func(b *journal.Batch) error { b.SetState(5, []byte("e1")); return nil }))
			require.NoError(t, l.Close(false))
			for name, data := range files {
				fs.Put(dir+"/"+name, []byte(data))
			}
			got, _, err = recoverAll(t, fs, ring)
			require.NoError(t, err)
			require.Equal(t, values{5: "e1"}, got)
		})
	}
}

// A damaged complete file does not let an old copy count.
func TestOldCopyBesideDamagedFileDoesNotCount(t *testing.T) {
	ring := newRing(t, 1)
	fs, superseded := smallJournal(t, ring)
	got, _, err := recoverAll(t, with(t, with(t, fs, "journal.1", superseded), "journal.2", []byte("dsm")), ring)
	require.NoError(t, err)
	require.Equal(t, apply(0, len(newEntries)), got)
}

// Without its claim, a complete file that is whole still says that those before it do not count.
func TestOldCopyDoesNotCountWithoutClaim(t *testing.T) {
	ring := newRing(t, 1)
	fs, superseded := smallJournal(t, ring)
	fs = with(t, fs, "journal.1", superseded)
	require.NoError(t, fs.Remove("d/journal.claimed.2"))
	got, r, err := recoverAll(t, fs, ring)
	require.NoError(t, err)
	require.Equal(t, wholeSmall, got)
	require.Equal(t, 3, r.Files)

	l, err := journal.Open(fs, dir, ring)
	require.NoError(t, err)
	require.NoError(t, l.Start(func(b *journal.Batch) error { b.SetState(5, []byte("e1")); return nil }))
	require.NoError(t, l.Close(false))
	fs = with(t, fs, "journal.1", superseded)
	require.NoError(t, fs.Remove("d/journal.claimed.4"))
	got, _, err = recoverAll(t, fs, ring)
	require.NoError(t, err)
	require.Equal(t, values{5: "e1"}, got)
}

func TestSnapshotIsNoJournal(t *testing.T) {
	ring := newRing(t, 1)
	fs, _ := smallJournal(t, ring)
	var snapshot bytes.Buffer
	w, err := sealed.NewWriter(&snapshot, ring, sealed.Header{Kind: sealed.Snapshot, Generation: 4})
	require.NoError(t, err)
	require.NoError(t, w.WriteChunk([]byte{3, 0, 0, 0, 2, 0, 0, 0, 0})) // clears slot 2
	got, r, err := recoverAll(t, with(t, fs, "journal.4", snapshot.Bytes()), ring)
	require.NoError(t, err)
	require.Equal(t, wholeSmall, got)
	require.Len(t, r.Damage, 1)
	require.ErrorIs(t, r.Damage[0], sealed.ErrKind)
}

func TestUnknownKeyIsErrorAndRemovesNothing(t *testing.T) {
	fs, _ := smallJournal(t, newRing(t, 1))
	before := content(t, fs)
	_, _, err := recoverAll(t, fs, newRing(t, 2))
	var unknown *keyring.UnknownKeyError
	require.ErrorAs(t, err, &unknown)
	require.EqualValues(t, 1, unknown.ID)
	require.ErrorContains(t, err, "journal.2")
	require.Equal(t, before, content(t, fs))

	got, _, err := recoverAll(t, fs, newRing(t, 2, 1))
	require.NoError(t, err)
	require.Equal(t, wholeSmall, got)
}

func TestOtherVersionIsError(t *testing.T) {
	fs, _ := smallJournal(t, newRing(t, 1))
	data, _ := fs.Get("d/journal.3")
	data[7]++
	_, _, err := recoverAll(t, with(t, fs, "journal.3", data), newRing(t, 1))
	require.ErrorIs(t, err, sealed.ErrVersion)
}

// The key's ID and the version are in what a loss of power can tear. That must not keep the
// journal from being recovered.
func TestTornKeyIDIsDamage(t *testing.T) {
	ring := newRing(t, 1)
	fs, _ := smallJournal(t, ring)
	data, _ := fs.Get("d/journal.3")
	for from := range data {
		if from > 7 && from < sealed.HeaderSize {
			continue // see below
		}
		for to := from + 1; to <= len(data); to += 31 {
			torn := append(bytes.Clone(data[:from]), make([]byte, to-from)...)
			got, _, err := recoverAll(t, with(t, fs, "journal.3", torn), ring)
			if from == 7 && to > sealed.HeaderSize { // version 0
				require.ErrorIs(t, err, sealed.ErrVersion)
				continue
			}
			require.NoError(t, err, "zeroes from %d to %d", from, to)
			requireOneOf(t, prefixes("journal.3"), got, "zeroes from %d to %d", from, to)
		}
	}
	for from := range sealed.HeaderSize { // nothing was appended, because Begin has not returned
		torn := append(bytes.Clone(data[:from]), make([]byte, sealed.HeaderSize-from)...)
		got, r, err := recoverAll(t, with(t, fs, "journal.3", torn), ring)
		require.NoError(t, err, "zeroes from %d", from)
		require.Equal(t, apply(len(oldEntries), 0), got)
		require.Len(t, r.Damage, 1)
	}
}

// brokenFS cannot open or read a file.
type brokenFS struct {
	durable.FS
	name   string
	readOK int // bytes that can be read; -1: Open fails
}

var errDisk = errors.New("disk broken")

func (fs *brokenFS) Open(name string) (durable.File, error) {
	f, err := fs.FS.Open(name)
	if err != nil || !strings.HasSuffix(name, fs.name) {
		return f, err
	}
	if fs.readOK < 0 {
		return nil, errors.Join(errDisk, f.Close())
	}
	return &brokenFile{f, io.LimitReader(f, int64(fs.readOK))}, nil
}

type brokenFile struct {
	durable.File
	beginning io.Reader
}

func (f *brokenFile) Read(p []byte) (int, error) {
	n, err := f.beginning.Read(p)
	if err == io.EOF {
		err = errDisk
	}
	return n, err
}

// A file that cannot be read now may have newer entries than those before it.
func TestFileThatCannotBeReadIsError(t *testing.T) {
	ring := newRing(t, 1)
	fs, _ := smallJournal(t, ring)
	for _, name := range []string{"journal.2", "journal.3"} {
		data, _ := fs.Get(dir + "/" + name)
		for n := -1; n <= len(data); n++ {
			got, _, err := recoverAll(t, &brokenFS{fs, name, n}, ring)
			require.ErrorIs(t, err, errDisk, "%d bytes", n)
			require.Empty(t, got)
		}
	}
}

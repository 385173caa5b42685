// SPDX-License-Identifier: MIT

package durable_test

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-dsm/dsm/internal/durable"
	"github.com/go-dsm/dsm/internal/durable/crashfs"
)

// The content of the file before and after WriteFile; longer than its buffer, so that a
// file takes several writes.
var (
	oldContent = bytes.Repeat([]byte("old "), 50_000)
	newContent = bytes.Repeat([]byte("new "), 40_000)
)

func writeContent(fs durable.FS, path string, content []byte) error {
	return durable.WriteFile(fs, path, func(w io.Writer) error {
		for chunk := range slices.Chunk(content, 1000) {
			if _, err := w.Write(chunk); err != nil {
				return err
			}
		}
		return nil
	})
}

// writeOps is the number of operations of a WriteFile of newContent.
func writeOps(t *testing.T) int {
	fs := crashfs.New(1)
	require.NoError(t, writeContent(fs, "d/a", newContent))
	return fs.Ops()
}

// crashWrites crashes a WriteFile in each of its operations, and after it, and returns how
// often the file was found neither the old one nor the new one, or not the new one though
// WriteFile had succeeded.
func crashWrites(t *testing.T, prepare func(*crashfs.FS)) (broken, lost int) {
	for n := range writeOps(t) + 2 {
		for seed := range uint64(20) {
			fs := crashfs.New(seed)
			fs.Put("d/a", oldContent)
			prepare(fs)
			fs.CrashAfter(n)
			err := writeContent(fs, "d/a", newContent)
			if err != nil {
				require.ErrorIs(t, err, crashfs.ErrCrashed)
			}
			found := fs.Crash()
			data, ok := found.Get("d/a")
			switch {
			case !ok || !bytes.Equal(data, oldContent) && !bytes.Equal(data, newContent):
				broken++
			case err == nil && !bytes.Equal(data, newContent):
				lost++
			}

			require.NoError(t, writeContent(found, "d/a", []byte("third")))
			names, err := found.List("d")
			require.NoError(t, err)
			require.Equal(t, []string{"a"}, names, "a temporary file of the crash is left")
		}
	}
	return broken, lost
}

func TestCrashLeavesOldOrNewFile(t *testing.T) {
	broken, lost := crashWrites(t, func(*crashfs.FS) {})
	require.Zero(t, broken)
	require.Zero(t, lost)
}

// The test above must see that a sync is missing.
func TestLyingSyncBreaksWriteFile(t *testing.T) {
	broken, _ := crashWrites(t, func(fs *crashfs.FS) { fs.Lie(true, false) })
	require.Positive(t, broken)
	_, lost := crashWrites(t, func(fs *crashfs.FS) { fs.Lie(false, true) })
	require.Positive(t, lost)
}

func TestErrorLeavesOldFileAndNoTemporary(t *testing.T) {
	failure := errors.New("failure")
	for name, fail := range map[string]func(*crashfs.FS){
		"disk full at once": func(fs *crashfs.FS) { fs.FailWrites(failure, 0) },
		"disk full later":   func(fs *crashfs.FS) { fs.FailWrites(failure, len(newContent)-1) },
		"sync":              func(fs *crashfs.FS) { fs.FailSync(failure) },
	} {
		t.Run(name, func(t *testing.T) {
			fs := crashfs.New(1)
			fs.Put("d/a", oldContent)
			fail(fs)
			require.ErrorIs(t, writeContent(fs, "d/a", newContent), failure)
			data, _ := fs.Get("d/a")
			require.True(t, bytes.Equal(oldContent, data))
			names, err := fs.List("d")
			require.NoError(t, err)
			require.Equal(t, []string{"a"}, names)
		})
	}
}

func TestFailureOfWriteLeavesOldFileAndNoTemporary(t *testing.T) {
	failure := errors.New("failure")
	fs := crashfs.New(1)
	fs.Put("d/a", oldContent)
	err := durable.WriteFile(fs, "d/a", func(io.Writer) error { return failure })
	require.ErrorIs(t, err, failure)
	require.Panics(t, func() { durable.WriteFile(fs, "d/a", func(io.Writer) error { panic("failure") }) })
	data, _ := fs.Get("d/a")
	require.True(t, bytes.Equal(oldContent, data))
	names, err := fs.List("d")
	require.NoError(t, err)
	require.Equal(t, []string{"a"}, names)
}

// A WriteFile that ends while another one of the same path writes must not give the file
// the content that is not whole.
func TestWriteFilesAtOnceLeaveWholeFile(t *testing.T) {
	fs := crashfs.New(1)
	fs.Put("d/a", oldContent)
	begun, proceed, ended := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		ended <- durable.WriteFile(fs, "d/a", func(w io.Writer) error {
			close(begun)
			<-proceed
			_, err := w.Write([]byte("first"))
			return err
		})
	}()
	<-begun
	require.NoError(t, durable.WriteFile(fs, "d/a", func(w io.Writer) error {
		close(proceed)
		if err := <-ended; err == nil {
			t.Error("the first WriteFile succeeded without its temporary file")
		}
		data, _ := fs.Get("d/a")
		require.True(t, bytes.Equal(oldContent, data))
		_, err := w.Write([]byte("second"))
		return err
	}))
	data, _ := fs.Get("d/a")
	require.Equal(t, "second", string(data))
}

func TestWriteFileLeavesFilesOfOthers(t *testing.T) {
	fs := crashfs.New(1)
	others := []string{"a.tmp.", "a.tmp.x", "aa.tmp." + strings.Repeat("A", 26), "b"}
	for _, name := range others {
		fs.Put("d/"+name, nil)
	}
	require.NoError(t, writeContent(fs, "d/a", newContent))
	names, err := fs.List("d")
	require.NoError(t, err)
	require.ElementsMatch(t, append(others, "a"), names)
}

// SPDX-License-Identifier: MIT

package durable_test

import (
	"io"
	iofs "io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-dsm/dsm/internal/durable"
)

// lockEnv names the lock file that a child process of the test is to take.
const lockEnv = "DURABLE_TEST_LOCK"

// TestMain is also the child process: it takes the lock, says so, and waits to be killed.
func TestMain(m *testing.M) {
	if name := os.Getenv(lockEnv); name != "" {
		if _, err := durable.OS.Lock(name); err != nil {
			panic(err)
		}
		os.Stdout.Write([]byte("x"))
		io.ReadAll(os.Stdin)
		return
	}
	os.Exit(m.Run())
}

func TestOSFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	require.NoError(t, writeContent(durable.OS, path, oldContent))
	require.NoError(t, writeContent(durable.OS, path, newContent))
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, newContent, data)
	if runtime.GOOS != "windows" {
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, iofs.FileMode(0o600), info.Mode())
	}
	names, err := durable.OS.List(dir)
	require.NoError(t, err)
	require.Equal(t, []string{"a"}, names)

	_, err = durable.OS.Create(path)
	require.ErrorIs(t, err, iofs.ErrExist)
	f, err := durable.OS.Open(filepath.Join(dir, "b"))
	require.ErrorIs(t, err, iofs.ErrNotExist)
	require.True(t, f == nil)
	require.NoError(t, durable.Claim(durable.OS, path, 1))
	require.ErrorIs(t, durable.Claim(durable.OS, path, 1), durable.ErrClaimed)
	require.NoError(t, durable.Claim(durable.OS, path, 2))

	t.Chdir(dir) // a path without a directory
	require.NoError(t, writeContent(durable.OS, "a", oldContent))
	require.ErrorIs(t, durable.Claim(durable.OS, "a", 2), durable.ErrClaimed)
}

func TestOSLockExcludesInThisProcess(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lock")
	l, err := durable.OS.Lock(name)
	require.NoError(t, err)
	_, err = durable.OS.Lock(name)
	require.ErrorIs(t, err, durable.ErrLocked)
	require.NoError(t, l.Close())
	second, err := durable.OS.Lock(name)
	require.NoError(t, err)
	require.Error(t, l.Close())
	_, err = durable.OS.Lock(name)
	require.ErrorIs(t, err, durable.ErrLocked)
	require.NoError(t, second.Close())
}

func TestOSLockEndsWithProcess(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lock")
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), lockEnv+"="+name)
	_, err := child.StdinPipe() // open as long as the child is to live
	require.NoError(t, err)
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	_, err = io.ReadFull(out, make([]byte, 1))
	require.NoError(t, err)
	_, err = durable.OS.Lock(name)
	require.ErrorIs(t, err, durable.ErrLocked)
	require.NoError(t, child.Process.Kill())
	child.Wait()
	l, err := durable.OS.Lock(name)
	require.NoError(t, err)
	require.NoError(t, l.Close())
}

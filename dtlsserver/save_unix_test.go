// SPDX-License-Identifier: MIT

//go:build unix

package dtlsserver_test

import (
	"io"
	"os/exec"
	"testing"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/stretchr/testify/require"
)

// TestSaveAfterFilesWereInherited: os/exec makes the files blocking, and so the sockets. The
// listener still receives at once, and Save ends.
func TestSaveAfterFilesWereInherited(t *testing.T) {
	t.Parallel()
	l := listen(t, psk(), dtlsserver.Config{})
	echoServer(t, l)
	client := dial(t, l, nil)
	files, err := l.Files()
	require.NoError(t, err)
	for _, f := range files {
		defer f.Close()
	}
	successor := exec.Command("true")
	successor.ExtraFiles = files
	require.NoError(t, successor.Run())
	for range 5 {
		dtlstest.Echo(t, client, "still here")
	}
	saved := make(chan error, 1)
	go func() {
		_, err := l.Save(t.Context(), io.Discard, saveKey)
		saved <- err
	}()
	select {
	case err := <-saved:
		require.NoError(t, err)
	case <-time.After(10 * time.Second):
		t.Fatal("Save hangs")
	}
}

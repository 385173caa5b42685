// SPDX-License-Identifier: MIT

//go:build unix

package udp

import (
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The owner of a Socket's File calls Fd, as exec.Cmd does, while a Read waits. Then something
// comes. The Read after that ends at its deadline all the same.
func TestFileLeavesSocketNonblocking(t *testing.T) {
	checkGoroutines(t)
	s := listenOne(t, "udp4", "127.0.0.1:0")
	file, err := s.File()
	require.NoError(t, err)
	defer file.Close()
	file.Fd()

	ended := make(chan error, 1)
	received := make(chan struct{}, 1)
	go func() {
		for {
			if _, err := s.Read(newDatagrams(2, 10)); err != nil {
				ended <- err
				return
			}
			received <- struct{}{}
		}
	}()
	_, err = dial(t, s, "127.0.0.1").Write([]byte("one"))
	require.NoError(t, err)
	select {
	case <-received:
	case <-time.After(timeout):
		t.Fatal("the Read waits for more than one datagram")
	}
	require.NoError(t, s.SetReadDeadline(time.Unix(1, 0)))
	select {
	case err := <-ended:
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	case <-time.After(timeout):
		t.Fatal("the Read does not end at its deadline")
	}
}

// What a successor inherits receives what comes to the Socket after its Close.
func TestFileReceivesAfterClose(t *testing.T) {
	checkGoroutines(t)
	old := listenOne(t, "udp4", "127.0.0.1:0")
	client := dial(t, old, "127.0.0.1")
	file, err := old.File()
	require.NoError(t, err)
	require.NoError(t, old.Close())
	_, err = client.Write([]byte("to the successor"))
	require.NoError(t, err)
	conn, err := net.FilePacketConn(file)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	s := New(conn)
	defer s.Close()
	require.Equal(t, "to the successor", string(readOne(t, s).Buf))
}

// SPDX-License-Identifier: MIT

//go:build unix

package udp

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestListenSetsBufferSizes(t *testing.T) {
	sockets, err := Listen("udp4", "127.0.0.1:0", Config{ReadBuffer: 8192, WriteBuffer: 16384})
	require.NoError(t, err)
	defer sockets[0].Close()
	conn := rawConn(t, sockets[0])
	read, write := getOption(t, conn, unix.SOL_SOCKET, unix.SO_RCVBUF), getOption(t, conn, unix.SOL_SOCKET, unix.SO_SNDBUF)
	if isLinux { // it doubles the sizes, for its own bookkeeping
		read, write = read/2, write/2
	}
	assert.Equal(t, 8192, read)
	assert.Equal(t, 16384, write)
}

func rawConn(t testing.TB, s *Socket) syscall.RawConn {
	t.Helper()
	conn, err := s.pc.(syscall.Conn).SyscallConn()
	require.NoError(t, err)
	return conn
}

func getOption(t testing.TB, c syscall.RawConn, level, option int) (value int) {
	t.Helper()
	var optErr error
	require.NoError(t, c.Control(func(fd uintptr) { value, optErr = unix.GetsockoptInt(int(fd), level, option) }))
	require.NoError(t, optErr)
	return value
}

// SPDX-License-Identifier: MIT

//go:build unix

package udp

import (
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestBuffers(t *testing.T) {
	sockets, err := Listen("udp4", "127.0.0.1:0", Config{ReadBuffer: 8192, WriteBuffer: 16384})
	require.NoError(t, err)
	defer sockets[0].Close()
	read, write := bufferSizes(t, sockets[0].pc.(*net.UDPConn))
	if isLinux { // it doubles them, for its own needs
		read, write = read/2, write/2
	}
	assert.Equal(t, 8192, read)
	assert.Equal(t, 16384, write)
}

// bufferSizes asks the kernel.
func bufferSizes(t *testing.T, conn *net.UDPConn) (read, write int) {
	raw, err := conn.SyscallConn()
	require.NoError(t, err)
	var failed error
	require.NoError(t, raw.Control(func(fd uintptr) {
		if read, failed = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF); failed == nil {
			write, failed = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF)
		}
	}))
	require.NoError(t, failed)
	return read, write
}

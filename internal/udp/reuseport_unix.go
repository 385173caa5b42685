// SPDX-License-Identifier: MIT

//go:build unix && !solaris

package udp

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// setReusePort lets several sockets have the same port.
func setReusePort(conn syscall.RawConn) error {
	var optErr error
	err := conn.Control(func(fd uintptr) {
		optErr = os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
	})
	if err != nil {
		return err
	}
	return optErr
}

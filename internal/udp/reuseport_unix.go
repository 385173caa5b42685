// SPDX-License-Identifier: MIT

//go:build unix && !solaris

package udp

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// reusePort lets other sockets have the same port. It is a net.ListenConfig.Control.
func reusePort(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
	})
	if err != nil {
		return err
	}
	return failed
}

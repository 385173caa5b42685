// SPDX-License-Identifier: MIT

//go:build unix && !aix

package udp

import (
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// duplicate returns a duplicate of a socket. That of conn.File becomes blocking when its Fd
// is called, as exec.Cmd does, and so does conn: the two share the flag. Then a Read of conn
// whose system call is made without MSG_DONTWAIT would wait past every deadline.
func duplicate(conn *net.UDPConn) (file *os.File, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	controlErr := raw.Control(func(fd uintptr) {
		var number int
		if number, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0); err == nil {
			file = os.NewFile(uintptr(number), "udp "+conn.LocalAddr().String())
		}
	})
	if controlErr != nil {
		return nil, controlErr
	}
	return file, os.NewSyscallError("fcntl", err)
}

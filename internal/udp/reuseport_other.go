// SPDX-License-Identifier: MIT

//go:build !unix || solaris

package udp

import (
	"errors"
	"fmt"
	"syscall"
)

func setReusePort(syscall.RawConn) error {
	return fmt.Errorf("several sockets on one port: %w", errors.ErrUnsupported)
}

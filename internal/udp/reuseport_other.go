// SPDX-License-Identifier: MIT

//go:build !unix || solaris

package udp

import (
	"errors"
	"fmt"
	"syscall"
)

func reusePort(_, _ string, _ syscall.RawConn) error {
	return fmt.Errorf("udp: several sockets on one port: %w", errors.ErrUnsupported)
}

// SPDX-License-Identifier: MIT

//go:build !unix || solaris

package packet

import (
	"errors"
	"fmt"
	"syscall"
)

func reusePort(_, _ string, _ syscall.RawConn) error {
	return fmt.Errorf("packet: several sockets on one port: %w", errors.ErrUnsupported)
}

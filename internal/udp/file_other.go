// SPDX-License-Identifier: MIT

//go:build !unix || aix

package udp

import (
	"net"
	"os"
)

func duplicate(conn *net.UDPConn) (*os.File, error) { return conn.File() }

// SPDX-License-Identifier: MIT

//go:build !linux

package udp

import "net"

func newDatagramIO(conn *net.UDPConn) (datagramIO, error) {
	return &singleIO{pc: conn, conn: conn}, nil
}

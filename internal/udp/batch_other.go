// SPDX-License-Identifier: MIT

//go:build !linux

package udp

import "net"

func newPath(conn *net.UDPConn) (path, error) { return &plain{pc: conn, udp: conn}, nil }

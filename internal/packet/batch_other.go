// SPDX-License-Identifier: MIT

//go:build !linux

package packet

import "net"

func newPath(conn *net.UDPConn) (path, error) { return &plain{pc: conn, udp: conn}, nil }

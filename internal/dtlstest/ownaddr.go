// SPDX-License-Identifier: MIT

package dtlstest

import (
	"net"
	"os"
	"sync/atomic"
)

var ownAddrs atomic.Uint32

// OwnAddr returns a loopback address that no other caller gets, with port 0. On 127.0.0.1 the
// system can give a port that was closed to somebody else before a test binds it again.
func OwnAddr() *net.UDPAddr {
	n := ownAddrs.Add(1)
	return &net.UDPAddr{IP: net.IPv4(127, byte(128|os.Getpid()), byte(n>>8), byte(n))}
}

// SPDX-License-Identifier: MIT

package dtlstest

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

var ownAddrs atomic.Uint32

// OwnAddr returns a loopback address that no other caller gets, with port 0. On 127.0.0.1 the
// system can give a port that was closed to somebody else before a test binds it again.
func OwnAddr() *net.UDPAddr {
	n := ownAddrs.Add(1)
	return &net.UDPAddr{IP: net.IPv4(127, byte(128|os.Getpid()), byte(n>>8), byte(n))}
}

// DialUDP is net.DialUDP from an address that a closed socket may have had. Between fork and exec
// a child of this process has that socket, too, so the address can be taken for a moment.
func DialUDP(from, to *net.UDPAddr) (*net.UDPConn, error) {
	return bound(func() (*net.UDPConn, error) { return net.DialUDP("udp", from, to) })
}

// ListenUDP is net.ListenUDP on an address that a closed socket may have had: see DialUDP.
func ListenUDP(addr *net.UDPAddr) (*net.UDPConn, error) {
	return bound(func() (*net.UDPConn, error) { return net.ListenUDP("udp", addr) })
}

func bound(bind func() (*net.UDPConn, error)) (*net.UDPConn, error) {
	for end := time.Now().Add(time.Second); ; time.Sleep(time.Millisecond) {
		socket, err := bind()
		if !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(end) {
			return socket, err
		}
	}
}

// SPDX-License-Identifier: MIT

//go:build unix && !solaris

package udp

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestControlIsCalledOnceForEachSocketBeforeBind sets an option with Control and
// reads it from the sockets that Listen returns.
func TestControlIsCalledOnceForEachSocketBeforeBind(t *testing.T) {
	const ttl = 42
	for _, count := range []int{0, 1, 4} {
		for _, address := range []string{"127.0.0.1:0", "fixed"} {
			t.Run(fmt.Sprintf("%d sockets/%s", count, address), func(t *testing.T) {
				anyPort := address != "fixed"
				if !anyPort {
					address = freeAddress(t)
				}
				var conns []syscall.RawConn
				var addresses []string
				sockets, err := Listen("udp", address, Config{Sockets: count, Control: func(network, address string, c syscall.RawConn) error {
					assert.Equal(t, "udp4", network)
					assert.Zero(t, boundPort(t, c))
					reusePort := getOption(t, c, unix.SOL_SOCKET, unix.SO_REUSEPORT) != 0
					assert.Equal(t, count > 1 && (!anyPort || len(conns) > 0), reusePort, "socket %d", len(conns))
					conns, addresses = append(conns, c), append(addresses, address)
					return setOption(c, unix.IPPROTO_IP, unix.IP_TTL, ttl)
				}})
				require.NoError(t, err)
				require.Len(t, sockets, max(count, 1))
				require.Len(t, conns, len(sockets))
				for i, s := range sockets {
					defer s.Close()
					conn := rawConn(t, s)
					assert.Equal(t, descriptor(t, conns[i]), descriptor(t, conn), "Control had the socket's own RawConn")
					assert.Equal(t, ttl, getOption(t, conn, unix.IPPROTO_IP, unix.IP_TTL))
					assert.Equal(t, count > 1, getOption(t, conn, unix.SOL_SOCKET, unix.SO_REUSEPORT) != 0)
					if i == 0 {
						assert.Equal(t, address, addresses[i])
					} else {
						assert.Equal(t, s.LocalAddr().String(), addresses[i])
					}
				}
			})
		}
	}
}

func descriptor(t testing.TB, c syscall.RawConn) (fd int) {
	t.Helper()
	require.NoError(t, c.Control(func(f uintptr) { fd = int(f) }))
	return fd
}

// boundPort returns the port of a socket, which is zero before it is bound.
func boundPort(t testing.TB, c syscall.RawConn) (port int) {
	t.Helper()
	require.NoError(t, c.Control(func(fd uintptr) {
		sa, err := unix.Getsockname(int(fd))
		if !assert.NoError(t, err) {
			return
		}
		switch sa := sa.(type) {
		case *unix.SockaddrInet4:
			port = sa.Port
		case *unix.SockaddrInet6:
			port = sa.Port
		}
	}))
	return port
}

func setOption(c syscall.RawConn, level, option, value int) error {
	var optErr error
	if err := c.Control(func(fd uintptr) { optErr = unix.SetsockoptInt(int(fd), level, option, value) }); err != nil {
		return err
	}
	return optErr
}

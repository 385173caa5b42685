// SPDX-License-Identifier: MIT

//go:build unix && !solaris

package dtlsserver_test

import (
	"errors"
	"net"
	"runtime"
	"syscall"
	"testing"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// setOption sets an option of a socket that is a number.
func setOption(c syscall.RawConn, level, option, value int) error {
	var optionErr error
	err := c.Control(func(fd uintptr) { optionErr = unix.SetsockoptInt(int(fd), level, option, value) })
	return errors.Join(err, optionErr)
}

// sharedPort opens sockets on one free port of 127.0.0.1, as a process that starts the
// server would.
func sharedPort(t *testing.T, sockets int) []net.PacketConn {
	t.Helper()
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return setOption(c, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}}
	address := "127.0.0.1:0"
	var conns []net.PacketConn
	for range sockets {
		conn, err := lc.ListenPacket(t.Context(), "udp", address)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		conns, address = append(conns, conn), conn.LocalAddr().String()
	}
	return conns
}

// TestNewListenerTakesInheritedSockets of one port.
func TestNewListenerTakesInheritedSockets(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("SO_REUSEPORT spreads peers on Linux")
	}
	t.Parallel()
	conns := sharedPort(t, 3)
	l, err := openListenerOn(conns, psk(), dtlsserver.Config{Sessions: 20})
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	assert.Equal(t, conns[0].LocalAddr(), l.Addr())
	requireOneOrderOfUse(t, l, 21)
	require.NoError(t, l.Close())
	for _, conn := range conns {
		_, err := conn.WriteTo([]byte{0}, conn.LocalAddr())
		assert.ErrorIs(t, err, net.ErrClosed, "each of them")
	}
}

// TestControlSetsSocketOptions sets one that the kernel shows.
func TestControlSetsSocketOptions(t *testing.T) {
	t.Parallel()
	var raw syscall.RawConn
	listen(t, psk(), dtlsserver.Config{Control: func(_, _ string, c syscall.RawConn) error {
		raw = c
		return setOption(c, unix.IPPROTO_IP, unix.IP_TTL, 17)
	}})
	var ttl int
	var err error
	require.NoError(t, raw.Control(func(fd uintptr) { ttl, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TTL) }))
	require.NoError(t, err)
	assert.Equal(t, 17, ttl)
}

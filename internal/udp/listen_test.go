// SPDX-License-Identifier: MIT

package udp

import (
	"errors"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// freeAddress returns a loopback address whose port was free a moment ago.
func freeAddress(t testing.TB) string {
	t.Helper()
	free := listenOne(t, "udp4", "127.0.0.1:0")
	require.NoError(t, free.Close())
	return free.LocalAddr().String()
}

func TestSocketsShareOnePort(t *testing.T) {
	if runtime.GOOS == "windows" {
		_, err := Listen("udp4", "127.0.0.1:0", Config{Sockets: 2})
		assert.ErrorIs(t, err, errors.ErrUnsupported)
		return
	}
	checkGoroutines(t)
	const count, clients, rounds = 4, 64, 3
	for _, address := range []string{"127.0.0.1:0", "0.0.0.0:0", "fixed"} {
		t.Run(address, func(t *testing.T) {
			if address == "fixed" {
				address = freeAddress(t)
			}
			sockets, err := Listen("udp4", address, Config{Sockets: count})
			require.NoError(t, err)
			require.Len(t, sockets, count)

			type arrival struct {
				socket int
				peer   netip.AddrPort
			}
			arrivals, ended := make(chan arrival, clients*rounds), make(chan error, count)
			for i, s := range sockets {
				assert.Equal(t, portOf(sockets[0]), portOf(s))
				setTimeout(t, s.pc)
				go func() {
					ds := newDatagrams(16, 100)
					for {
						n, err := s.Read(ds)
						if err != nil {
							ended <- err
							return
						}
						for _, d := range ds[:n] {
							arrivals <- arrival{i, d.Peer}
						}
					}
				}()
			}
			for range clients {
				client := dial(t, sockets[0], "127.0.0.1")
				for range rounds {
					_, err := client.Write([]byte("x"))
					require.NoError(t, err)
				}
			}
			socketOf, used := map[netip.AddrPort]int{}, map[int]bool{}
			for range clients * rounds {
				a := <-arrivals
				if first, ok := socketOf[a.peer]; ok {
					assert.Equal(t, first, a.socket, "all datagrams of a peer arrive at the same socket")
				}
				socketOf[a.peer], used[a.socket] = a.socket, true
			}
			assert.Len(t, socketOf, clients)
			if isLinux {
				assert.Len(t, used, count)
			}

			_, err = net.ListenPacket("udp4", sockets[0].LocalAddr().String())
			assert.Error(t, err, "the port is in use")
			for _, s := range sockets {
				require.NoError(t, s.Close())
				assert.ErrorIs(t, <-ended, net.ErrClosed)
			}
			second := listenOne(t, "udp4", sockets[0].LocalAddr().String())
			require.NoError(t, second.Close())
		})
	}
}

func TestListenRejectsNegativeConfig(t *testing.T) {
	checkGoroutines(t)
	for field, c := range map[string]Config{
		"ReadBuffer": {ReadBuffer: -1}, "WriteBuffer": {WriteBuffer: -1}, "Sockets": {Sockets: -1},
	} {
		sockets, err := Listen("udp", "127.0.0.1:0", c)
		assert.ErrorContains(t, err, "udp: ")
		assert.ErrorContains(t, err, field)
		assert.ErrorContains(t, err, "-1")
		assert.Nil(t, sockets)
	}
}

func TestListenErrorsBeginWithPackageName(t *testing.T) {
	checkGoroutines(t)
	fails := func(network, address string, c Config) {
		t.Helper()
		sockets, err := Listen(network, address, c)
		if assert.Error(t, err, "%s %s", network, address) {
			assert.True(t, strings.HasPrefix(err.Error(), "udp: "), err)
		}
		assert.Nil(t, sockets)
	}
	for _, address := range []string{"127.0.0.1", "127.0.0.1:99999", "192.0.2.77:0"} {
		fails("udp4", address, Config{})
	}
	for _, network := range []string{"tcp", "unixgram", "ip4:17", ""} {
		fails(network, "127.0.0.1:0", Config{})
	}
	inUse := listenOne(t, "udp4", "127.0.0.1:0").LocalAddr().String()
	for _, count := range []int{1, 2} {
		fails("udp4", inUse, Config{Sockets: count})
	}
}

// TestListenClosesSocketsWhenControlFails lets Control fail for each socket in turn.
func TestListenClosesSocketsWhenControlFails(t *testing.T) {
	checkGoroutines(t)
	count := 3
	if runtime.GOOS == "windows" {
		count = 1
	}
	errControl := errors.New("no such option")
	for _, network := range []string{"udp4", "udp"} {
		for _, anyPort := range []bool{true, false} {
			for calls := 1; calls <= count; calls++ {
				address := "127.0.0.1:0"
				if !anyPort {
					address = freeAddress(t)
				}
				var conns []syscall.RawConn
				var bindTo string
				sockets, err := Listen(network, address, Config{Sockets: count, Control: func(_, address string, c syscall.RawConn) error {
					bindTo = address
					conns = append(conns, c)
					if len(conns) == calls {
						return errControl
					}
					return nil
				}})
				assert.Nil(t, sockets)
				require.ErrorIs(t, err, errControl)
				assert.True(t, strings.HasPrefix(err.Error(), "udp: "), err)
				assert.ErrorContains(t, err, "Control")

				assert.Len(t, conns, calls)
				for _, c := range conns {
					assert.ErrorIs(t, c.Control(func(uintptr) {}), net.ErrClosed)
				}
				second, err := net.ListenPacket(network, bindTo)
				require.NoError(t, err, "the port is free")
				require.NoError(t, second.Close())
			}
		}
	}
}

// SPDX-License-Identifier: MIT

package udp

import (
	"net"
	"net/netip"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// timeout bounds the wait for an event that must happen.
const timeout = 20 * time.Second

const isLinux = runtime.GOOS == "linux"

// checkGoroutines fails the test if goroutines run that are not part of the test,
// before the test and after its cleanup. Call it first.
func checkGoroutines(t *testing.T) {
	t.Helper()
	requireNoGoroutines(t, "before the test")
	t.Cleanup(func() { requireNoGoroutines(t, "after the test") })
}

// requireNoGoroutines polls, because a goroutine may still be on its way out when
// its result is known.
func requireNoGoroutines(t *testing.T, when string) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(timeout); ; <-tick.C {
		stacks := otherGoroutines()
		if len(stacks) == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("goroutines %s:\n%s", when, strings.Join(stacks, "\n\n"))
		}
	}
}

// otherGoroutines returns the stacks of the goroutines that are neither the caller
// nor a caller of testing.T.Run that waits for its test.
func otherGoroutines() (stacks []string) {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	for _, stack := range strings.Split(string(buf), "\n\n")[1:] { // the caller's is the first
		if !strings.Contains(stack, "testing.(*T).Run(") {
			stacks = append(stacks, stack)
		}
	}
	return stacks
}

func needIPv6(t testing.TB) {
	t.Helper()
	conn, err := net.ListenPacket("udp6", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 on this machine: ", err)
	}
	require.NoError(t, conn.Close())
}

// listenOne opens a Socket with Listen.
func listenOne(t testing.TB, network, address string) *Socket {
	t.Helper()
	sockets, err := Listen(network, address, Config{})
	require.NoError(t, err)
	require.Len(t, sockets, 1)
	t.Cleanup(func() { _ = sockets[0].Close() })
	setTimeout(t, sockets[0].pc)
	return sockets[0]
}

// listenConn opens a *net.UDPConn.
func listenConn(t testing.TB, network, address string) *net.UDPConn {
	t.Helper()
	pc, err := net.ListenPacket(network, address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = pc.Close() })
	setTimeout(t, pc)
	return pc.(*net.UDPConn)
}

// newFromConn makes a Socket of a *net.UDPConn with New.
func newFromConn(t testing.TB, network, address string) *Socket {
	t.Helper()
	return New(listenConn(t, network, address))
}

// listenSingle opens a Socket as it is on a system without batches.
func listenSingle(t testing.TB, network, address string) *Socket {
	t.Helper()
	conn := listenConn(t, network, address)
	return &Socket{pc: conn, io: &singleIO{pc: conn, conn: conn}}
}

type openFunc = func(t testing.TB, network, address string) *Socket

// forEachIO runs a test with sockets of the system's own datagramIO and with
// sockets of singleIO.
func forEachIO(t *testing.T, f func(t *testing.T, open openFunc, single bool)) {
	t.Run("batch", func(t *testing.T) { f(t, listenOne, !isLinux) })
	t.Run("single", func(t *testing.T) { f(t, listenSingle, true) })
}

func setTimeout(t testing.TB, c interface{ SetDeadline(time.Time) error }) {
	t.Helper()
	require.NoError(t, c.SetDeadline(time.Now().Add(timeout)))
}

func addrPort(a net.Addr) netip.AddrPort { return unmap(a.(*net.UDPAddr).AddrPort()) }

func portOf(s *Socket) uint16 { return addrPort(s.LocalAddr()).Port() }

// dial returns a conn that is connected to the socket. The kernel delivers to it
// only datagrams from the address to which it is connected.
func dial(t testing.TB, s *Socket, host string) *net.UDPConn {
	t.Helper()
	conn, err := net.Dial("udp", net.JoinHostPort(host, strconv.Itoa(int(portOf(s)))))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	setTimeout(t, conn)
	return conn.(*net.UDPConn)
}

// newDatagrams returns n datagrams to read into, each with room for size bytes.
func newDatagrams(n, size int) []Datagram {
	ds := make([]Datagram, n)
	for i := range ds {
		ds[i].Buf = make([]byte, 0, size)
	}
	return ds
}

func readOne(t testing.TB, s *Socket) Datagram {
	t.Helper()
	ds := newDatagrams(1, 2048)
	n, err := s.Read(ds)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	return ds[0]
}

// readAll reads n datagrams of at most size bytes and returns the number of calls.
func readAll(t testing.TB, s *Socket, n, size int) (all []Datagram, calls int) {
	t.Helper()
	for ; len(all) < n; calls++ {
		ds := newDatagrams(n-len(all), size)
		got, err := s.Read(ds)
		require.NoError(t, err)
		require.Positive(t, got)
		all = append(all, ds[:got]...)
	}
	return all, calls
}

func receive(t testing.TB, c net.Conn) string {
	t.Helper()
	b := make([]byte, 65536)
	n, err := c.Read(b)
	require.NoError(t, err)
	return string(b[:n])
}

// SPDX-License-Identifier: MIT

package udp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pion/transport/v2/test"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

const isLinux = runtime.GOOS == "linux"

// checkRoutines fails the test if it leaves goroutines behind. Call it first.
func checkRoutines(t *testing.T) { t.Cleanup(test.CheckRoutines(t)) }

func needIPv6(t testing.TB) {
	t.Helper()
	conn, err := net.ListenPacket("udp6", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 on this machine: ", err)
	}
	require.NoError(t, conn.Close())
}

func listenOne(t testing.TB, network, address string) *Socket {
	t.Helper()
	sockets, err := Listen(network, address, Config{})
	require.NoError(t, err)
	require.Len(t, sockets, 1)
	t.Cleanup(func() { _ = sockets[0].Close() })
	limit(t, sockets[0].pc)
	return sockets[0]
}

// plainSocket is what systems without batches have.
func plainSocket(t testing.TB, network, address string) *Socket {
	t.Helper()
	pc, err := net.ListenPacket(network, address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = pc.Close() })
	limit(t, pc)
	return &Socket{pc: pc, path: &plain{pc: pc, udp: pc.(*net.UDPConn)}}
}

func limit(t testing.TB, c interface{ SetDeadline(time.Time) error }) {
	t.Helper()
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
}

func port(s *Socket) uint16 { return uint16(s.LocalAddr().(*net.UDPAddr).Port) }

// dial gives a connected client of the socket: it gets only what comes from there.
func dial(t testing.TB, s *Socket, host string) *net.UDPConn {
	t.Helper()
	conn, err := net.Dial("udp", net.JoinHostPort(host, strconv.Itoa(int(port(s)))))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	limit(t, conn)
	return conn.(*net.UDPConn)
}

func addrPort(a net.Addr) netip.AddrPort { return unmapped(a.(*net.UDPAddr).AddrPort()) }

func rooms(n, size int) []Datagram {
	ds := make([]Datagram, n)
	for i := range ds {
		ds[i].Buf = make([]byte, 0, size)
	}
	return ds
}

// readOne reads a single datagram.
func readOne(t testing.TB, s *Socket) Datagram {
	t.Helper()
	ds := rooms(1, 2048)
	n, err := s.Read(ds)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	return ds[0]
}

// readAll reads n datagrams and says with how many calls.
func readAll(t testing.TB, s *Socket, n, room int) (all []Datagram, calls int) {
	t.Helper()
	for ; len(all) < n; calls++ {
		ds := rooms(n-len(all), room)
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

// TestAnswers sends to a socket from each host, and back. The clients are connected,
// so that an answer from another address than they sent to does not reach them.
func TestAnswers(t *testing.T) {
	for _, tc := range []struct {
		network, address string
		hosts            []string
	}{
		{"udp4", "127.0.0.1:0", []string{"127.0.0.1"}},
		{"udp", "127.0.0.1:0", []string{"127.0.0.1"}},
		{"udp6", "[::1]:0", []string{"::1"}},
		{"udp4", "0.0.0.0:0", []string{"127.0.0.1", "127.0.0.2", "127.0.0.3"}},
		{"udp6", "[::]:0", []string{"::1"}},
		{"udp", "[::]:0", []string{"::1", "127.0.0.1", "127.0.0.2"}},
		{"udp", ":0", []string{"127.0.0.2", "::1", "127.0.0.1"}},
	} {
		for name, open := range map[string]func(testing.TB, string, string) *Socket{
			"Listen": listenOne,
			"New": func(t testing.TB, network, address string) *Socket {
				pc, err := net.ListenPacket(network, address)
				require.NoError(t, err)
				t.Cleanup(func() { _ = pc.Close() })
				limit(t, pc)
				return New(pc)
			},
			"plain": plainSocket,
		} {
			t.Run(fmt.Sprintf("%s/%s/%s", name, tc.network, tc.address), func(t *testing.T) {
				if strings.Contains(strings.Join(tc.hosts, " "), ":") {
					needIPv6(t)
				}
				s := open(t, tc.network, tc.address)
				unspecified := s.LocalAddr().(*net.UDPAddr).IP.IsUnspecified()
				knowsSource := isLinux && name != "plain" && unspecified
				sources := map[Source]bool{}
				for _, host := range tc.hosts {
					if !isLinux && unspecified && host != "127.0.0.1" && host != "::1" {
						continue
					}
					client := dial(t, s, host)
					for _, text := range []string{"one", "", "three"} {
						_, err := client.Write([]byte(text))
						require.NoError(t, err)
						d := readOne(t, s)
						assert.Equal(t, text, string(d.Buf))
						assert.False(t, d.Truncated)
						assert.Equal(t, addrPort(client.LocalAddr()), d.Peer, "not mapped to IPv6")
						sources[d.Source] = true
						if name == "plain" && unspecified && d.Peer.Addr().Is4() && host != "127.0.0.1" {
							continue // the kernel chooses 127.0.0.1 for the answer
						}
						answer := []Datagram{{Buf: []byte("re: " + text), Peer: d.Peer, Source: d.Source}}
						for _, ds := range [][]Datagram{answer, {answer[0], answer[0]}} { // one alone goes another way
							n, err := s.Write(ds)
							require.NoError(t, err)
							assert.Equal(t, len(ds), n)
							for range ds {
								assert.Equal(t, "re: "+text, receive(t, client))
							}
						}
					}
				}
				if knowsSource {
					assert.Len(t, sources, len(tc.hosts), "one for each address sent to, always the same")
					assert.NotContains(t, sources, Source{})
				} else {
					assert.Equal(t, map[Source]bool{{}: true}, sources)
				}
			})
		}
	}
}

// TestSourceMatters shows that without it the answers of TestAnswers do not come.
func TestSourceMatters(t *testing.T) {
	if !isLinux {
		t.Skip("needs Linux")
	}
	s := listenOne(t, "udp4", "0.0.0.0:0")
	client := dial(t, s, "127.0.0.2")
	_, err := client.Write([]byte("hello"))
	require.NoError(t, err)
	d := readOne(t, s)
	_, err = s.Write([]Datagram{
		{Buf: []byte("from the wrong address"), Peer: d.Peer},
		{Buf: []byte("from the right address"), Peer: d.Peer, Source: d.Source},
	})
	require.NoError(t, err)
	assert.Equal(t, "from the right address", receive(t, client))
}

// TestAnswersLinkLocal goes to this machine's own link-local address and back: the
// zone of the peer and the interface of the source must both survive.
func TestAnswersLinkLocal(t *testing.T) {
	needIPv6(t)
	host := linkLocal()
	if host == "" {
		t.Skip("no link-local IPv6 address on this machine")
	}
	for name, open := range map[string]func(testing.TB, string, string) *Socket{"batch": listenOne, "plain": plainSocket} {
		t.Run(name, func(t *testing.T) {
			s := open(t, "udp6", "[::]:0")
			client := dial(t, s, host)
			_, err := client.Write([]byte("hello"))
			require.NoError(t, err)
			d := readOne(t, s)
			assert.Equal(t, addrPort(client.LocalAddr()), d.Peer)
			assert.NotEmpty(t, d.Peer.Addr().Zone())
			for _, ds := range [][]Datagram{{d}, {d, d}} {
				_, err = s.Write(ds)
				require.NoError(t, err)
				for range ds {
					assert.Equal(t, "hello", receive(t, client))
				}
			}
		})
	}
}

func linkLocal() string {
	interfaces, _ := net.Interfaces()
	for _, i := range interfaces {
		addrs, _ := i.Addrs()
		for _, a := range addrs {
			ip, ok := a.(*net.IPNet)
			if ok && i.Flags&net.FlagUp != 0 && ip.IP.To4() == nil && ip.IP.IsLinkLocalUnicast() {
				return ip.IP.String() + "%" + i.Name
			}
		}
	}
	return ""
}

func TestWriteAndReadMoreThanABatch(t *testing.T) {
	for name, open := range map[string]func(testing.TB, string, string) *Socket{"batch": listenOne, "plain": plainSocket} {
		t.Run(name, func(t *testing.T) {
			from, to := open(t, "udp4", "127.0.0.1:0"), open(t, "udp4", "127.0.0.1:0")
			const count = 2*maxBatch + 7
			var ds []Datagram
			for i := range count {
				ds = append(ds, Datagram{Buf: fmt.Appendf(nil, "%d", i), Peer: addrPort(to.LocalAddr())})
			}
			n, err := from.Write(ds)
			require.NoError(t, err)
			assert.Equal(t, count, n)
			all, _ := readAll(t, to, count, 100)
			for i, d := range all {
				assert.Equal(t, strconv.Itoa(i), string(d.Buf))
				assert.Equal(t, addrPort(from.LocalAddr()), d.Peer)
			}

			n, err = from.Write(nil)
			assert.NoError(t, err)
			assert.Zero(t, n)
			n, err = to.Read(nil)
			assert.NoError(t, err)
			assert.Zero(t, n)
		})
	}
}

func TestReadGivesWhatWaits(t *testing.T) {
	if !isLinux {
		t.Skip("no batches but on Linux")
	}
	from, to := listenOne(t, "udp4", "127.0.0.1:0"), listenOne(t, "udp4", "127.0.0.1:0")
	ds := make([]Datagram, 16)
	for i := range ds {
		ds[i] = Datagram{Buf: []byte("x"), Peer: addrPort(to.LocalAddr())}
	}
	// What was sent has nearly always arrived; a busy kernel may put it off.
	for range 100 {
		_, err := from.Write(ds)
		require.NoError(t, err)
		if _, calls := readAll(t, to, len(ds), 100); calls < len(ds) {
			return
		}
	}
	assert.Fail(t, "each call of Read gave one datagram")
}

func TestTruncated(t *testing.T) {
	const room = 100
	for name, open := range map[string]func(testing.TB, string, string) *Socket{"batch": listenOne, "plain": plainSocket} {
		t.Run(name, func(t *testing.T) {
			s := open(t, "udp4", "127.0.0.1:0")
			client := dial(t, s, "127.0.0.1")
			for _, size := range []int{room - 1, room, room + 1, 1, 0, 2 * room} {
				_, err := client.Write(make([]byte, size))
				require.NoError(t, err)
				ds := rooms(1, room)
				ds[0].Truncated = size <= room // is cleared too
				n, err := s.Read(ds)
				require.NoError(t, err)
				assert.Equal(t, 1, n)
				assert.Len(t, ds[0].Buf, min(size, room))
				exact := size == room && (name == "plain" || !isLinux)
				assert.Equal(t, size > room || exact, ds[0].Truncated, "%d bytes", size)
			}

			_, err := client.Write([]byte("no room at all"))
			require.NoError(t, err)
			ds := []Datagram{{}}
			_, err = s.Read(ds)
			require.NoError(t, err)
			assert.True(t, ds[0].Truncated)
			_, err = client.Write([]byte("next"))
			require.NoError(t, err)
			assert.Equal(t, "next", string(readOne(t, s).Buf))
		})
	}
}

func TestWriteSkipsWhatCannotBeSent(t *testing.T) {
	for name, open := range map[string]func(testing.TB, string, string) *Socket{"batch": listenOne, "plain": plainSocket} {
		t.Run(name, func(t *testing.T) {
			from, to := open(t, "udp4", "127.0.0.1:0"), listenOne(t, "udp4", "127.0.0.1:0")
			peer := addrPort(to.LocalAddr())
			good := func(text string) Datagram { return Datagram{Buf: []byte(text), Peer: peer} }
			tooLong := Datagram{Buf: make([]byte, 65508), Peer: peer}
			nobody := Datagram{Buf: []byte("x")}
			ipv6 := Datagram{Buf: []byte("x"), Peer: netip.MustParseAddrPort("[::1]:9")}

			n, err := from.Write([]Datagram{tooLong, good("1"), nobody, ipv6, good("2"), good("3"), tooLong})
			assert.Equal(t, 3, n)
			if runtime.GOOS != "windows" {
				assert.ErrorIs(t, err, syscall.EMSGSIZE, "the first")
			}
			assert.Error(t, err)
			all, _ := readAll(t, to, 3, 100)
			for i, d := range all {
				assert.Equal(t, strconv.Itoa(i+1), string(d.Buf))
			}

			for _, bad := range []Datagram{tooLong, nobody, ipv6} {
				n, err = from.Write([]Datagram{bad})
				assert.Zero(t, n)
				assert.Error(t, err)
			}
			n, err = from.Write([]Datagram{good("alone")})
			assert.Equal(t, 1, n)
			assert.NoError(t, err)
			assert.Equal(t, "alone", string(readOne(t, to).Buf))

			n, err = from.Write([]Datagram{nobody, ipv6, tooLong})
			assert.Zero(t, n)
			assert.Error(t, err)
			if runtime.GOOS != "windows" {
				assert.NotErrorIs(t, err, syscall.EMSGSIZE)
			}

			// In every batch of several.
			var ds []Datagram
			for i := range 3 * maxBatch {
				if i%10 == 9 {
					ds = append(ds, tooLong)
				} else {
					ds = append(ds, good("x"))
				}
			}
			n, err = from.Write(ds)
			assert.Error(t, err)
			assert.Equal(t, 3*maxBatch-3*maxBatch/10, n)
			readAll(t, to, n, 100)
		})
	}
}

// TestSourceThatIsGone sends from an address that the machine does not have.
func TestSourceThatIsGone(t *testing.T) {
	if !isLinux {
		t.Skip("needs Linux")
	}
	needIPv6(t)
	s := listenOne(t, "udp", "[::]:0")
	client := dial(t, s, "127.0.0.1")
	_, err := client.Write([]byte("hello"))
	require.NoError(t, err)
	d := readOne(t, s)
	gone := d
	at := bytes.Index(gone.Source.oob[:], []byte{127, 0, 0, 1})
	require.Positive(t, at)
	copy(gone.Source.oob[at:], []byte{203, 0, 113, 99})
	n, err := s.Write([]Datagram{gone, d})
	assert.Equal(t, 1, n)
	assert.ErrorAs(t, err, new(*os.SyscallError))
	n, err = s.Write([]Datagram{gone})
	assert.Zero(t, n)
	assert.ErrorAs(t, err, new(*os.SyscallError))
	assert.Equal(t, "hello", receive(t, client))
}

func TestCloseEndsRead(t *testing.T) {
	checkRoutines(t)
	for name, open := range map[string]func(testing.TB, string, string) *Socket{"batch": listenOne, "plain": plainSocket} {
		t.Run(name, func(t *testing.T) {
			for range 20 { // before, while and after Read waits
				s := open(t, "udp4", "127.0.0.1:0")
				result := make(chan error, 1)
				go func() {
					_, err := s.Read(rooms(4, 100))
					result <- err
				}()
				require.NoError(t, s.Close())
				assert.ErrorIs(t, <-result, net.ErrClosed)

				_, err := s.Read(rooms(1, 100))
				assert.ErrorIs(t, err, net.ErrClosed)
				self := addrPort(s.LocalAddr())
				n, err := s.Write([]Datagram{{Buf: []byte("x"), Peer: self}, {Buf: []byte("x"), Peer: self}})
				assert.ErrorIs(t, err, net.ErrClosed)
				assert.Zero(t, n)
				assert.ErrorIs(t, s.Close(), net.ErrClosed)

				again, err := net.ListenPacket("udp4", self.String())
				require.NoError(t, err, "the port is free")
				require.NoError(t, again.Close())
			}
		})
	}
}

func TestDeadlineOfAUsersConn(t *testing.T) {
	s := listenOne(t, "udp4", "127.0.0.1:0")
	require.NoError(t, s.pc.SetReadDeadline(time.Now()))
	_, err := s.Read(rooms(1, 100))
	assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
}

func TestSeveralSockets(t *testing.T) {
	if runtime.GOOS == "windows" {
		_, err := Listen("udp4", "127.0.0.1:0", Config{Sockets: 2})
		assert.ErrorIs(t, err, errors.ErrUnsupported)
		return
	}
	checkRoutines(t)
	const count, clients, rounds = 4, 64, 3
	for _, address := range []string{"127.0.0.1:0", "0.0.0.0:0", "fixed"} {
		t.Run(address, func(t *testing.T) {
			if address == "fixed" {
				free := listenOne(t, "udp4", "127.0.0.1:0")
				address = free.LocalAddr().String()
				require.NoError(t, free.Close())
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
				assert.Equal(t, port(sockets[0]), port(s))
				limit(t, s.pc)
				go func() {
					ds := rooms(16, 100)
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
				if before, ok := socketOf[a.peer]; ok {
					assert.Equal(t, before, a.socket, "a peer is always at the same socket")
				}
				socketOf[a.peer], used[a.socket] = a.socket, true
			}
			assert.Len(t, socketOf, clients)
			if isLinux {
				assert.Len(t, used, count)
			}

			_, err = net.ListenPacket("udp4", sockets[0].LocalAddr().String())
			assert.Error(t, err, "the port is taken")
			for _, s := range sockets {
				require.NoError(t, s.Close())
				assert.ErrorIs(t, <-ended, net.ErrClosed)
			}
			again := listenOne(t, "udp4", sockets[0].LocalAddr().String())
			require.NoError(t, again.Close())
		})
	}
}

func TestListenRefuses(t *testing.T) {
	checkRoutines(t)
	for _, c := range []Config{{ReadBuffer: -1}, {WriteBuffer: -1}, {Sockets: -1}} {
		sockets, err := Listen("udp", "127.0.0.1:0", c)
		assert.ErrorContains(t, err, "udp: ")
		assert.ErrorContains(t, err, "-1")
		assert.Nil(t, sockets)
	}
	for _, address := range []string{"127.0.0.1", "127.0.0.1:99999", "192.0.2.77:0"} {
		_, err := Listen("udp4", address, Config{})
		assert.Error(t, err, address)
	}
	for _, network := range []string{"tcp", "unixgram", "ip4:17", ""} {
		_, err := Listen(network, "127.0.0.1:0", Config{})
		assert.Error(t, err, network)
	}

	taken := listenOne(t, "udp4", "127.0.0.1:0")
	for _, count := range []int{1, 2} {
		_, err := Listen("udp4", taken.LocalAddr().String(), Config{Sockets: count})
		assert.Error(t, err)
	}
}

// fake is a conn that is no *net.UDPConn, though it has one's methods.
type fake struct {
	*net.UDPConn
	reads  []fakeRead
	writes func(b []byte, to net.Addr) error
	closed chan struct{}
}

type fakeRead struct {
	text string
	from net.Addr
	err  error
}

var errFake = errors.New("fake: gone")

func (f *fake) ReadFrom(b []byte) (int, net.Addr, error) {
	if len(f.reads) == 0 {
		<-f.closed
		return 0, nil, errFake
	}
	r := f.reads[0]
	f.reads = f.reads[1:]
	return copy(b, r.text), r.from, r.err
}

func (f *fake) WriteTo(b []byte, to net.Addr) (int, error) { return len(b), f.writes(b, to) }

func (f *fake) Close() error { close(f.closed); return nil }

type otherAddr string

func (a otherAddr) Network() string { return "other" }
func (a otherAddr) String() string  { return string(a) }

func TestUsersOwnConn(t *testing.T) {
	checkRoutines(t)
	peer := &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 7} // 16 bytes long
	kernel := &net.OpError{Op: "read", Err: os.NewSyscallError("recvfrom", syscall.ECONNREFUSED)}
	f := &fake{
		reads: []fakeRead{
			{text: "one", from: peer},
			{err: kernel}, {err: kernel},
			{text: "no UDP address", from: otherAddr("/tmp/x")},
			{text: "no address"},
			{text: "two", from: otherAddr("[2001:db8::1]:8")},
			{from: peer, err: io.ErrShortBuffer},
			{err: os.ErrDeadlineExceeded},
		},
		closed: make(chan struct{}),
	}
	s := New(f)
	ds := rooms(2, 20)
	for _, want := range []Datagram{
		{Buf: []byte("one"), Peer: netip.MustParseAddrPort("192.0.2.1:7")},
		{Buf: []byte("two"), Peer: netip.MustParseAddrPort("[2001:db8::1]:8")},
		{Buf: make([]byte, 20), Peer: netip.MustParseAddrPort("192.0.2.1:7"), Truncated: true},
	} {
		n, err := s.Read(ds)
		require.NoError(t, err)
		assert.Equal(t, 1, n)
		if want.Truncated {
			ds[0].Buf = want.Buf // what is in it does not matter
		}
		assert.Equal(t, want, ds[0])
	}
	_, err := s.Read(ds)
	assert.ErrorIs(t, err, os.ErrDeadlineExceeded)

	f.reads = make([]fakeRead, 2*maxReadErrors)
	for i := range f.reads {
		f.reads[i].err = kernel
	}
	_, err = s.Read(ds)
	assert.ErrorIs(t, err, syscall.ECONNREFUSED)
	assert.Len(t, f.reads, maxReadErrors)
	f.reads = nil

	var kept []net.Addr
	f.writes = func(b []byte, to net.Addr) error {
		kept = append(kept, to)
		if string(b) == "bad" {
			return kernel
		}
		return nil
	}
	n, err := s.Write([]Datagram{
		{Buf: []byte("bad"), Peer: netip.MustParseAddrPort("192.0.2.1:1")},
		{Buf: []byte("good"), Peer: netip.MustParseAddrPort("192.0.2.1:2")},
		{Buf: []byte("good"), Peer: netip.MustParseAddrPort("[fe80::1%x]:3")},
	})
	assert.Equal(t, 2, n)
	assert.ErrorIs(t, err, syscall.ECONNREFUSED)
	require.Len(t, kept, 3)
	for i, want := range []string{"192.0.2.1:1", "192.0.2.1:2", "[fe80::1%x]:3"} {
		assert.Equal(t, want, kept[i].String(), "still, for the conn may keep it")
	}

	ended := make(chan error, 1)
	go func() {
		_, err := s.Read(ds)
		ended <- err
	}()
	require.NoError(t, s.Close())
	err = <-ended
	assert.ErrorIs(t, err, net.ErrClosed)
	assert.ErrorIs(t, err, errFake)
	f.writes = func([]byte, net.Addr) error { return net.ErrClosed }
	n, err = s.Write(make([]Datagram, 3))
	assert.Zero(t, n)
	assert.ErrorIs(t, err, net.ErrClosed)
}

// TestConcurrentWrite is for the race detector, and for mixed-up scratch.
func TestConcurrentWrite(t *testing.T) {
	checkRoutines(t)
	from, to := listenOne(t, "udp4", "127.0.0.1:0"), listenOne(t, "udp4", "127.0.0.1:0")
	const writers, each = 4, 20
	failed := make(chan error, writers)
	for w := range writers {
		go func() {
			ds := make([]Datagram, each)
			for i := range ds {
				ds[i] = Datagram{Buf: fmt.Appendf(nil, "%d/%d", w, i), Peer: addrPort(to.LocalAddr())}
			}
			_, err := from.Write(ds)
			failed <- err
		}()
	}
	for range writers {
		require.NoError(t, <-failed)
	}
	got := map[string]bool{}
	all, _ := readAll(t, to, writers*each, 100)
	for _, d := range all {
		got[string(d.Buf)] = true
	}
	assert.Len(t, got, writers*each)
}

func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	needIPv6(t)
	const count = 32
	for _, tc := range []struct {
		name    string
		open    func(testing.TB, string, string) *Socket
		network string
		address string
		client  string
		perRead float64
	}{
		{"batch/udp4", listenOne, "udp4", "0.0.0.0:0", "127.0.0.1", 2},
		{"batch/udp6", listenOne, "udp6", "[::]:0", "::1", 2},
		{"batch/mapped", listenOne, "udp", "[::]:0", "127.0.0.1", 2},
		{"plain/udp4", plainSocket, "udp4", "127.0.0.1:0", "127.0.0.1", 0},
		{"plain/udp6", plainSocket, "udp6", "[::1]:0", "::1", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.perRead == 2 && !isLinux {
				t.Skip("no batches but on Linux")
			}
			s := tc.open(t, tc.network, tc.address)
			client := dial(t, s, tc.client)
			_, err := client.Write([]byte("hello"))
			require.NoError(t, err)
			d := readOne(t, s)
			out := make([]Datagram, count)
			for i := range out {
				out[i] = Datagram{Buf: make([]byte, 100), Peer: d.Peer, Source: d.Source}
			}
			for _, ds := range [][]Datagram{out, out[:1]} {
				assert.Zero(t, testing.AllocsPerRun(100, func() {
					if n, err := s.Write(ds); n != len(ds) || err != nil {
						t.Errorf("%d written, %v", n, err)
					}
				}), "of Write")
			}

			// To itself, so that there is something to read.
			self := netip.AddrPortFrom(netip.MustParseAddr(tc.client), port(s))
			for i := range out {
				out[i].Peer, out[i].Source = self, Source{}
			}
			in := rooms(count, 200)
			allocs := testing.AllocsPerRun(100, func() {
				if _, err := s.Write(out); err != nil {
					t.Error(err)
				}
				for n := 0; n < count; {
					m, err := s.Read(in[n:])
					if err != nil {
						t.Error(err)
						return
					}
					n += m
				}
			})
			t.Logf("%.2f allocations for each datagram read", allocs/count)
			assert.LessOrEqual(t, allocs/count, tc.perRead, "of Read, for each datagram: x/net's own")
		})
	}
}

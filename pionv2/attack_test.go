// SPDX-License-Identifier: MIT

package pionv2

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"reflect"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fragment is the header of a fragment of a handshake message, whatever it says.
func fragment(messageSeq uint16, length, offset, size int) []byte {
	return []byte{
		record.MessageClientHello, byte(length >> 16), byte(length >> 8), byte(length), byte(messageSeq >> 8), byte(messageSeq),
		byte(offset >> 16), byte(offset >> 8), byte(offset), byte(size >> 16), byte(size >> 8), byte(size),
	}
}

// A stranger's fragments reach no handshake: pion keeps empty ones without counting
// them, and takes quadratic time for chains of them, which nothing can stop.
func TestFragmentsOfStrangers(t *testing.T) {
	checkLeaks(t)
	for name, header := range map[string]func(n int) []byte{
		"of a message to come": func(int) []byte { return fragment(60000, 0, 0, 0) },
		"in a chain":           func(n int) []byte { return fragment(1, 0, n, 1) },
		"empty":                func(n int) []byte { return fragment(uint16(n%16), 100, 0, 0) },
		"sound, and too early": func(n int) []byte { return append(fragment(uint16(n%16), 8000, 0, 7988), make([]byte, 7988)...) },
	} {
		t.Run(name, func(t *testing.T) {
			l := listen(t, pskConfig("key"), Config{})
			c := stranger(t, l)
			send(t, c, hello(1))
			eventually(t, func() bool { return l.Stats().HalfOpen == 1 }, "half-open")
			n := 0
			for range 100 {
				var body []byte
				for len(body) < 8000 {
					body = append(body, header(n)...)
					n++
				}
				before := l.Stats()
				send(t, c, plain(record.TypeHandshake, uint64(n), body...))
				eventually(t, func() bool { return l.Stats().Plaintext > before.Plaintext }, "dropped")
			}
			require.NoError(t, l.Close())
		})
	}
}

// Nor do the fragments of one that has returned its cookie, if they are no client's.
func TestFragmentsOfClients(t *testing.T) {
	checkLeaks(t)
	l := listen(t, pskConfig("key"), Config{})
	udp := stranger(t, l)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = dtls.ClientWithContext(ctx, &stalls{Conn: udp}, pskConfig("key")) })
	defer func() { cancel(); wg.Wait() }()
	eventually(t, func() bool { return l.provenHandshakes() == 1 }, "its cookie is back")
	for n := range 100 {
		send(t, udp, plain(record.TypeHandshake, uint64(n), fragment(60000, 0, 0, 0)...))
		eventually(t, func() bool { return l.Stats().Plaintext == uint64(n+1) }, "dropped")
	}
}

// What a client with an address of its own may send is bounded, too.
func TestPlausible(t *testing.T) {
	take := func(fragments ...[]byte) bool {
		raw := plain(record.TypeHandshake, 0, bytes.Join(fragments, nil)...)
		r, _, fault := record.Next(raw)
		require.Equal(t, record.NoFault, fault)
		return plausible(r)
	}
	whole := append(fragment(2, 4, 0, 4), 1, 2, 3, 4)
	assert.True(t, take(whole))
	assert.True(t, take(whole, whole, fragment(3, 0, 0, 0)))
	assert.False(t, take(fragment(17, 0, 0, 0)), "too far off")
	assert.False(t, take(fragment(2, 4, 0, 0)), "an empty fragment of a message that is not")
	assert.False(t, take(fragment(2, 0, 1, 1)), "outside of its message")
	assert.False(t, take(bytes.Repeat(whole, 9)), "too many")

	tr := newTransport(path{}, record.Random{}, 0)
	raw := func(n int) []byte { return plain(record.TypeHandshake, uint64(n+5000), whole...) }
	for n := range maxInRecords {
		require.True(t, tr.feed(raw(n)))
		require.True(t, tr.feed(raw(n)), "a duplicate is dropped, and no fault")
	}
	assert.False(t, tr.feed(raw(maxInRecords)))
	tr = newTransport(path{}, record.Random{}, 0)
	fed := 0
	for ; tr.feed(raw(fed)); fed++ {
		r, _, _ := record.Next(first(tr.next()))
		require.EqualValues(t, fed, r.Sequence, "numbers of our own")
	}
	assert.Equal(t, maxFed, fed)
}

func first(raw []byte, _, _ bool) []byte { return raw }

// flood makes ClientHellos as fast as they are read: of ever new peers, or, with ever
// new randoms, of one.
type flood struct {
	*network
	n   atomic.Uint32
	one bool
}

func (f *flood) ReadFrom(p []byte) (int, net.Addr, error) {
	select {
	case <-f.closed:
		return 0, nil, net.ErrClosed
	default:
	}
	n := f.n.Add(1)
	b := hello(1)
	b[record.HeaderSize+12+2], b[record.HeaderSize+12+3], b[record.HeaderSize+12+4] = byte(n>>16), byte(n>>8), byte(n)
	if f.one {
		n = 0
	}
	addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{byte(n), byte(n >> 8), byte(n >> 16), 1}), 5684)
	return copy(p, b), net.UDPAddrFromAddrPort(addr), nil
}

// Handshakes that were displaced take a while to end: they are bounded, too.
func TestFloodIsBounded(t *testing.T) {
	for _, one := range []bool{false, true} {
		checkLeaks(t)
		f := &flood{network: newNetwork(), one: one}
		const handshakes = 16
		before := runtime.NumGoroutine()
		l, err := NewListener(f, pskConfig("key"), Config{Handshakes: handshakes})
		require.NoError(t, err)
		most := 0
		eventually(t, func() bool {
			most = max(most, runtime.NumGoroutine()-before)
			return f.n.Load() > 20_000
		}, "a flood")
		require.NoError(t, l.Close())
		// Five or six of each: pion's, connctx's and ours.
		assert.Less(t, most, 7*(2*handshakes+minHandshakes)+20)
		t.Logf("at most %d goroutines, %+v", most, l.Stats())
	}
}

// Close ends every session, also those that are used meanwhile.
func TestCloseWhileSessionsAreUsed(t *testing.T) {
	checkLeaks(t)
	l := listen(t, pskConfig("key"), Config{})
	var conns []net.Conn
	for range 40 {
		newClient(t, l, nil)
		c, err := l.Accept()
		require.NoError(t, err)
		conns = append(conns, c)
	}
	var wg sync.WaitGroup
	var writes atomic.Int32
	for w := range 2 {
		wg.Go(func() {
			for i := w; ; i++ {
				_, err := conns[i%len(conns)].Write([]byte("x"))
				writes.Add(1)
				if errors.Is(err, net.ErrClosed) && l.Stats().Established == 0 {
					return
				}
			}
		})
	}
	eventually(t, func() bool { return writes.Load() > 200 }, "writes")
	require.NoError(t, l.Close())
	wg.Wait()
	for _, c := range conns {
		assert.Equal(t, dsm.StateNone, c.(*Conn).State())
		_, err := c.Read(nil)
		assert.ErrorIs(t, err, net.ErrClosed)
	}
	assert.Equal(t, l.Table().MaxSlots(), l.Table().AvailableSlots())
}

// In a shared table, another listener takes the slot of a session that ends with a
// handshake beside it: that handshake ends, too.
func TestSlotLostToAnother(t *testing.T) {
	checkLeaks(t)
	table, err := dsm.New[*Peer](2)
	require.NoError(t, err)
	l := listen(t, pskConfig("key"), Config{Table: table, Sessions: 1, Handshakes: 1})
	other := dsm.NewSock()
	entry := func(n byte) *dsm.Session[*Peer] {
		return &dsm.Session[*Peer]{Peer: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, n}), 1), Value: &Peer{}}
	}
	c := newClient(t, l, nil)
	accepted, err := l.Accept()
	require.NoError(t, err)
	s := accepted.(*Conn)
	send(t, c.udp, hello(1))
	eventually(t, func() bool { return l.Stats().HalfOpen == 1 }, "beside the session")

	// As between Free and Hold: the slot is free, and another is faster.
	s.peer.mu.Lock()
	s.peer.handle.Free()
	s.peer.mu.Unlock()
	require.Equal(t, dsm.StateNone, table.Store(other, entry(1), dsm.StateEstablished, false))
	require.Equal(t, dsm.StateNone, table.Store(other, entry(2), dsm.StateEstablished, false))
	require.NoError(t, s.Close())
	assert.Zero(t, l.Stats().HalfOpen)
	assert.Zero(t, l.Stats().Established)
	require.NoError(t, l.Close())
	assert.Zero(t, table.AvailableSlots(), "the other's sessions stay")
}

// trailer sends plaintext handshake records after the datagram with the Finished, for
// as long as the server may be busy with that.
type trailer struct{ net.Conn }

func (c trailer) Write(p []byte) (int, error) {
	_, err := c.Conn.Write(p)
	if has(p, record.TypeHandshake, true) {
		for n := range uint64(200) {
			_, _ = c.Conn.Write(plain(record.TypeHandshake, 100+n, append(fragment(9, 1, 0, 1), 0)...))
			time.Sleep(10 * time.Microsecond)
		}
	}
	return len(p), err
}

// T5: one record too many after the Finished, and pion sleeps for a flight interval.
// It gets none, so Close has nobody to wait for.
func TestNothingAfterTheFinished(t *testing.T) {
	checkLeaks(t)
	config := pskConfig("key")
	config.FlightInterval = 30 * time.Second
	l := listen(t, config, Config{})
	server[*Conn](t, l)
	for range 20 {
		c, err := dtls.Client(trailer{stranger(t, l)}, pskConfig("key"))
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.Close() })
		echo(t, c, "x")
	}
	closed := make(chan struct{})
	go func() { defer close(closed); _ = l.Close() }()
	select {
	case <-closed:
	case <-time.After(config.FlightInterval / 3):
		require.FailNow(t, "Close waits for pion")
	}
}

// backwards sends the client's last flight record by record, the last one first.
type backwards struct{ net.Conn }

func (c backwards) Write(p []byte) (int, error) {
	if !has(p, record.TypeHandshake, true) {
		return c.Conn.Write(p)
	}
	var records [][]byte
	for rest := p; len(rest) > 0; {
		r, after, _ := record.Next(rest)
		records = append([][]byte{r.Raw}, records...)
		rest = after
	}
	for _, r := range records {
		if _, err := c.Conn.Write(r); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// Pion keeps what comes before it has the keys in buffers that it has given back. It
// gets nothing too early: under the race detector, and with what clients are told.
func TestLastFlightBackwards(t *testing.T) {
	checkLeaks(t)
	for _, suite := range []dtls.CipherSuiteID{dtls.TLS_PSK_WITH_AES_128_GCM_SHA256, dtls.TLS_PSK_WITH_AES_128_CBC_SHA256} {
		config := pskConfig("key")
		config.CipherSuites = []dtls.CipherSuiteID{suite}
		config.FlightInterval = patience // nothing is repeated
		l := listen(t, config, Config{HandshakesPerSource: -1})
		server[*Conn](t, l)
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				for range 5 {
					udp, err := net.DialUDP("udp", nil, l.Addr().(*net.UDPAddr))
					if !assert.NoError(t, err) {
						return
					}
					c, err := dtls.Client(backwards{slowToClose{udp}}, config)
					if assert.NoError(t, err) {
						_, err = c.Write([]byte("x"))
						assert.NoError(t, err)
						_, err = c.Read(make([]byte, 10))
						assert.NoError(t, err)
						_ = c.Close()
					}
				}
			})
		}
		wg.Wait()
		assert.EqualValues(t, 50, l.Stats().Completed)
	}
}

// stalls lets two datagrams out: the ClientHello, and it again with its cookie.
type stalls struct {
	net.Conn
	n atomic.Int32
}

func (c *stalls) Write(p []byte) (int, error) {
	if c.n.Add(1) > 2 {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// provenHandshakes is how many clients have returned their cookie and are half-open.
func (l *Listener) provenHandshakes() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.halfOpen.Len() - l.unproven.Len()
}

// Clients that return their cookie and fall silent lock nobody out until they time
// out: after a while they have to go.
func TestStalledWithCookie(t *testing.T) {
	checkLeaks(t)
	l := listen(t, pskConfig("key"), Config{Sessions: 10, HandshakeTimeout: time.Hour})
	server[*Conn](t, l)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for n := range minShare {
		udp := stranger(t, l)
		wg.Go(func() { _, _ = dtls.ClientWithContext(ctx, &stalls{Conn: udp}, pskConfig("key")) })
		eventually(t, func() bool { return l.provenHandshakes() == n+1 }, "its cookie is back")
	}
	send(t, stranger(t, l), hello(1))
	eventually(t, func() bool { return l.Stats().SourceShare == 1 }, "their share is taken")
	echo(t, newClient(t, l, nil).Conn, "an honest client")
	cancel()
	wg.Wait()
}

// A forged record does not make an idle session build ciphers and keep them.
func TestForgedAtRest(t *testing.T) {
	checkLeaks(t)
	l := listen(t, pskConfig("key"), Config{})
	conns := server[*Conn](t, l)
	c := newClient(t, l, nil)
	echo(t, c.Conn, "x")
	s := <-conns
	require.True(t, s.rest(time.Now().Add(time.Hour)))
	for _, length := range []int{3, 40} {
		before := l.Stats().Forged
		forged := make([]byte, record.HeaderSize+length)
		record.PutHeader(forged, record.TypeApplicationData, 1, 1000, length)
		send(t, c.udp, forged)
		eventually(t, func() bool { return l.Stats().Forged == before+1 }, "forged")
		s.mu.Lock()
		assert.False(t, s.busy)
		assert.True(t, reflect.ValueOf(&s.records).Elem().FieldByName("active").IsNil(), "no ciphers")
		s.mu.Unlock()
	}
	echo(t, c.Conn, "y")
}

// A deadline reaches every Read that waits; and after the peer's close_notify what
// came before is still read, deadline or not.
func TestDeadlinesAndReaders(t *testing.T) {
	checkLeaks(t)
	l := listen(t, pskConfig("key"), Config{})
	c := newClient(t, l, nil)
	accepted, err := l.Accept()
	require.NoError(t, err)
	s := accepted.(*Conn)
	errs := make(chan error, 3)
	for range 3 {
		go func() { _, err := s.Read(make([]byte, 10)); errs <- err }()
	}
	eventually(t, func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.inbox != nil && s.inbox.readers == 3 }, "three wait")
	require.NoError(t, s.SetReadDeadline(time.Now()))
	for range 3 {
		require.ErrorIs(t, <-errs, os.ErrDeadlineExceeded)
	}
	require.NoError(t, s.SetReadDeadline(time.Time{}))
	_, err = c.Write([]byte("last words"))
	require.NoError(t, err)
	require.NoError(t, c.Close())
	eventually(t, func() bool { return l.Stats().Established == 0 }, "closed")
	require.NoError(t, s.SetReadDeadline(time.Now().Add(patience)))
	buf := make([]byte, 100)
	n, err := s.Read(buf)
	require.NoError(t, err)
	assert.Equal(t, "last words", string(buf[:n]))
	_, err = s.Read(buf)
	assert.Equal(t, io.EOF, err)
	_, err = s.Write(buf)
	assert.ErrorIs(t, err, ErrPeerClosed)
}

type brokenSocket struct{ net.PacketConn }

var errBroken = errors.New("broken")

func (brokenSocket) ReadFrom([]byte) (int, net.Addr, error) { return 0, nil, errBroken }

// A socket that fails for good ends the listener, which says why.
func TestBrokenSocket(t *testing.T) {
	checkLeaks(t)
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	l, err := NewListener(brokenSocket{socket}, pskConfig("key"), Config{})
	require.NoError(t, err)
	_, err = l.Accept()
	assert.ErrorIs(t, err, errBroken)
	assert.ErrorIs(t, err, net.ErrClosed)
	eventually(t, func() bool { return errors.Is(l.Close(), net.ErrClosed) }, "closed by itself")
	l.running.Wait()
}

// A Write that does not fit ends no session.
func TestWriteTooLong(t *testing.T) {
	checkLeaks(t)
	config := pskConfig("key")
	config.MTU = 1 << 15
	l := listen(t, config, Config{})
	newClient(t, l, nil)
	s, err := l.Accept()
	require.NoError(t, err)
	_, err = s.Write(make([]byte, 17000))
	assert.ErrorContains(t, err, "at most 16384 fit")
	_, err = s.Write([]byte("x"))
	assert.NoError(t, err)
}

// After the end of Serve, and of Shutdown, no handler runs.
func TestHandlersEnd(t *testing.T) {
	checkLeaks(t)
	for _, how := range []string{"cancel", "close", "shutdown"} {
		t.Run(how, func(t *testing.T) {
			l := listen(t, pskConfig("key"), Config{Workers: 1})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var calls atomic.Int32
			first, goOn, served := make(chan struct{}), make(chan struct{}), make(chan error, 1)
			go func() {
				served <- l.Serve(ctx, func(*Conn, []byte) {
					if calls.Add(1) == 1 {
						close(first)
						<-goOn
					}
				})
			}()
			c := newClient(t, l, nil)
			for range 12 {
				_, err := c.Write([]byte("x"))
				require.NoError(t, err)
			}
			<-first
			switch how {
			case "cancel":
				cancel()
			case "close":
				require.NoError(t, l.Close())
			case "shutdown":
				require.NoError(t, c.Close())
				down := make(chan error, 1)
				go func() { down <- l.Shutdown(context.Background()) }()
				eventually(t, func() bool { return l.Stats().ClosedByPeer == 1 }, "closed")
				select {
				case <-down:
					assert.Fail(t, "a handler runs")
				default:
				}
				defer func() { assert.NoError(t, <-down) }()
				close(goOn)
				<-served
				assert.EqualValues(t, 12, calls.Load(), "all that came before it was closed")
				return
			}
			eventually(t, func() bool { return l.workers.isStopped() }, "stopped")
			close(goOn)
			<-served
			assert.EqualValues(t, 1, calls.Load())
		})
	}
}

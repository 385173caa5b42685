// SPDX-License-Identifier: MIT

package pionv2

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
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

// wire is a server's socket on a network that a test has in its hands.
type wire struct {
	net.PacketConn
	// in and out say whether a datagram gets through. They are called from many
	// goroutines. Nil: it does.
	in, out atomic.Pointer[func(b []byte) bool]
}

func (w *wire) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, addr, err := w.PacketConn.ReadFrom(b)
		if f := w.in.Load(); err == nil && f != nil && !(*f)(b[:n]) {
			continue
		}
		return n, addr, err
	}
}

func (w *wire) WriteTo(b []byte, addr net.Addr) (int, error) {
	if f := w.out.Load(); f != nil && !(*f)(b) {
		return len(b), nil
	}
	return w.PacketConn.WriteTo(b, addr)
}

// listenWire is listen, on a wire.
func listenWire(t *testing.T, config *dtls.Config, cfg Config) (*Listener, *wire) {
	t.Helper()
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	w := &wire{PacketConn: socket}
	l, err := NewListener(w, config, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l, w
}

// has is whether a datagram has a record of a type, of epoch 0 or of later ones.
func has(datagram []byte, kind record.Type, sealed bool) bool {
	for rest := datagram; len(rest) > 0; {
		var r record.Record
		var fault record.Fault
		if r, rest, fault = record.Next(rest); fault == record.NoFault && r.Type == kind && (r.Epoch > 0) == sealed {
			return true
		}
	}
	return false
}

// hello is a ClientHello as a client sends it first, of a random of its own.
func hello(random byte) []byte {
	body := append([]byte{254, 253}, bytes.Repeat([]byte{random}, 32)...)
	body = append(body, 0, 0, 0, 2, 0, 0xa8, 1, 0)
	n := byte(len(body))
	return plain(record.TypeHandshake, 0, append([]byte{record.MessageClientHello, 0, 0, n, 0, 0, 0, 0, 0, 0, 0, n}, body...)...)
}

// stranger is a bare socket that sends to a listener.
func stranger(t *testing.T, l *Listener) *net.UDPConn {
	t.Helper()
	c, err := net.DialUDP("udp", nil, l.Addr().(*net.UDPAddr))
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func send(t *testing.T, c net.Conn, datagram []byte) {
	t.Helper()
	_, err := c.Write(datagram)
	require.NoError(t, err)
}

// T1: peers that begin a handshake and fall silent hold up nobody, and neither does
// junk.
func TestStalledHandshakes(t *testing.T) {
	checkLeaks(t)
	l := listen(t, pskConfig("key"), Config{Handshakes: 2000, HandshakesPerSource: -1, HandshakeTimeout: time.Hour})
	server[*Conn](t, l)
	// Some at a time, no more than the socket's buffer takes.
	for n := range 200 {
		send(t, stranger(t, l), plain(record.TypeHandshake, 0, 1)) // T1's 14 bytes
		send(t, stranger(t, l), bytes.Repeat([]byte{byte(n)}, n+1))
		if n%20 == 19 {
			eventually(t, func() bool { s := l.Stats(); return s.Stray+s.Malformed >= uint64(2*n+2) }, "junk")
		}
	}
	for n := range 1000 {
		send(t, stranger(t, l), hello(1))
		if n%20 == 19 {
			eventually(t, func() bool { return l.Stats().HalfOpen == n+1 }, "stalled handshakes")
		}
	}
	for range 20 {
		echo(t, newClient(t, l, nil).Conn, "honest")
	}
	stats := l.Stats()
	assert.Equal(t, 1000, stats.HalfOpen)
	assert.Zero(t, stats.Failed)
}

// Promise 4: under pressure the oldest half-open goes that has not returned its
// cookie, and no established session.
func TestFloodOfStrangers(t *testing.T) {
	checkLeaks(t)
	const sessions, cap = 4, 8
	l := listen(t, pskConfig("key"), Config{Sessions: sessions, Handshakes: cap, HandshakesPerSource: -1})
	server[*Conn](t, l)
	var clients []*client
	for range sessions {
		clients = append(clients, newClient(t, l, nil))
	}
	for range 200 {
		send(t, stranger(t, l), hello(2))
		require.LessOrEqual(t, l.Stats().HalfOpen, cap)
	}
	// Displaced, or refused while too many that were displaced have not ended yet.
	eventually(t, func() bool { s := l.Stats(); return s.Displaced+s.NoRoom >= 200-cap }, "displaced")
	for _, c := range clients {
		echo(t, c.Conn, "still here")
	}
	stats := l.Stats()
	assert.Equal(t, sessions, stats.Established)
	assert.Zero(t, stats.Evicted)
	// An honest newcomer gets in, and the session used least recently goes.
	echo(t, newClient(t, l, nil).Conn, "newcomer")
	assert.EqualValues(t, 1, l.Stats().Evicted)
	requireEOF(t, clients[0].Conn)
}

// A network gets no more than its share of the half-open handshakes.
func TestSourceShare(t *testing.T) {
	checkLeaks(t)
	l := listen(t, pskConfig("key"), Config{Handshakes: 100, HandshakesPerSource: 5})
	for n := range 20 {
		send(t, stranger(t, l), hello(byte(n)))
	}
	eventually(t, func() bool { return l.Stats().Started == 20 }, "started")
	assert.Equal(t, 5, l.Stats().HalfOpen)
	assert.EqualValues(t, 15, l.Stats().Displaced)
}

// T14: only a client's first message opens a slot.
func TestStray(t *testing.T) {
	checkLeaks(t)
	l := listen(t, pskConfig("key"), Config{})
	c := stranger(t, l)
	later := hello(1)
	later[record.HeaderSize+5] = 1 // message_seq
	stray := [][]byte{
		later,
		plain(record.TypeChangeCipherSpec, 3, 1),
		plain(record.TypeAlert, 4, 1, 0),
		append(hello(1), plain(record.TypeHandshake, 2, 0)...),
	}
	for _, datagram := range stray {
		send(t, c, datagram)
	}
	eventually(t, func() bool { return l.Stats().Stray == uint64(len(stray)) }, "counted")
	assert.Zero(t, l.Stats().Started)
	assert.Equal(t, l.Table().MaxSlots(), l.Table().AvailableSlots())
}

// T16: a client that rebooted while its handshake was half-open.
func TestRebootInTheHandshake(t *testing.T) {
	checkLeaks(t)
	l := listen(t, pskConfig("key"), Config{})
	server[*Conn](t, l)
	udp := stranger(t, l)
	send(t, udp, hello(7))
	require.NoError(t, udp.SetReadDeadline(time.Now().Add(patience)))
	_, err := udp.Read(make([]byte, 1000)) // not for the client after it to read
	require.NoError(t, err)
	send(t, udp, hello(7)) // a retransmission begins none
	local := udp.LocalAddr().(*net.UDPAddr)
	require.NoError(t, udp.Close())
	echo(t, newClient(t, l, local).Conn, "again")
	stats := l.Stats()
	assert.EqualValues(t, 2, stats.Started)
	assert.EqualValues(t, 1, stats.Displaced)
}

// Mistake 6: late duplicates of the ClientHello that a session began with.
func TestLateClientHello(t *testing.T) {
	checkLeaks(t)
	l, w := listenWire(t, pskConfig("key"), Config{})
	var mu sync.Mutex
	var hellos [][]byte
	watch := func(b []byte) bool {
		mu.Lock()
		defer mu.Unlock()
		if r, _, fault := record.Next(b); fault == record.NoFault {
			if _, ok := record.ParseClientHello(r); ok {
				hellos = append(hellos, bytes.Clone(b))
			}
		}
		return true
	}
	w.in.Store(&watch)
	server[*Conn](t, l)
	c := newClient(t, l, nil)
	echo(t, c.Conn, "x")
	mu.Lock()
	late := append([][]byte(nil), hellos...)
	mu.Unlock()
	require.Len(t, late, 2)
	for n := range 40 {
		send(t, c.udp, late[n%2])
	}
	eventually(t, func() bool { return l.Stats().Plaintext == 40 }, "counted")
	assert.EqualValues(t, 1, l.Stats().Started)
	echo(t, c.Conn, "y")
}

// RFC 6347 4.2.8: whoever forges ClientHellos for a session's peer does it no harm,
// also while data flows.
func TestForgedReboots(t *testing.T) {
	checkLeaks(t)
	l := listen(t, pskConfig("key"), Config{})
	conns := server[*Conn](t, l)
	c := newClient(t, l, nil)
	echo(t, c.Conn, "before")
	session := <-conns
	begin := time.Now()
	for n := range 200 {
		send(t, c.udp, hello(byte(n)))
		echo(t, c.Conn, fmt.Sprint(n))
	}
	most := 1 + uint64(time.Since(begin)/restartAfter)
	stats := l.Stats()
	assert.Equal(t, dsm.StateEstablished, session.State())
	assert.Zero(t, stats.Replaced)
	assert.Equal(t, 1, stats.HalfOpen)
	assert.Greater(t, stats.Started, uint64(1))
	assert.LessOrEqual(t, stats.Started-1, most, "not one for each")
	assert.EqualValues(t, 200, stats.Started-1+stats.Plaintext, "one after the other, or none")
}

// A replaced session sends nothing: its close_notify would reach the new client.
func TestReplacedSaysNothing(t *testing.T) {
	checkLeaks(t)
	l, w := listenWire(t, pskConfig("key"), Config{})
	server[*Conn](t, l)
	c := newClient(t, l, nil)
	echo(t, c.Conn, "x")
	var alerts atomic.Int32
	out := func(b []byte) bool {
		if has(b, record.TypeAlert, true) {
			alerts.Add(1)
		}
		return true
	}
	w.out.Store(&out)
	c.kill()
	again := newClient(t, l, c.port())
	echo(t, again.Conn, "y")
	assert.EqualValues(t, 1, l.Stats().Replaced)
	assert.Zero(t, alerts.Load())
	require.NoError(t, l.Close())
	assert.EqualValues(t, 1, alerts.Load(), "the new session's")
}

// T15: that a client repeats its ClientHello is no proof of where it is: it is the
// first to go. One that has returned its cookie is not.
func TestRepetitionIsNoProof(t *testing.T) {
	checkLeaks(t)
	const cap = 8
	l := listen(t, pskConfig("key"), Config{Handshakes: cap, HandshakesPerSource: -1})
	proven := func(c net.Conn) bool {
		peer, _ := dsm.PeerOf(c.LocalAddr())
		session, state := l.Table().Get(l.Sock(), peer)
		if state != dsm.StateHandshake {
			return false
		}
		p := session.Value
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.handshake != nil && p.handshake.proven.Load()
	}
	honest, repeats := stranger(t, l), stranger(t, l)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = dtls.ClientWithContext(ctx, &stalls{Conn: honest}, pskConfig("key")) })
	defer func() { cancel(); wg.Wait() }()
	eventually(t, func() bool { return proven(honest) }, "its cookie is back")
	send(t, repeats, hello(1))
	send(t, repeats, hello(1))
	send(t, repeats, plain(record.TypeAlert, 3)) // too short for an alert, and the last of them
	eventually(t, func() bool { return l.Stats().HalfOpen == 2 }, "both")
	for n := range cap - 1 {
		send(t, stranger(t, l), hello(byte(2+n)))
	}
	eventually(t, func() bool { return l.Stats().Displaced == 1 }, "one has to go")
	assert.True(t, proven(honest))
	peer, _ := dsm.PeerOf(repeats.LocalAddr())
	_, state := l.Table().Get(l.Sock(), peer)
	assert.Equal(t, dsm.StateNone, state)
}

// dataFirst puts plaintext application data in front of the client's last flight.
type dataFirst struct{ net.Conn }

func (c dataFirst) Write(p []byte) (int, error) {
	if has(p, record.TypeChangeCipherSpec, false) {
		if _, err := c.Conn.Write(plain(record.TypeApplicationData, 50, 'x')); err != nil {
			return 0, err
		}
	}
	return c.Conn.Write(p)
}

// Mistake 3: what anybody can put among the client's datagrams does not reach pion,
// which would give up the handshake and leave its transport open.
func TestDataInTheHandshake(t *testing.T) {
	checkLeaks(t)
	l := listen(t, pskConfig("key"), Config{})
	server[*Conn](t, l)
	c, err := dtls.Client(dataFirst{stranger(t, l)}, pskConfig("key"))
	require.NoError(t, err)
	echo(t, c, "x")
	require.NoError(t, c.Close())
	assert.EqualValues(t, 1, l.Stats().Plaintext)
	assert.Zero(t, l.Stats().Failed)
}

// Mistake 4: our last flight is lost. The client repeats its Finished, and gets the
// flight again.
func TestLostLastFlight(t *testing.T) {
	checkLeaks(t)
	for _, suite := range []dtls.CipherSuiteID{dtls.TLS_PSK_WITH_AES_128_GCM_SHA256, dtls.TLS_PSK_WITH_AES_128_CCM_8, dtls.TLS_PSK_WITH_AES_128_CBC_SHA256} {
		t.Run(suite.String(), func(t *testing.T) {
			config := pskConfig("key")
			config.CipherSuites = []dtls.CipherSuiteID{suite}
			l, w := listenWire(t, config, Config{})
			var lost atomic.Int32
			drop := func(b []byte) bool {
				return !has(b, record.TypeChangeCipherSpec, false) || lost.Add(1) > 3
			}
			w.out.Store(&drop)
			server[*Conn](t, l)
			c, err := tryClient(l, nil, config)
			require.NoError(t, err)
			t.Cleanup(c.kill)
			echo(t, c.Conn, "after all")
			assert.EqualValues(t, 4, lost.Load())
		})
	}
}

// Mistakes 2 and 3: data that comes before the takeover is done, or before the
// Finished that it follows.
func TestDataBeforeTheTakeover(t *testing.T) {
	checkLeaks(t)
	l, w := listenWire(t, pskConfig("key"), Config{})
	server[*Conn](t, l)
	// The network turns each client's Finished and first data around: the client's
	// last flight arrives after the data that follow it.
	var mu sync.Mutex
	swap := true
	in := func(b []byte) bool {
		mu.Lock()
		defer mu.Unlock()
		return !swap || !has(b, record.TypeHandshake, true)
	}
	w.in.Store(&in)
	done := make(chan struct{})
	go func() {
		defer close(done)
		time.Sleep(20 * time.Millisecond)
		mu.Lock()
		swap = false
		mu.Unlock()
	}()
	for n := range 50 {
		c := newClient(t, l, nil)
		echo(t, c.Conn, fmt.Sprint(n)) // pion's client writes at once
	}
	<-done
}

// Promise 5, with losses: at 30 % both ways every client gets in and is heard, and no
// record is delivered twice.
func TestLoss(t *testing.T) {
	checkLeaks(t)
	const clients = 200
	l, w := listenWire(t, pskConfig("key"), Config{HandshakesPerSource: -1, Handshakes: clients, HandshakeTimeout: time.Minute})
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(1, 2))
	lossy := func([]byte) bool {
		mu.Lock()
		defer mu.Unlock()
		return r.IntN(100) >= 30
	}
	w.in.Store(&lossy)
	w.out.Store(&lossy)
	seen := map[string]int{}
	ctx, cancel := context.WithCancel(context.Background())
	var served sync.WaitGroup
	served.Go(func() {
		_ = l.Serve(ctx, func(c *Conn, datagram []byte) {
			mu.Lock()
			seen[fmt.Sprint(c.Peer(), string(datagram))]++
			mu.Unlock()
			_, _ = c.Write(datagram)
		})
	})
	t.Cleanup(func() { cancel(); served.Wait() })
	var wg sync.WaitGroup
	limit := make(chan struct{}, 50)
	for n := range clients {
		limit <- struct{}{}
		wg.Go(func() {
			defer func() { <-limit }()
			config := pskConfig("key")
			config.FlightInterval = 20 * time.Millisecond
			config.ConnectContextMaker = func() (context.Context, func()) {
				return context.WithTimeout(context.Background(), time.Minute)
			}
			c, err := tryClient(l, nil, config)
			if !assert.NoError(t, err) {
				return
			}
			defer c.kill()
			buf := make([]byte, 100)
			for try := range 100 {
				_, _ = fmt.Fprint(c, n, " ", try)
				_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
				if _, err := c.Read(buf); err == nil {
					return
				} else if !errors.Is(err, context.DeadlineExceeded) {
					assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
				}
			}
			assert.Fail(t, "no echo")
		})
	}
	wg.Wait()
	mu.Lock()
	defer mu.Unlock()
	for text, times := range seen {
		assert.Equal(t, 1, times, text)
	}
	assert.EqualValues(t, clients, l.Stats().Completed)
	t.Logf("%+v", l.Stats())
}

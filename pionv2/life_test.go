// SPDX-License-Identifier: MIT

package pionv2

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestListenRefuses(t *testing.T) {
	small, err := dsm.New[*Peer](4)
	require.NoError(t, err)
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{Config{Sessions: -1}, "Sessions"},
		{Config{Handshakes: -1}, "Handshakes"},
		{Config{HandshakeTimeout: -1}, "HandshakeTimeout"},
		{Config{IdleTimeout: -1}, "IdleTimeout"},
		{Config{MinAvailable: -1}, "MinAvailable"},
		{Config{MinAvailable: 5, Sessions: 4}, "MinAvailable"},
		{Config{QueueBytes: -1}, "QueueBytes"},
		{Config{ResumptionScope: "x"}, "ResumptionScope"},
		{Config{Workers: -1}, "Workers"},
		{Config{Sockets: -1}, "Sockets"},
		{Config{Sockets: maxSockets + 1}, "Sockets"},
		{Config{WhenFull: 9}, "WhenFull"},
		{Config{WhenFull: EvictStale}, "StaleAfter"},
		{Config{StaleAfter: time.Second}, "StaleAfter"},
		{Config{Table: small}, "Table"},
		{Config{Table: small, Sessions: 3, Handshakes: 2}, "Table"},
		{Config{Sessions: 1 << 30}, "slots"},
	} {
		_, err := Listen("udp", "127.0.0.1:0", pskConfig("key"), c.cfg)
		assert.ErrorContains(t, err, c.want)
	}
	for want, change := range map[string]func(c *dtls.Config){
		"CustomCipherSuites":      func(c *dtls.Config) { c.CustomCipherSuites = func() []dtls.CipherSuite { return nil } },
		"SessionStore":            func(c *dtls.Config) { c.SessionStore = struct{ dtls.SessionStore }{} },
		"InsecureSkipVerifyHello": func(c *dtls.Config) { c.InsecureSkipVerifyHello = true },
		"MTU":                     func(c *dtls.Config) { c.MTU = minMTU - 1 },
		"ReplayProtectionWindow":  func(c *dtls.Config) { c.ReplayProtectionWindow = maxWindow + 1 },
		"SRTPProtectionProfiles":  func(c *dtls.Config) { c.SRTPProtectionProfiles = []dtls.SRTPProtectionProfile{1} },
	} {
		config := pskConfig("key")
		change(config)
		_, err := Listen("udp", "127.0.0.1:0", config, Config{})
		assert.ErrorContains(t, err, want)
	}
	_, err = Listen("udp", "127.0.0.1:0", nil, Config{})
	assert.Error(t, err)
	_, err = Listen("udp", "127.0.0.1:0", &dtls.Config{}, Config{})
	assert.ErrorContains(t, err, "neither a certificate nor a PSK")
	_, err = Listen("udp", "127.0.0.1:0", &dtls.Config{PSK: pskConfig("key").PSK, CipherSuites: []dtls.CipherSuiteID{1}}, Config{})
	assert.ErrorContains(t, err, "CipherSuite")
	_, err = Listen("udp", "nowhere", pskConfig("key"), Config{})
	assert.Error(t, err)
	_, err = NewListener(nil, pskConfig("key"), Config{})
	assert.Error(t, err)
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer socket.Close()
	for _, cfg := range []Config{{Sockets: 2}, {ReadBuffer: 1}, {WriteBuffer: 1}, {Sessions: -1}} {
		_, err = NewListener(socket, pskConfig("key"), cfg)
		assert.Error(t, err)
	}
}

// hasty is a client whose session ends with its handshake. Pion's client then gives
// an error, or has lost the close_notify.
func hasty(t *testing.T, l *Listener) {
	t.Helper()
	if c, err := tryClient(l, nil, pskConfig("key")); err == nil {
		c.kill()
	}
}

func TestPolicies(t *testing.T) {
	checkLeaks(t)
	t.Run("refuse", func(t *testing.T) {
		l := listen(t, pskConfig("key"), Config{Sessions: 1, WhenFull: RefuseNewcomer})
		server[*Conn](t, l)
		c := newClient(t, l, nil)
		echo(t, c.Conn, "x")
		send(t, stranger(t, l), hello(1))
		eventually(t, func() bool { return l.Stats().NoRoom == 1 }, "refused")
		echo(t, c.Conn, "y")
		require.NoError(t, c.Close())
		eventually(t, func() bool { return l.Stats().Established == 0 }, "closed")
		echo(t, newClient(t, l, nil).Conn, "z")
	})
	t.Run("evict if stale", func(t *testing.T) {
		l := listen(t, pskConfig("key"), Config{Sessions: 1, WhenFull: EvictStale, StaleAfter: time.Hour})
		conns := server[*Conn](t, l)
		c := newClient(t, l, nil)
		echo(t, c.Conn, "x")
		hasty(t, l)
		eventually(t, func() bool { return l.Stats().Refused == 1 }, "refused")
		echo(t, c.Conn, "y")
		session := <-conns
		session.mu.Lock()
		session.lastUsed -= 2 * time.Hour
		session.mu.Unlock()
		echo(t, newClient(t, l, nil).Conn, "z")
		_, err := session.Write([]byte("x"))
		assert.ErrorIs(t, err, ErrEvicted)
		assert.ErrorIs(t, err, net.ErrClosed)
	})
	t.Run("a queue for Accept that is full", func(t *testing.T) {
		l := listen(t, pskConfig("key"), Config{AcceptQueue: 1})
		c := newClient(t, l, nil)
		eventually(t, func() bool { return l.Stats().Established == 1 }, "established")
		hasty(t, l)
		eventually(t, func() bool { return l.Stats().Refused == 1 }, "refused")
		server[*Conn](t, l)
		echo(t, c.Conn, "x")
	})
}

func TestListenersOnOneTable(t *testing.T) {
	checkLeaks(t)
	table, err := dsm.New[*Peer](6)
	require.NoError(t, err)
	one := listen(t, pskConfig("key"), Config{Table: table, Sessions: 2, Handshakes: 2})
	two := listen(t, pskConfig("key"), Config{Table: table, Handshakes: 2})
	assert.Equal(t, 4, two.config.Sessions)
	server[*Conn](t, one)
	server[*Conn](t, two)
	for range 3 {
		echo(t, newClient(t, one, nil).Conn, "one")
	}
	for range 4 {
		echo(t, newClient(t, two, nil).Conn, "two")
	}
	assert.EqualValues(t, 1, one.Stats().Evicted)
	assert.Zero(t, two.Stats().Evicted)
	// The table is full: there is no slot for a handshake, and nothing of the other
	// listener's goes.
	send(t, stranger(t, one), hello(1))
	eventually(t, func() bool { return one.Stats().NoRoom == 1 }, "no slot")
	assert.Equal(t, 0, table.AvailableSlots())
	require.NoError(t, one.Close())
	assert.Equal(t, 2, table.AvailableSlots())
}

// A session is half-open from when its slot is reserved.
func TestStatesInTheTable(t *testing.T) {
	checkLeaks(t)
	l := listen(t, pskConfig("key"), Config{HandshakeTimeout: 100 * time.Millisecond})
	conns := server[*Conn](t, l)
	udp := stranger(t, l)
	send(t, udp, hello(1))
	peer, _ := dsm.PeerOf(udp.LocalAddr())
	eventually(t, func() bool {
		session, state := l.Table().Get(l.Sock(), peer)
		return state == dsm.StateHandshake && session.Value.Conn() == nil
	}, "half-open")
	eventually(t, func() bool { return l.Stats().TimedOut == 1 }, "timed out")
	_, state := l.Table().Get(l.Sock(), peer)
	assert.Equal(t, dsm.StateNone, state)

	c := newClient(t, l, nil)
	session := <-conns
	held, state := l.Table().Get(l.Sock(), session.Peer())
	assert.Equal(t, dsm.StateEstablished, state)
	assert.Same(t, session, held.Value.Conn())
	assert.Equal(t, held.Value.Slot(), session.Slot())
	assert.Same(t, l, session.Listener())
	assert.Equal(t, session.Peer().String(), session.RemoteAddr().String())
	assert.Equal(t, l.Addr(), session.LocalAddr())
	require.NoError(t, c.Close())
	eventually(t, func() bool { return l.Table().AvailableSlots() == l.Table().MaxSlots() }, "all free")

	// A wrong key: pion gives up, or its client does.
	_, err := tryDial(l, nil, "another")
	require.Error(t, err)
	eventually(t, func() bool { s := l.Stats(); return s.Failed+s.TimedOut == 2 }, "failed")
}

func TestReadAndWrite(t *testing.T) {
	checkLeaks(t)
	config := pskConfig("key")
	config.MTU = 1200
	l := listen(t, config, Config{QueueDatagrams: 3, QueueBytes: 1000})
	c := newClient(t, l, nil)
	accepted, err := l.Accept()
	require.NoError(t, err)
	s := accepted.(*Conn)
	write := func(n int) {
		t.Helper()
		_, err := c.Write(make([]byte, n))
		require.NoError(t, err)
	}

	// A buffer too small: the head, an error, and never another datagram's bytes.
	write(10)
	write(5)
	buf := make([]byte, 100)
	n, err := s.Read(buf[:4])
	assert.Equal(t, 4, n)
	assert.ErrorIs(t, err, io.ErrShortBuffer)
	n, err = s.Read(buf)
	assert.Equal(t, 5, n)
	assert.NoError(t, err)

	// A write that does not fit.
	_, err = s.Write(make([]byte, 1200))
	assert.ErrorContains(t, err, "at most 1163 fit")
	_, err = s.Write(make([]byte, 1163))
	assert.NoError(t, err)

	// Deadlines.
	require.NoError(t, s.SetDeadline(time.Now().Add(-time.Second)))
	_, err = s.Read(buf)
	assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
	_, err = s.Write(buf)
	assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, s.SetDeadline(time.Time{}))
}

func TestQueueIsBounded(t *testing.T) {
	checkLeaks(t)
	for _, cfg := range []Config{{QueueDatagrams: 3}, {QueueBytes: 350}} {
		l := listen(t, pskConfig("key"), cfg)
		c := newClient(t, l, nil)
		s, err := l.Accept()
		require.NoError(t, err)
		for n := range 10 {
			_, err := c.Write(append(make([]byte, 99), byte(n)))
			require.NoError(t, err)
		}
		eventually(t, func() bool { return l.Stats().QueueFull == 7 }, "the newest are dropped")
		buf := make([]byte, 200)
		for n := range 3 {
			_, err := s.Read(buf)
			require.NoError(t, err)
			require.EqualValues(t, n, buf[99])
		}
		echoed := make(chan struct{})
		go func() { defer close(echoed); n, _ := s.Read(buf); _, _ = s.Write(buf[:n]) }()
		echo(t, c.Conn, "and then it takes more")
		<-echoed
	}
}

func TestServe(t *testing.T) {
	checkLeaks(t)
	l := listen(t, pskConfig("key"), Config{Workers: 2})
	// What came before Serve was called waits for it.
	early := newClient(t, l, nil)
	_, err := early.Write([]byte("early"))
	require.NoError(t, err)
	eventually(t, func() bool { return l.Stats().Established == 1 }, "established")

	ctx, cancel := context.WithCancel(t.Context())
	block := make(chan struct{})
	var running, most atomic.Int32
	served := make(chan error, 1)
	go func() {
		served <- l.Serve(ctx, func(c *Conn, datagram []byte) {
			most.Store(max(most.Load(), running.Add(1)))
			defer running.Add(-1)
			switch string(datagram) {
			case "block":
				<-block
			case "close":
				assert.NoError(t, c.Close())
				return
			}
			_, err := c.Write(datagram)
			assert.NoError(t, err)
		})
	}()
	buf := make([]byte, 100)
	require.NoError(t, early.SetReadDeadline(time.Now().Add(patience)))
	n, err := early.Read(buf)
	require.NoError(t, err)
	assert.Equal(t, "early", string(buf[:n]))

	_, err = l.Accept()
	assert.ErrorIs(t, err, ErrServing)
	assert.ErrorIs(t, l.Serve(ctx, nil), ErrServing)

	// A slow handler holds up its own session only.
	slow, quick := newClient(t, l, nil), newClient(t, l, nil)
	_, err = slow.Write([]byte("block"))
	require.NoError(t, err)
	for n := range 100 {
		_, err = slow.Write([]byte(fmt.Sprint(n)))
		require.NoError(t, err)
		echo(t, quick.Conn, fmt.Sprint(n))
	}
	assert.LessOrEqual(t, most.Load(), int32(2))
	close(block)
	// And in order, but for what did not fit into its queue.
	require.NoError(t, slow.SetReadDeadline(time.Now().Add(patience)))
	n, err = slow.Read(buf)
	require.NoError(t, err)
	assert.Equal(t, "block", string(buf[:n]))
	for want := range DefaultQueueDatagrams {
		n, err = slow.Read(buf)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint(want), string(buf[:n]))
	}
	_, err = quick.Write([]byte("close"))
	require.NoError(t, err)
	requireEOF(t, quick.Conn)

	cancel()
	assert.ErrorIs(t, <-served, context.Canceled)
	require.NoError(t, l.Close())
	assert.ErrorIs(t, l.Serve(t.Context(), nil), net.ErrClosed)
}

// Hooks are called in order, once each, and may close the session.
func TestHooks(t *testing.T) {
	checkLeaks(t)
	var mu sync.Mutex
	var told []string
	tell := func(what string, c *Conn) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, fmt.Sprint(what, " ", c.Peer().Port()))
	}
	l := listen(t, pskConfig("key"), Config{
		Sessions:      1,
		OnEstablished: func(c *Conn) { tell("established", c); c.Slot(); c.State() },
		OnEnd:         func(c *Conn, why Reason) { tell(why.String(), c); _ = c.Close() },
	})
	conns := server[*Conn](t, l)
	a := newClient(t, l, nil)
	echo(t, a.Conn, "a")
	b := newClient(t, l, nil)
	echo(t, b.Conn, "b")
	<-conns
	eventually(t, func() bool { mu.Lock(); defer mu.Unlock(); return len(told) == 3 }, "told")
	require.NoError(t, (<-conns).Close())
	pa, pb := a.port().Port, b.port().Port
	mu.Lock()
	defer mu.Unlock()
	assert.ElementsMatch(t, []string{
		fmt.Sprint("established ", pa), fmt.Sprint("evicted ", pa), fmt.Sprint("established ", pb), fmt.Sprint("closed by us ", pb),
	}, told)
	assert.Contains(t, Reason(99).String(), "99")
	assert.Contains(t, Reason(0).String(), "0")

	hooked := listen(t, pskConfig("key"), Config{OnEstablished: func(c *Conn) { assert.NoError(t, c.Close()) }})
	hasty(t, hooked)
	eventually(t, func() bool { return hooked.Stats().ClosedByUs == 1 }, "closed")
	assert.Zero(t, hooked.Stats().Established)
}

func TestCloseIsPrompt(t *testing.T) {
	checkLeaks(t)
	config := pskConfig("key")
	config.FlightInterval = time.Second // which pion's Close sleeps for
	l := listen(t, config, Config{Handshakes: 500, HandshakesPerSource: -1})
	addr := l.Addr().(*net.UDPAddr)
	var clients []*client
	for range 10 {
		clients = append(clients, newClient(t, l, nil))
	}
	eventually(t, func() bool { return l.Stats().Established == len(clients) }, "established")
	var sessions []net.Conn
	for range len(clients) - 1 { // one is left in the queue
		s, err := l.Accept()
		require.NoError(t, err)
		sessions = append(sessions, s)
	}
	for n := range 200 {
		send(t, stranger(t, l), hello(byte(n)))
	}
	eventually(t, func() bool { return l.Stats().HalfOpen == 200 }, "half-open")
	reads := make(chan error, len(sessions))
	for _, s := range sessions {
		go func() { _, err := s.Read(make([]byte, 10)); reads <- err }()
	}
	begin := time.Now()
	require.NoError(t, l.Close())
	took := time.Since(begin)
	t.Log("Close took", took)
	for range sessions {
		assert.ErrorIs(t, <-reads, net.ErrClosed)
	}
	again, err := net.ListenUDP("udp", addr)
	require.NoError(t, err, "the port is free")
	require.NoError(t, again.Close())
	_, err = l.Accept()
	assert.ErrorIs(t, err, net.ErrClosed)
	assert.ErrorIs(t, l.Close(), net.ErrClosed)
	assert.ErrorIs(t, l.Shutdown(t.Context()), net.ErrClosed)
	for _, c := range clients {
		requireEOF(t, c.Conn)
	}
	assert.ErrorIs(t, sessions[0].Close(), nil)
	assert.ErrorIs(t, sessions[0].Close(), net.ErrClosed)
	assert.ErrorIs(t, sessions[0].SetDeadline(time.Now()), net.ErrClosed)
}

func TestShutdown(t *testing.T) {
	checkLeaks(t)
	l := listen(t, pskConfig("key"), Config{})
	server[*Conn](t, l)
	c := newClient(t, l, nil)
	echo(t, c.Conn, "x")
	down := make(chan error, 1)
	go func() { down <- l.Shutdown(context.Background()) }()
	eventually(t, func() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.stopping }, "stopping")
	send(t, stranger(t, l), hello(1))
	echo(t, c.Conn, "still served")
	assert.Zero(t, l.Stats().HalfOpen)
	require.NoError(t, c.Close())
	assert.NoError(t, <-down)

	l = listen(t, pskConfig("key"), Config{})
	server[*Conn](t, l)
	echo(t, newClient(t, l, nil).Conn, "x")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	assert.ErrorIs(t, l.Shutdown(ctx), context.DeadlineExceeded)
}

// bubble runs a test of timers on a clock of its own, with a memory network.
func bubble(t *testing.T, cfg Config, test func(t *testing.T, l *Listener, c *dtls.Conn, s *Conn)) {
	synctest.Test(t, func(t *testing.T) {
		config := pskConfig("key")
		l, near, err := memoryListener(config, cfg)
		require.NoError(t, err)
		c, err := dtls.Client(near, config)
		require.NoError(t, err)
		s, err := l.Accept()
		require.NoError(t, err)
		test(t, l, c, s.(*Conn))
		_ = c.Close()
		_ = l.Close()
		synctest.Wait()
	})
}

func TestIdleTimeout(t *testing.T) {
	bubble(t, Config{IdleTimeout: time.Minute}, func(t *testing.T, l *Listener, c *dtls.Conn, s *Conn) {
		for range 5 {
			time.Sleep(50 * time.Second)
			_, err := c.Write([]byte("alive"))
			require.NoError(t, err)
			synctest.Wait()
		}
		require.Equal(t, dsm.StateEstablished, s.State())
		time.Sleep(50 * time.Second)
		_, err := s.Write([]byte("what we send is use, too"))
		require.NoError(t, err)
		time.Sleep(50 * time.Second)
		require.Equal(t, dsm.StateEstablished, s.State())
		time.Sleep(11 * time.Second)
		require.Equal(t, dsm.StateNone, s.State())
		require.EqualValues(t, 1, l.Stats().Expired)
		_, err = s.Write(nil)
		require.ErrorIs(t, err, ErrExpired)
	})
}

func TestRest(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, l *Listener, c *dtls.Conn, s *Conn) {
		busy := func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.busy }
		_, err := c.Write([]byte("x"))
		require.NoError(t, err)
		synctest.Wait()
		require.True(t, busy())
		time.Sleep(2 * restAfter)
		require.False(t, busy(), "the ciphers are dropped")
		_, err = c.Write([]byte("y"))
		require.NoError(t, err)
		buf := make([]byte, 10)
		for _, want := range []string{"x", "y"} {
			n, err := s.Read(buf)
			require.NoError(t, err)
			require.Equal(t, want, string(buf[:n]))
		}
		require.True(t, busy())
	})
}

func TestMinAvailable(t *testing.T) {
	bubble(t, Config{Sessions: 1, MinAvailable: 1}, func(t *testing.T, l *Listener, _ *dtls.Conn, s *Conn) {
		time.Sleep(10 * time.Second)
		require.Equal(t, dsm.StateEstablished, s.State())
		time.Sleep(15 * time.Second)
		require.Equal(t, dsm.StateNone, s.State())
		require.EqualValues(t, 1, l.Stats().Evicted)
	})
}

// RFC 6347 4.1.0: a session ends before its numbers wrap.
func TestExhausted(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, l *Listener, _ *dtls.Conn, s *Conn) {
		s.mu.Lock()
		config := s.records.Config()
		config.NextSequence = record.LastSequence
		exhausted, err := record.New(config)
		require.NoError(t, err)
		s.records = *exhausted
		s.mu.Unlock()
		_, err = s.Write([]byte("the last"))
		require.NoError(t, err)
		_, err = s.Write([]byte("one more"))
		require.ErrorIs(t, err, record.ErrExhausted)
		require.Equal(t, dsm.StateNone, s.State())
	})
}

// Mistake 1: where it is not known which numbers pion has used, there is no session.
// The transport's own count is what they are compared with in TestNumbers.
func TestTakeOverNeedsTheLastFlight(t *testing.T) {
	checkLeaks(t)
	config := pskConfig("key")
	near, far := newPacketPipe(pipeAddr("near"), pipeAddr("far"))
	dialed := make(chan *dtls.Conn, 1)
	go func() {
		c, err := dtls.Client(near, config)
		assert.NoError(t, err)
		dialed <- c
	}()
	pion, err := dtls.Server(far, config)
	require.NoError(t, err)
	defer func() { _ = (<-dialed).Close() }()
	defer pion.Close()
	l := listen(t, config, Config{})
	h := &handshake{peer: &Peer{listener: l}, transport: newTransport(path{}, record.Random{}, 0)}
	_, err = l.takeOver(h, pion)
	assert.ErrorContains(t, err, "last flight")
}

// No number is used twice under a key, also across the takeover and when flights are
// repeated; and no nonce of pion's is one of ours.
func TestNumbers(t *testing.T) {
	checkLeaks(t)
	l, w := listenWire(t, pskConfig("key"), Config{})
	var mu sync.Mutex
	seen := map[string]bool{}
	drop := 2
	out := func(b []byte) bool {
		mu.Lock()
		defer mu.Unlock()
		for rest := b; len(rest) > 0; {
			var r record.Record
			var fault record.Fault
			r, rest, fault = record.Next(rest)
			assert.Equal(t, record.NoFault, fault)
			number := fmt.Sprint("number ", r.Epoch, r.Sequence)
			assert.False(t, seen[number], number)
			seen[number] = true
			if r.Epoch > 0 {
				nonce := fmt.Sprintf("nonce %x", r.Fragment()[:8])
				assert.False(t, seen[nonce], nonce)
				seen[nonce] = true
			}
		}
		if has(b, record.TypeChangeCipherSpec, false) {
			drop--
			return drop < 0
		}
		return true
	}
	w.out.Store(&out)
	server[*Conn](t, l)
	c := newClient(t, l, nil)
	for n := range 50 {
		echo(t, c.Conn, fmt.Sprint(n))
	}
	mu.Lock()
	defer mu.Unlock()
	assert.Greater(t, len(seen), 100)
}

func TestIdentities(t *testing.T) {
	checkLeaks(t)
	config := pskConfig("key")
	l := listen(t, config, Config{})
	for _, size := range []int{1, 47, 48, 200} {
		config := pskConfig("key")
		config.PSKIdentityHint = bytes.Repeat([]byte("i"), size)
		c, err := tryClient(l, nil, config)
		require.NoError(t, err)
		s, err := l.Accept()
		require.NoError(t, err)
		state := s.(*Conn).ConnectionState()
		assert.Equal(t, string(config.PSKIdentityHint), string(state.IdentityHint))
		c.kill()
	}
}

func TestConnectionState(t *testing.T) {
	checkLeaks(t)
	cert, _, _ := selfSigned(t, ecdsaKey(t))
	config := &dtls.Config{
		Certificates: []tls.Certificate{cert}, InsecureSkipVerify: true, ClientAuth: dtls.RequireAnyClientCert,
		SupportedProtocols: []string{"coap"},
	}
	l := listen(t, config, Config{})
	conns := server[*Conn](t, l)
	c, err := tryClient(l, nil, config)
	require.NoError(t, err)
	defer c.kill()
	echo(t, c.Conn, "x")
	state := (<-conns).ConnectionState()
	assert.Equal(t, "coap", state.NegotiatedProtocol)
	assert.Equal(t, cert.Certificate, state.PeerCertificates)
	clientState := c.ConnectionState()
	want, err := clientState.ExportKeyingMaterial("EXPORTER-test", nil, 32)
	require.NoError(t, err)
	got, err := state.ExportKeyingMaterial("EXPORTER-test", nil, 32)
	require.NoError(t, err)
	assert.Equal(t, want, got)
}

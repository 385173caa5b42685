// SPDX-License-Identifier: MIT

package dtlstest

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/internal/record"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const rtt = 300 * time.Millisecond

// slowPSK is a configuration that repeats no flight within a round trip.
func slowPSK(suites ...dtls.CipherSuiteID) *dtls.Config {
	config := PSKConfig("key", suites...)
	config.FlightInterval = time.Second
	return config
}

// pionServer runs the handshake of one server of pion over a socket of its own, and
// echoes.
func pionServer(t *testing.T, n *Network, client netip.AddrPort, config *dtls.Config) <-chan *dtls.Conn {
	t.Helper()
	s := n.Listen(netip.AddrPort{})
	s.Connect(client)
	conns := make(chan *dtls.Conn, 1)
	go func() {
		c, err := dtls.Server(s, config)
		if err != nil {
			_ = s.Close()
			close(conns)
			return
		}
		conns <- c
		echoAll(c)
	}()
	return conns
}

// inBubble runs a test with a client and a server of pion that are a round trip of
// 300 ms apart.
func inBubble(t *testing.T, config *dtls.Config, test func(t *testing.T, n *Network, c *Client, server *dtls.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork(1)
		n.SetRoundTrip(rtt)
		conns := pionServer(t, n, clientAddr, config)
		c := n.DialClient(t, clientAddr, serverAddr, config)
		server := Receive(t, conns)
		test(t, n, c, server)
		c.Kill()
		_ = server.Close()
		require.NoError(t, n.Close())
	})
}

func TestHandshakeTakesItsRoundTrips(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork(1)
		n.SetRoundTrip(rtt)
		begin := time.Now()
		conns := pionServer(t, n, clientAddr, slowPSK())
		c := n.DialClient(t, clientAddr, serverAddr, slowPSK())
		assert.Equal(t, 3*rtt, time.Since(begin), "cookie, hellos, Finished")
		begin = time.Now()
		Echo(t, c, "hello")
		assert.Equal(t, rtt, time.Since(begin))
		assert.Equal(t, clientAddr, AddrPort(c.Addr()))
		server := Receive(t, conns)
		begin = time.Now()
		require.NoError(t, c.Close())
		assert.Less(t, time.Since(begin), maxCloseWait, "close_notify was sent at once")
		time.Sleep(rtt)
		_, err := server.Read(make([]byte, 10))
		assert.Error(t, err)
		require.NoError(t, n.Close())
		time.Sleep(time.Minute)
	})
}

func TestHandshakeWithLossAndReordering(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			n := NewNetwork(seed)
			// Pion's client never repeats its last flight, and its server then waits
			// for ever; so only the server loses.
			n.SetConditions(ToServer, Conditions{Delay: rtt / 2, Jitter: rtt, Duplication: 0.2})
			n.SetConditions(ToClient, Conditions{Delay: rtt / 2, Jitter: rtt, Loss: 0.2})
			conns := pionServer(t, n, clientAddr, slowPSK())
			c := n.DialClient(t, clientAddr, serverAddr, slowPSK())
			server := Receive(t, conns)
			c.Kill()
			_ = server.Close()
			require.NoError(t, n.Close())
		})
	}
}

func TestKilledClientSendsNothing(t *testing.T) {
	inBubble(t, slowPSK(), func(t *testing.T, n *Network, c *Client, server *dtls.Conn) {
		Echo(t, c, "alive")
		sent := n.Counts(ToServer).Sent
		c.Kill()
		time.Sleep(time.Minute)
		assert.Equal(t, sent, n.Counts(ToServer).Sent)
		_, err := server.Write([]byte("x"))
		assert.NoError(t, err, "the server does not know")
		time.Sleep(rtt)
		assert.Equal(t, 1, n.Counts(ToClient).Unreachable)
	})
}

func TestClosedClientSendsCloseNotify(t *testing.T) {
	for range 20 {
		inBubble(t, slowPSK(), func(t *testing.T, n *Network, c *Client, server *dtls.Conn) {
			var alerts atomic.Int32
			n.SetHook(ToServer, func(b []byte) bool {
				if Has(b, record.TypeAlert, true) {
					alerts.Add(1)
				}
				return true
			})
			require.NoError(t, c.Close())
			synctest.Wait()
			assert.EqualValues(t, 1, alerts.Load())
		})
	}
}

func TestRequireEOFWaitsForCloseNotify(t *testing.T) {
	inBubble(t, slowPSK(), func(t *testing.T, n *Network, c *Client, server *dtls.Conn) {
		go func() {
			time.Sleep(time.Second)
			_ = server.Close()
		}()
		RequireEOFOfPion(t, c)
	})
}

func TestClientRecordsAreTheClients(t *testing.T) {
	inBubble(t, slowPSK(), func(t *testing.T, n *Network, c *Client, server *dtls.Conn) {
		records, err := ClientRecords(c.Conn, 1000)
		require.NoError(t, err)
		sealed, err := records.Seal(nil, record.TypeApplicationData, []byte("by hand"))
		require.NoError(t, err)
		c.Send(t, sealed)
		Expect(t, c, "by hand")
	})
}

func TestFailedHandshakeClosesTheSocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork(1)
		conns := pionServer(t, n, clientAddr, WithTimeout(slowPSK(), time.Minute))
		begin := time.Now()
		_, err := Handshake(n.Dial(clientAddr, serverAddr), WithTimeout(PSKConfig("another"), 300*time.Millisecond))
		assert.Error(t, err)
		assert.LessOrEqual(t, time.Since(begin), 300*time.Millisecond+maxCloseWait)
		assert.NotPanics(t, func() { n.Dial(clientAddr, serverAddr) })
		_, ok := <-conns
		assert.False(t, ok)
		require.NoError(t, n.Close())
	})
}

func TestHooksOfTransport(t *testing.T) {
	inBubble(t, slowPSK(), func(t *testing.T, n *Network, c *Client, server *dtls.Conn) {
		c.Transport.SetOut(LoseNth(0))
		_, err := c.Write([]byte("lost"))
		require.NoError(t, err)
		Echo(t, c, "not lost")
		c.Transport.SetOut(nil)
		c.Transport.SetIn(LoseNth(0))
		_, err = c.Write([]byte("its answer is lost"))
		require.NoError(t, err)
		Echo(t, c, "heard")
		c.Transport.SetIn(nil)
		Echo(t, c, "as ever")
	})
}

func TestClientStoreKeepsCopies(t *testing.T) {
	var s ClientStore
	session := dtls.Session{ID: []byte{1}, Secret: []byte{2}}
	require.NoError(t, s.Set(nil, session))
	session.ID[0] = 9
	got, err := s.Get(nil)
	require.NoError(t, err)
	assert.Equal(t, dtls.Session{ID: []byte{1}, Secret: []byte{2}}, got)
	got.Secret[0] = 9
	assert.Equal(t, dtls.Session{ID: []byte{1}, Secret: []byte{2}}, s.Session())
	require.NoError(t, s.Del(nil))
	assert.Zero(t, s.Session())
}

// Over loopback: clients, an echoing server, and a tap in front of it.
func TestDialOverLoopback(t *testing.T) {
	CheckLeaks(t)
	tap := ListenTap(t)
	inner := NewListener(tap.LocalAddr())
	l := dtlsListener{inner, slowPSK()}
	conns := ServeEcho[*dtls.Conn](t, l)
	var seen, answered atomic.Int32
	tap.SetIn(All(LoseNth(1000), nil, func([]byte) bool { seen.Add(1); return true }))
	tap.SetOut(func([]byte) bool { answered.Add(1); return true })

	inner.Put(&tapConn{Tap: tap})
	c := Dial(t, tap.LocalAddr(), nil, slowPSK())
	Receive(t, conns)
	Echo(t, c, "hello")
	assert.EqualValues(t, 4, seen.Load())
	assert.EqualValues(t, 4, answered.Load())
	tap.SetIn(nil)
	tap.SetOut(nil)
	Echo(t, c, "hello")
	assert.EqualValues(t, 4, seen.Load())
	require.NoError(t, c.Close())

	again, err := TryDial(tap.LocalAddr(), c.Addr(), WithTimeout(slowPSK(), 10*time.Millisecond))
	assert.Nil(t, again)
	assert.Error(t, err, "nobody answers any more")
}

// dtlsListener makes the handshakes of pion's server.
type dtlsListener struct {
	net.Listener
	config *dtls.Config
}

func (l dtlsListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return dtls.Server(c, l.config)
}

// tapConn is a Tap with one peer: the first one.
type tapConn struct {
	*Tap
	peer atomic.Pointer[net.Addr]
}

func (c *tapConn) Read(p []byte) (int, error) {
	n, addr, err := c.ReadFrom(p)
	if err == nil {
		c.peer.CompareAndSwap(nil, &addr)
	}
	return n, err
}

func (c *tapConn) Write(p []byte) (int, error) { return c.WriteTo(p, c.RemoteAddr()) }

func (c *tapConn) RemoteAddr() net.Addr {
	if peer := c.peer.Load(); peer != nil {
		return *peer
	}
	return nil
}

func TestStalledClientSendsTwoDatagrams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork(1)
		pionServer(t, n, clientAddr, WithTimeout(slowPSK(), time.Minute))
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		_, err := dtls.ClientWithContext(ctx, Stall(n.Dial(clientAddr, serverAddr)), slowPSK())
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, 2, n.Counts(ToServer).Sent)
		time.Sleep(time.Minute)
		require.NoError(t, n.Close())
	})
}

func TestLastFlightBackwards(t *testing.T) {
	var kinds []record.Type
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	c := LastFlightBackwards(near)
	plain, change := Plaintext(record.TypeHandshake, 1, 1), Plaintext(record.TypeChangeCipherSpec, 2, 1)
	finished := Unauthentic(record.TypeHandshake, 0, 40)
	go func() {
		_, err := c.Write(append(append(plain, change...), finished...))
		assert.NoError(t, err)
		_, err = c.Write(append(Hello(1), change...))
		assert.NoError(t, err)
		_ = near.Close()
	}()
	for buf := make([]byte, 1000); ; {
		n, err := far.Read(buf)
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		for _, r := range Records(buf[:n]) {
			kinds = append(kinds, r.Type)
		}
	}
	assert.Equal(t, []record.Type{22, 20, 22, 22, 20}, kinds)
}

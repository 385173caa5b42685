// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestClientRestartsItsHandshake: a client loses its state while its handshake is in
// progress, and comes back from its address and port.
func TestClientRestartsItsHandshake(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{HandshakeTimeout: time.Hour}, func(t *testing.T, l memory) {
		echoServer(t, l.Listener)
		from := l.occupy(t, 7)
		l.occupy(t, 7) // a retransmission starts no other handshake
		synctest.Wait()
		require.EqualValues(t, 1, l.Stats().Started)
		require.Zero(t, l.Stats().Plaintext)
		begin := time.Now()
		dtlstest.Echo(t, l.dial(t, from), "again")
		assert.Zero(t, time.Since(begin), "its new handshake does not wait for the old one")
		s := l.Stats()
		assert.EqualValues(t, 2, s.Started)
		assert.EqualValues(t, 1, s.Displaced)
		assert.EqualValues(t, 1, s.Completed)
		assert.Zero(t, s.HalfOpen)
		assert.Equal(t, l.Table().MaxSlots()-1, l.Table().AvailableSlots())
	})
}

// TestLateClientHelloHasNoEffect sends late duplicates of the two ClientHellos that a
// session began with.
func TestLateClientHelloHasNoEffect(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		var mu sync.Mutex
		var hellos [][]byte
		l.network.SetHook(dtlstest.ToServer, func(datagram []byte) bool {
			mu.Lock()
			defer mu.Unlock()
			for _, r := range dtlstest.Records(datagram) {
				if _, ok := record.ParseClientHello(r); ok {
					hellos = append(hellos, bytes.Clone(datagram))
				}
			}
			return true
		})
		echoServer(t, l.Listener)
		client := l.dial(t, netip.AddrPort{})
		dtlstest.Echo(t, client, "x")
		l.network.SetHook(dtlstest.ToServer, nil)
		require.Len(t, hellos, 2)
		for n := range 40 {
			client.Send(t, hellos[n%2])
		}
		synctest.Wait()
		assert.EqualValues(t, 40, l.Stats().Plaintext)
		time.Sleep(time.Minute)
		for n := range 40 {
			client.Send(t, hellos[n%2])
		}
		synctest.Wait()
		assert.EqualValues(t, 80, l.Stats().Plaintext)
		assert.EqualValues(t, 1, l.Stats().Started)
		dtlstest.Echo(t, client, "y")
	})
}

// TestForgedClientHellosDoSessionNoHarm: of the ClientHellos from the address of a session
// at most MaxUnvalidated start a handshake, and later ones only when the oldest handshake is
// old enough. The session lives on (RFC 6347 section 4.2.8), also while data are exchanged.
func TestForgedClientHellosDoSessionNoHarm(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{HandshakeTimeout: time.Hour}, func(t *testing.T, l memory) {
		const forgeries, interval = 1200, 10 * time.Millisecond
		conns := echoServer(t, l.Listener)
		client := l.dial(t, netip.AddrPort{})
		dtlstest.Echo(t, client, "before")
		session := <-conns
		// Pion's client would end at a HelloVerifyRequest.
		client.Transport.SetIn(func(datagram []byte) bool { return dtlstest.Has(datagram, record.TypeApplicationData, true) })
		for n := range forgeries {
			client.Send(t, dtlstest.ClientHello{Random: record.Random{byte(n >> 8), byte(n)}}.Datagram())
			dtlstest.Echo(t, client, fmt.Sprint(n))
			require.Equal(t, unvalidated(min(n+1, dtlsserver.MaxUnvalidated)), l.Stats().HalfOpen)
			time.Sleep(interval)
		}
		s := l.Stats()
		assert.Equal(t, dsm.StateEstablished, session.State())
		assert.Zero(t, s.Replaced)
		if statelessCookie {
			assert.EqualValues(t, 1, s.Started)
			assert.EqualValues(t, forgeries, s.HelloVerifyRequests-1)
			return
		}
		// Two at once, and two after each RestartUnasked.
		assert.EqualValues(t, dtlsserver.MaxUnvalidated*(1+forgeries*interval/dtlsserver.RestartUnasked), s.Started-1)
		assert.EqualValues(t, forgeries, s.Started-1+s.AddressShare)
		assert.Equal(t, s.Started-1-dtlsserver.MaxUnvalidated, s.Displaced)
		assert.Zero(t, s.Plaintext)
	})
}

// TestForgedClientHelloDoesNotRestartValidatedHandshake: the client of a session has lost
// its state and comes back. A ClientHello that somebody else sends from its address starts
// another handshake, and the client's goes on.
func TestForgedClientHelloDoesNotRestartValidatedHandshake(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		conns := echoServer(t, l.Listener)
		client := l.dial(t, netip.AddrPort{})
		dtlstest.Echo(t, client, "before")
		peer := (<-conns).Peer()
		client.Kill()
		l.network.SetRoundTrip(300 * time.Millisecond)
		back := make(chan *dtlstest.Client, 1)
		go func() {
			again, err := dtlstest.Handshake(l.network.Dial(peer, l.addr()), psk())
			if assert.NoError(t, err) {
				back <- again
			}
		}()
		time.Sleep(500 * time.Millisecond) // the cookie is back, the Finished is not
		require.Equal(t, 1, l.Stats().HalfOpen)
		require.Equal(t, 1, l.ValidatedHandshakes())
		l.network.SetConditions(dtlstest.ToServer, dtlstest.Conditions{})
		l.network.Inject(peer, l.addr(), dtlstest.Hello(1))
		synctest.Wait()
		require.Equal(t, 1+unvalidated(1), l.Stats().HalfOpen)
		require.Equal(t, 1, l.ValidatedHandshakes())
		l.network.SetRoundTrip(300 * time.Millisecond)
		again := dtlstest.Receive(t, back)
		t.Cleanup(again.Kill)
		dtlstest.Echo(t, again, "after")
		s := l.Stats()
		assert.EqualValues(t, 2+unvalidated(1), s.Started)
		assert.EqualValues(t, 1, s.Replaced)
		assert.Zero(t, s.Displaced)
		assert.Equal(t, unvalidated(1), s.HalfOpen, "the forged one")
		time.Sleep(dtlsserver.DefaultHandshakeTimeout)
		synctest.Wait()
		assert.Zero(t, l.Stats().HalfOpen)
		dtlstest.Echo(t, again, "still there")
	})
}

// TestReplacedSessionSendsNothing: its close_notify would reach the client that has
// replaced it.
func TestReplacedSessionSendsNothing(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		echoServer(t, l.Listener)
		client := l.dial(t, netip.AddrPort{})
		dtlstest.Echo(t, client, "x")
		var mu sync.Mutex
		alerts := 0
		l.network.SetHook(dtlstest.ToClient, func(datagram []byte) bool {
			mu.Lock()
			defer mu.Unlock()
			if dtlstest.Has(datagram, record.TypeAlert, true) {
				alerts++
			}
			return true
		})
		count := func() int {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			return alerts
		}
		peer := dtlstest.AddrPort(client.Addr())
		client.Kill()
		again := l.dial(t, peer)
		dtlstest.Echo(t, again, "y")
		assert.EqualValues(t, 1, l.Stats().Replaced)
		assert.Zero(t, count())
		require.NoError(t, l.Close())
		assert.Equal(t, 1, count(), "that of the new session")
		dtlstest.RequireEOF(t, again)
	})
}

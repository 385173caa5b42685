// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The tests of this file return cookies that the listener does not know, or not any more.

// asks has a scripted client send its first ClientHello, and requires that it is asked for
// a cookie.
func asks(t *testing.T, c *dtlstest.ScriptedClient) {
	t.Helper()
	c.SendHello()
	require.True(t, c.Await(dtlstest.Patience, func() bool { return c.Heard(record.MessageHelloVerifyRequest) }))
}

// requireToldToRestart requires that a scripted client gets the alert that ends its
// handshake.
func requireToldToRestart(t *testing.T, c *dtlstest.ScriptedClient, v *victim) {
	t.Helper()
	require.True(t, c.Await(2*roundTrip, func() bool { _, refused := c.Refused(); return refused }), "%+v", v.Stats())
	description, _ := c.Refused()
	assert.EqualValues(t, record.HandshakeFailure, description)
	assert.EqualValues(t, 1, v.Stats().ToldToRestart)
}

// forgedCookie is a second ClientHello with a cookie that nobody has sent.
func forgedCookie(random byte) []byte {
	return dtlstest.ClientHello{Sequence: 1, MessageSeq: 1, Random: dtlstest.RandomOf(random), Cookie: bytes.Repeat([]byte{9}, 20)}.Datagram()
}

// TestClientOfDisplacedHandshakeIsToldToRestart: its handshake has given its place to
// another one, long after the listener was opened. An honest client is in at once.
func TestClientOfDisplacedHandshakeIsToldToRestart(t *testing.T) {
	t.Parallel()
	attack(t, pskWith(), dtlsserver.Config{Handshakes: 1}, func(t *testing.T, v *victim) {
		time.Sleep(2 * dtlsserver.StaleCookieTime)
		c := v.client(t)
		asks(t, c)
		time.Sleep(dtlsserver.LongPatience)
		v.network.Inject(dtlstest.NthAddr(20, 1, 5684), v.addr(), dtlstest.Hello(1))
		time.Sleep(roundTrip)
		require.EqualValues(t, unvalidated(1), v.Stats().Displaced)
		c.SendHello()
		if statelessCookie { // there was nothing to displace
			require.True(t, c.Await(2*roundTrip, func() bool { return c.Heard(record.MessageServerHelloDone) }))
			finishes(t, c)
			return
		}
		requireToldToRestart(t, c, v)
		time.Sleep(dtlsserver.LongPatience) // that of the stranger
	})
}

// TestClientOfDisplacedHandshakeIsToldToRestartAtItsLastFlight: it has returned its cookie
// before its handshake was displaced. A stranger's last flight is not answered.
func TestClientOfDisplacedHandshakeIsToldToRestartAtItsLastFlight(t *testing.T) {
	t.Parallel()
	attack(t, pskWith(), dtlsserver.Config{Handshakes: 1}, func(t *testing.T, v *victim) {
		time.Sleep(2 * dtlsserver.StaleCookieTime)
		c := v.helloed(t)
		messages, err := c.KeyMessages()
		require.NoError(t, err)
		flight := c.Handshakes(messages...)
		time.Sleep(dtlsserver.DefaultHandshakeTimeout / 2)
		v.occupyFrom(t, dtlstest.NthAddr(20, 1, 5684), dtlstest.RandomOf(1))
		time.Sleep(roundTrip)
		require.EqualValues(t, 1, v.Stats().Displaced)
		stranger := v.network.Dial(dtlstest.NthAddr(30, 1, 5684), v.addr())
		for _, r := range flight {
			dtlstest.Send(t, stranger, r)
		}
		time.Sleep(roundTrip)
		require.Zero(t, v.Stats().ToldToRestart)
		c.Send(flight...)
		requireToldToRestart(t, c, v)
		time.Sleep(dtlsserver.DefaultHandshakeTimeout) // that of the stranger
	})
}

// TestClientOfTimedOutHandshakeIsToldToRestart: the same once the handshake has timed out.
func TestClientOfTimedOutHandshakeIsToldToRestart(t *testing.T) {
	t.Parallel()
	attack(t, pskWith(), dtlsserver.Config{HandshakeTimeout: 10 * time.Second}, func(t *testing.T, v *victim) {
		time.Sleep(2 * dtlsserver.StaleCookieTime)
		c := v.client(t)
		asks(t, c)
		time.Sleep(10 * time.Second)
		require.EqualValues(t, unvalidated(1), v.Stats().TimedOut)
		c.SendHello()
		if statelessCookie { // the cookie outlives Config.HandshakeTimeout
			require.True(t, c.Await(2*roundTrip, func() bool { return c.Heard(record.MessageServerHelloDone) }))
			finishes(t, c)
			return
		}
		requireToldToRestart(t, c, v)
	})
}

// TestClientsOfClosedListenerAreToldToRestart: the listener is closed and opened again while
// a handshake waits for its cookie. The client begins anew, at once, and gets in.
func TestClientsOfClosedListenerAreToldToRestart(t *testing.T) {
	t.Parallel()
	for _, roundTrip := range []time.Duration{roundTrip, time.Second, 3 * time.Second} {
		for _, after := range []time.Duration{roundTrip / 3, roundTrip * 2 / 3, roundTrip, roundTrip * 4 / 3} {
			t.Run(fmt.Sprintf("round trip %v, closed after %v", roundTrip, after), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					v := newVictim(t, pskWith(), dtlsserver.Config{})
					v.network.SetRoundTrip(roundTrip)
					addr := v.addr()
					c := &visitor{from: dtlstest.NthAddr(10, 1, 5684), limit: time.Minute}
					done := v.visits(c)
					time.Sleep(after)
					require.NoError(t, v.Close())
					require.Zero(t, v.Stats().ToldToRestart)
					again := listenOn(t, v.network.Listen(addr), pskWith(), dtlsserver.Config{})
					echoServer(t, again)
					<-done
					t.Cleanup(c.leave)
					require.NotZero(t, c.took, "%+v", again.Stats())
					s := again.Stats()
					t.Logf("in after %v, %d handshakes, %d told, %d started", c.took, c.handshakes, s.ToldToRestart, s.Started)
					assert.EqualValues(t, c.handshakes-1, s.ToldToRestart)
				})
			})
		}
	}
}

// TestUnknownCookieEndsNoHandshake: a forged second ClientHello with a cookie of nobody's,
// from the client's address, at several times of its handshake and of its session, in the
// first minute of the listener.
func TestUnknownCookieEndsNoHandshake(t *testing.T) {
	t.Parallel()
	for _, resumes := range []bool{false, true} {
		for after := 160 * time.Millisecond; after < 1600*time.Millisecond; after += 70 * time.Millisecond {
			t.Run(fmt.Sprintf("resumes %v, after %v", resumes, after), func(t *testing.T) {
				t.Parallel()
				skipResuming(t, resumes)
				attack(t, pskWith(), dtlsserver.Config{Resumption: resumable(t)}, func(t *testing.T, v *victim) {
					c := v.visitor(t, resumes, dtlstest.Patience)
					time.AfterFunc(after-roundTrip/2, func() {
						v.network.Inject(c.from, v.addr(), forgedCookie(1))
						v.network.Inject(c.from, v.addr(), dtlstest.Plaintext(record.TypeHandshake, 9, dtlstest.Fragments(dtlstest.Records(forgedCookie(2))[0].Fragment(), 20)[0]...))
					})
					<-v.visits(c)
					t.Cleanup(c.leave)
					require.NotZero(t, c.took)
					time.Sleep(2 * time.Second)
					assert.Equal(t, 1, c.handshakes)
					assert.Zero(t, v.Stats().ToldToRestart)
					dtlstest.Echo(t, c.client, "still in")
				})
			})
		}
	}
}

// TestUnknownCookieOfStrangerIsAnsweredForAMinute: of an address that has neither a session
// nor a handshake, and no more often than MaxRestarts times a second.
func TestUnknownCookieOfStrangerIsAnsweredForAMinute(t *testing.T) {
	t.Parallel()
	attack(t, pskWith(), dtlsserver.Config{}, func(t *testing.T, v *victim) {
		const flood = 1000
		time.Sleep(30 * time.Second)
		alerts := v.watchAlerts(func(dtlstest.Datagram) {})
		inject := func(n int) { v.network.Inject(dtlstest.NthAddr(20, n, 5684), v.addr(), forgedCookie(1)) }
		before, ignored := v.network.Counts(dtlstest.ToClient).SentBytes, 0
		if statelessCookie { // a stranger that does not repeat its ClientHello is not answered
			for n := range flood {
				inject(n)
			}
			time.Sleep(time.Second)
			ignored = flood
			require.Zero(t, v.Stats().ToldToRestart)
		}
		for n := range flood {
			inject(n)
		}
		time.Sleep(2 * roundTrip)
		require.EqualValues(t, dtlsserver.MaxRestarts, v.Stats().ToldToRestart)
		require.EqualValues(t, dtlsserver.MaxRestarts, alerts.all.Load())
		require.EqualValues(t, ignored+flood-dtlsserver.MaxRestarts, v.Stats().Stray)
		require.Less(t, v.network.Counts(dtlstest.ToClient).SentBytes-before, dtlsserver.MaxRestarts*len(forgedCookie(1)), "fewer bytes than came")
		for n := range flood {
			inject(n)
			time.Sleep(time.Millisecond)
		}
		time.Sleep(2 * roundTrip)
		assert.LessOrEqual(t, v.Stats().ToldToRestart, uint64(3*dtlsserver.MaxRestarts))
		assert.Zero(t, v.Stats().Started)

		time.Sleep(dtlsserver.StaleCookieTime)
		told := v.Stats().ToldToRestart
		for n := range 10 {
			inject(n)
		}
		time.Sleep(2 * roundTrip)
		assert.Equal(t, told, v.Stats().ToldToRestart)
	})
}

// TestClientIsToldOnceForItsCopies: the copies of a ClientHello that a client repeats are
// under way when the client begins anew. An alert for each of them would end its next
// handshake.
func TestClientIsToldOnceForItsCopies(t *testing.T) {
	t.Parallel()
	attack(t, pskWith(), dtlsserver.Config{}, func(t *testing.T, v *victim) {
		alerts := v.watchAlerts(func(dtlstest.Datagram) {})
		from := dtlstest.NthAddr(20, 1, 5684)
		if statelessCookie { // nobody is told at the first one
			v.network.Inject(from, v.addr(), forgedCookie(1))
			time.Sleep(time.Second)
		}
		for begin := time.Now(); time.Since(begin) < 2*dtlsserver.FirstRoundTrip; time.Sleep(time.Second) {
			v.network.Inject(from, v.addr(), forgedCookie(1))
		}
		require.EqualValues(t, 1, alerts.all.Load())
		v.network.Inject(from, v.addr(), forgedCookie(1))
		time.Sleep(roundTrip)
		require.EqualValues(t, 2, alerts.all.Load())
	})
}

// TestCookieOfAnotherAddressIsUnknown: a stranger can get cookies for its own address.
func TestCookieOfAnotherAddressIsUnknown(t *testing.T) {
	t.Parallel()
	attack(t, pskWith(), dtlsserver.Config{Handshakes: 1}, func(t *testing.T, v *victim) {
		time.Sleep(2 * dtlsserver.StaleCookieTime)
		stranger := v.client(t)
		asks(t, stranger)
		time.Sleep(dtlsserver.LongPatience)
		v.network.Inject(dtlstest.NthAddr(20, 1, 5684), v.addr(), dtlstest.Hello(1)) // displaces it
		time.Sleep(roundTrip)
		hello := dtlstest.ClientHello{MessageSeq: 1, Cookie: stranger.Hello.Cookie}.Datagram()
		for n := range 10 {
			v.network.Inject(dtlstest.NthAddr(30, n, 5684), v.addr(), hello)
		}
		v.network.Inject(netip.AddrPortFrom(addrPort(stranger).Addr(), 1), v.addr(), hello)
		time.Sleep(roundTrip)
		assert.Zero(t, v.Stats().ToldToRestart)
		if statelessCookie {
			assert.Zero(t, v.Stats().Started)
			stranger.SendHello()
			require.True(t, stranger.Await(2*roundTrip, func() bool { return stranger.Heard(record.MessageServerHelloDone) }))
			finishes(t, stranger)
			return
		}
		stranger.SendHello()
		requireToldToRestart(t, stranger, v)
		time.Sleep(dtlsserver.LongPatience)
	})
}

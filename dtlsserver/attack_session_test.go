// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
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

// The tests of this file attack listeners that resume sessions.

// seenSessionID has a client do its handshake, and returns the ID of its session, which
// Config.Resumption knows. It is sent in plaintext.
func (v *victim) seenSessionID(t *testing.T) []byte {
	t.Helper()
	c := v.client(t)
	require.NoError(t, c.Handshake())
	require.NotEmpty(t, c.Server.Hello.SessionID)
	return []byte(c.Server.Hello.SessionID)
}

// helloNaming is a first ClientHello that names a session.
func helloNaming(sessionID []byte, random record.Random) []byte {
	return dtlstest.ClientHello{
		Random: random, SessionID: sessionID, Extensions: append(dtlstest.ExtendedMasterSecret(), dtlstest.CurveP256()...),
	}.Datagram()
}

// TestFloodThatNamesOneSessionLeavesReserve: a stranger who has seen one session's ID names
// it from ever new addresses. The places of returning clients are not the stranger's, and
// newcomers get in.
func TestFloodThatNamesOneSessionLeavesReserve(t *testing.T) {
	t.Parallel()
	const (
		handshakes, newcomers = 160, 140
		perSecond             = 10
		before                = 45 * time.Second // longer than a handshake that resumes is waited for
		clients               = 10
	)
	synctest.Test(t, func(t *testing.T) {
		v := newVictim(t, pskWith(), dtlsserver.Config{Handshakes: handshakes, Resumption: resumable(t)})
		v.network.SetRoundTrip(roundTrip)
		sessionID := v.seenSessionID(t)
		t.Cleanup(v.injects(time.Second/perSecond, func(n int) (netip.AddrPort, []byte) {
			return dtlstest.NthAddr(64, n<<8, 5684), helloNaming(sessionID, numbered(n))
		}))
		time.Sleep(before)
		assert.LessOrEqual(t, v.Stats().HalfOpen, newcomers+dtlsserver.MaxNamed)
		var waiting []<-chan *visitor
		for n := range clients {
			waiting = append(waiting, v.visits(&visitor{from: dtlstest.NthAddr(10, n, 5684), limit: 30 * time.Second}))
		}
		in, slowest, _ := everyone(t, waiting)
		s := v.Stats()
		t.Logf("%d in, the last one after %v; %d handshakes in progress", in, slowest, s.HalfOpen)
		assert.Equal(t, clients, in)
		assert.LessOrEqual(t, s.HalfOpen, newcomers+dtlsserver.MaxNamed)
	})
}

// TestRepeatedForgedHelloDisplacesNoResumption: the client of an abbreviated handshake is
// done before its last flight has come. If the handshake gave its place to a forged
// ClientHello that is repeated, the client would not notice that it has no session.
func TestRepeatedForgedHelloDisplacesNoResumption(t *testing.T) {
	t.Parallel()
	skipResuming(t, true)
	const (
		roundTrip = time.Second
		arrives   = roundTrip / 2 // the client's ClientHello, after its start
		other     = arrives + 100*time.Millisecond
		forged    = other + 10*time.Millisecond
		repeated  = forged + 540*time.Millisecond // before the client's last flight
	)
	synctest.Test(t, func(t *testing.T) {
		v := newVictim(t, pskWith(), dtlsserver.Config{Resumption: resumable(t)})
		v.network.SetRoundTrip(roundTrip)
		c := v.visitor(t, true, time.Minute)
		time.Sleep(2 * dtlsserver.StaleCookieTime)
		before := v.Stats()
		inject := func(at time.Duration, random record.Random) {
			time.AfterFunc(at-arrives, func() { v.network.Inject(c.from, v.addr(), forgedHello(random, true)) })
		}
		inject(other, numbered(1))
		inject(forged, numbered(2))
		inject(repeated, numbered(2))
		v.requireIn(t, c)
		s := v.Stats()
		assert.Equal(t, 1, c.handshakes)
		assert.Less(t, c.took, 5*roundTrip)
		assert.EqualValues(t, unvalidated(1), s.Displaced-before.Displaced, "the other forged one")
	})
}

// TestTwoHandshakesOfOneAddressAreNoAmplification: a stranger names a session with two
// randoms, in the name of another address. No byte that came is counted for both of the
// handshakes.
func TestTwoHandshakesOfOneAddressAreNoAmplification(t *testing.T) {
	t.Parallel()
	const maxAmplification = 3
	attack(t, pskWith(), dtlsserver.Config{Resumption: resumable(t)}, func(t *testing.T, v *victim) {
		sessionID := v.seenSessionID(t)
		from := dtlstest.NthAddr(77, 1, 5684)
		sent, received := 0, 0
		v.network.SetFilter(dtlstest.ToClient, func(d dtlstest.Datagram, forward func([]byte)) {
			if d.To == from {
				sent += len(d.Payload)
			}
			forward(d.Payload)
		})
		for n := range 2 {
			hello := helloNaming(sessionID, numbered(n))
			received += len(hello)
			v.network.Inject(from, v.addr(), hello)
		}
		time.Sleep(dtlsserver.DefaultHandshakeTimeout)
		synctest.Wait()
		v.network.SetFilter(dtlstest.ToClient, nil)
		assert.Equal(t, !cookieInResumption, sent > received, "the handshakes resume the session")
		assert.LessOrEqual(t, sent, maxAmplification*received)
	})
}

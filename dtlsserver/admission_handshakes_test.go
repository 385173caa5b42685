// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"bytes"
	"context"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// stall has a client return its cookie and fall silent. It waits until the test ends.
func (l memory) stall(t *testing.T, from netip.AddrPort) *dtlstest.Socket {
	t.Helper()
	socket := l.network.Dial(from, l.addr())
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = dtls.ClientWithContext(ctx, dtlstest.Stall(socket), psk()) })
	t.Cleanup(func() { cancel(); _ = socket.Close(); wg.Wait() })
	synctest.Wait()
	require.True(t, l.IsValidated(socket.AddrPort()))
	return socket
}

// TestStalledHandshakesHoldUpNobody has many clients begin a handshake and fall silent,
// among datagrams that are no DTLS at all.
func TestStalledHandshakesHoldUpNobody(t *testing.T) {
	t.Parallel()
	const stalled, junk = 1000, 200
	inBubble(t, dtlsserver.Config{Handshakes: 2 * stalled, HandshakesPerSource: -1, HandshakeTimeout: time.Hour}, func(t *testing.T, l memory) {
		echoServer(t, l.Listener)
		for n := range junk {
			from := dtlstest.NthAddr(20, n, 5684)
			l.network.Inject(from, l.addr(), dtlstest.Plaintext(record.TypeHandshake, 0, 1))
			l.network.Inject(from, l.addr(), bytes.Repeat([]byte{byte(n)}, n+1))
		}
		synctest.Wait()
		s := l.Stats()
		assert.EqualValues(t, 2*junk, s.Stray+s.Malformed)
		for n := range stalled {
			l.occupy(t, n)
		}
		synctest.Wait()
		require.Equal(t, stalled, l.Stats().HalfOpen)
		begin := time.Now()
		for range 20 {
			dtlstest.Echo(t, l.dial(t, netip.AddrPort{}), "honest")
		}
		assert.Less(t, time.Since(begin), time.Second)
		s = l.Stats()
		assert.Equal(t, stalled, s.HalfOpen)
		assert.Zero(t, s.Failed)
		assert.Zero(t, s.NoRoom)
	})
}

// TestFloodOfStrangersEvictsNobody: strangers have the places that are not reserved, and
// lose them when they exceed their patience. No session is evicted.
func TestFloodOfStrangersEvictsNobody(t *testing.T) {
	t.Parallel()
	const sessions, handshakes, places, strangers = 4, 8, 7, 200 // one is reserved
	inBubble(t, dtlsserver.Config{Sessions: sessions, Handshakes: handshakes, HandshakesPerSource: -1}, func(t *testing.T, l memory) {
		echoServer(t, l.Listener)
		var clients []*dtlstest.Client
		for range sessions {
			clients = append(clients, l.dial(t, netip.AddrPort{}))
		}
		synctest.Wait() // the last one is not half-open any more
		for n := range strangers {
			l.sendHello(t, n)
			require.LessOrEqual(t, l.Stats().HalfOpen, places)
		}
		synctest.Wait()
		s := l.Stats()
		assert.EqualValues(t, unvalidated(strangers-places), s.NoRoom)
		assert.Zero(t, s.Displaced)
		assert.Equal(t, unvalidated(places), s.HalfOpen)
		for _, c := range clients {
			dtlstest.Echo(t, c, "still here")
		}
		s = l.Stats()
		assert.Equal(t, sessions, s.Established)
		assert.Zero(t, s.Evicted)

		// An honest newcomer is established, and evicts the least recently used session.
		begin := time.Now()
		dtlstest.Echo(t, l.dial(t, netip.AddrPort{}), "newcomer")
		assert.LessOrEqual(t, time.Since(begin), dtlsserver.MinPatience+dtlstest.FlightInterval)
		assert.EqualValues(t, 1, l.Stats().Evicted)
		dtlstest.RequireEOF(t, clients[0])
		for _, c := range clients[1:] {
			dtlstest.Echo(t, c, "still here")
		}
	})
}

// TestHandshakesOfOneNetworkAreBounded has clients of one /24 begin handshakes. It leaves places to
// other networks, and each of them has its share.
func TestHandshakesOfOneNetworkAreBounded(t *testing.T) {
	t.Parallel()
	const handshakes, share, flood = 100, 5, 200
	most := dtlsserver.Pressure(handshakes)
	inBubble(t, dtlsserver.Config{Handshakes: handshakes, HandshakesPerSource: share}, func(t *testing.T, l memory) {
		for n := range flood {
			l.occupy(t, n)
			synctest.Wait()
		}
		s := l.Stats()
		assert.EqualValues(t, most, s.Started)
		assert.Equal(t, most, s.HalfOpen)
		assert.EqualValues(t, flood-most, s.SourceShare)
		assert.Zero(t, s.NoRoom)
		for n := range 2 * share {
			l.occupy(t, 256+n)
			synctest.Wait()
		}
		s = l.Stats()
		assert.Equal(t, most+share, s.HalfOpen, "the next network has its share")
		assert.EqualValues(t, flood-most+share, s.SourceShare)
		assert.Zero(t, s.Displaced)
	})
}

// TestRepeatedClientHelloValidatesNoAddress: a client that only repeats its ClientHello
// is displaced first. A client that has returned its cookie is not.
func TestRepeatedClientHelloValidatesNoAddress(t *testing.T) {
	t.Parallel()
	needUnvalidated(t)
	const handshakes, places = 8, 7 // one is reserved
	inBubble(t, dtlsserver.Config{Handshakes: handshakes, HandshakesPerSource: -1}, func(t *testing.T, l memory) {
		honest := l.stall(t, netip.AddrPort{}).AddrPort()
		repeats := l.sendHello(t, 1)
		l.sendHello(t, 1)
		l.network.Inject(repeats, l.addr(), dtlstest.Plaintext(record.TypeAlert, 3)) // too short for an alert
		synctest.Wait()
		require.Equal(t, 2, l.Stats().HalfOpen)
		time.Sleep(time.Millisecond)
		for n := range places - 2 {
			l.sendHello(t, 2+n)
		}
		synctest.Wait()
		l.sendHello(t, 100)
		synctest.Wait()
		require.Equal(t, places, l.Stats().HalfOpen)
		require.Zero(t, l.Stats().Displaced)
		require.EqualValues(t, 1, l.Stats().NoRoom)
		time.Sleep(dtlsserver.LongPatience)
		l.sendHello(t, 100)
		synctest.Wait()
		assert.EqualValues(t, 1, l.Stats().Displaced, "one has to go")
		assert.True(t, l.IsValidated(honest))
		_, state := l.Table().Get(l.Sock(), repeats)
		assert.Equal(t, dsm.StateNone, state)
	})
}

// TestStalledHandshakesWithCookieGiveWay: clients that return their cookie and fall silent
// do not lock others of their network out until they time out.
func TestStalledHandshakesWithCookieGiveWay(t *testing.T) {
	t.Parallel()
	const handshakes, timeout = 8, 20 * time.Second
	most := dtlsserver.Pressure(handshakes)
	inBubble(t, dtlsserver.Config{Handshakes: handshakes, HandshakesPerSource: 1, HandshakeTimeout: timeout}, func(t *testing.T, l memory) {
		echoServer(t, l.Listener)
		begin := time.Now()
		for n := range most {
			l.stall(t, netip.AddrPort{})
			require.Equal(t, n+1, l.ValidatedHandshakes())
		}
		other := netip.MustParseAddrPort("192.0.2.200:5684") // of the same network
		l.occupyFrom(t, other, dtlstest.RandomOf(1))
		synctest.Wait()
		require.EqualValues(t, 1, l.Stats().SourceShare, "their share is taken")
		require.Zero(t, l.Stats().Displaced)
		dtlstest.Echo(t, l.dial(t, netip.AddrPort{}), "an honest client")
		assert.GreaterOrEqual(t, time.Since(begin), timeout/2)
		assert.Less(t, time.Since(begin), timeout/2+time.Second)
		assert.Positive(t, l.Stats().Displaced)
		assert.Zero(t, l.Stats().TimedOut)
	})
}

// TestClientsOfOtherNetworksAreServedMeanwhile: one network has taken its share, and
// clients of other networks connect at once.
func TestClientsOfOtherNetworksAreServedMeanwhile(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{Sessions: 10, HandshakeTimeout: time.Hour}, func(t *testing.T, l memory) {
		echoServer(t, l.Listener)
		for range l.FilledConfig().HandshakesPerSource {
			l.stall(t, netip.AddrPort{})
		}
		begin := time.Now()
		for n := range 5 {
			dtlstest.Echo(t, l.dial(t, dtlstest.NthAddr(20, 256*n, 5684)), "from elsewhere")
		}
		assert.Zero(t, time.Since(begin))
		assert.Zero(t, l.Stats().Displaced)
	})
}

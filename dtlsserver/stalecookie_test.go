// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/internal/udp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestStaleCookiesAreRemembered by peer and cookie.
func TestStaleCookiesAreRemembered(t *testing.T) {
	t.Parallel()
	var s staleCookies
	peer, other := netip.MustParseAddrPort("192.0.2.1:5684"), netip.MustParseAddrPort("192.0.2.1:5685")
	assert.False(t, s.has(peer, []byte("cookie")))
	s.add(peer, nil)
	assert.Nil(t, s.keys, "a handshake that has sent no cookie needs no memory")
	assert.False(t, s.has(peer, nil))
	s.add(peer, []byte("cookie"))
	assert.True(t, s.has(peer, []byte("cookie")))
	assert.True(t, s.has(peer, []byte("cookie")), "the client may return it again")
	assert.False(t, s.has(peer, []byte("cookiE")))
	assert.False(t, s.has(peer, []byte("cooki")))
	assert.False(t, s.has(peer, nil))
	assert.False(t, s.has(other, []byte("cookie")), "it is of another peer")
	s.add(other, []byte("cookie"))
	assert.True(t, s.has(peer, []byte("cookie")) && s.has(other, []byte("cookie")))
}

// TestStaleCookiesAreBounded: the latest ones are remembered best.
func TestStaleCookiesAreBounded(t *testing.T) {
	t.Parallel()
	var s staleCookies
	peer := netip.MustParseAddrPort("192.0.2.1:5684")
	cookie := func(n int) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }
	const all = 4 * rememberedCookies
	for n := range all {
		s.add(peer, cookie(n))
		if !s.has(peer, cookie(n)) {
			t.Fatal("the latest one is not remembered")
		}
	}
	assert.Len(t, s.keys, rememberedCookies)
	latest, known := 0, 0
	for n := range all {
		if s.has(peer, cookie(n)) {
			known++
			if n >= all-rememberedCookies/10 {
				latest++
			}
		}
	}
	assert.LessOrEqual(t, known, rememberedCookies)
	assert.Greater(t, latest, rememberedCookies/10*9/10, "of the latest tenth most are remembered")
}

// TestRestartsAreRateLimited: a second's worth at once, and then as many in each second.
func TestRestartsAreRateLimited(t *testing.T) {
	t.Parallel()
	number := 0
	some := func() netip.AddrPort { number++; return dtlstest.NthAddr(20, number, 1) }
	var s staleCookies
	now := time.Now()
	allowed := func() (n int) {
		for range 10 * maxRestarts {
			if s.allow(some(), true, 0, now) {
				n++
			}
		}
		return n
	}
	assert.Equal(t, maxRestarts, allowed())
	assert.Zero(t, allowed())
	now = now.Add(time.Second / 2)
	assert.Equal(t, maxRestarts/2, allowed())
	now = now.Add(time.Hour)
	assert.Equal(t, maxRestarts, allowed(), "what was not used is not saved up")
	total := 0
	for range 1000 {
		now = now.Add(10 * time.Millisecond)
		if s.allow(some(), true, 0, now) {
			total++
		}
		s.allow(some(), true, 0, now)
	}
	assert.InDelta(t, 10*maxRestarts, total, 20)

	// The readers of several sockets can be out of order by a moment.
	var late staleCookies
	n := 0
	for i := range 1000 {
		if late.allow(some(), true, 0, now.Add(-time.Duration(i%2)*time.Millisecond)) {
			n++
		}
	}
	assert.InDelta(t, maxRestarts, n, 2)
}

// unknownPeer is a listener that was started just now, and the socket of a peer that it does
// not know.
type unknownPeer struct {
	*Listener
	client *dtlstest.Socket
	from   route
}

func newUnknownPeer(t *testing.T) unknownPeer {
	t.Helper()
	network := dtlstest.NewNetwork(1)
	t.Cleanup(func() { _ = network.Close() })
	server := network.Listen(netip.AddrPort{})
	l := newBareListener(t, 1).Listener
	client := network.Dial(netip.AddrPort{}, server.AddrPort())
	return unknownPeer{l, client, route{socket: newSockets([]*udp.Socket{udp.New(server)})[0], peer: client.AddrPort()}}
}

// told returns the record that the client has got, or nil.
func (a unknownPeer) told(t *testing.T) []byte {
	t.Helper()
	if a.client.Queued() == 0 {
		return nil
	}
	buf := make([]byte, 1500)
	n, err := a.client.Read(buf)
	require.NoError(t, err)
	return buf[:n]
}

// helloWith returns a ClientHello with a cookie.
func helloWith(cookie string, version uint16, sequence uint64) record.Record {
	d := dtlstest.ClientHello{MessageSeq: 1, Random: dtlstest.RandomOf(1), Cookie: []byte(cookie), Version: version, Sequence: sequence}.Datagram()
	r, _, _ := record.Next(d)
	return r
}

// TestStaleCookieIsAnswered: in its first minute a listener takes any cookie of a stranger
// for one of the listener before it. Later, and from a peer that it knows, it answers those
// that it remembers.
func TestStaleCookieIsAnswered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newUnknownPeer(t)
		r := helloWith("cookie", 0, 7)
		assert.False(t, a.answerStaleCookie(a.from, helloWith("", 0, 1), true, time.Now()), "it has no cookie")
		assert.False(t, a.answerStaleCookie(a.from, record.Record{Type: record.TypeAlert}, true, time.Now()))
		assert.False(t, a.answerStaleCookie(a.from, r, false, time.Now()), "a handshake of the address is in progress")
		assert.Nil(t, a.told(t))

		time.Sleep(staleCookieTime - 1)
		assert.True(t, a.answerStaleCookie(a.from, r, true, time.Now()))
		want := dtlstest.Plaintext(record.TypeAlert, 7+restartSequence, byte(record.LevelFatal), byte(record.HandshakeFailure))
		assert.Equal(t, want, a.told(t))
		assert.EqualValues(t, 1, a.Stats().ToldToRestart)

		time.Sleep(time.Nanosecond)
		assert.False(t, a.answerStaleCookie(a.from, r, true, time.Now()), "its first minute is over")
		assert.Nil(t, a.told(t))
		a.stale.add(a.from.peer, []byte("cookie"))
		a.admission.patience.learn(3*time.Second, 0)
		time.Sleep(tellAgainAfter)
		assert.True(t, a.answerStaleCookie(a.from, r, true, time.Now()))
		assert.NotNil(t, a.told(t))
		assert.False(t, a.answerStaleCookie(a.from, r, false, time.Now()), "a copy that was under way")
		time.Sleep(2*3*time.Second - 1)
		assert.False(t, a.answerStaleCookie(a.from, r, false, time.Now()), "two round trips are as long")
		time.Sleep(time.Nanosecond)
		assert.True(t, a.answerStaleCookie(a.from, r, false, time.Now()))
		assert.NotNil(t, a.told(t))
		assert.False(t, a.answerStaleCookie(a.from, helloWith("forged", 0, 1), true, time.Now()))
		assert.EqualValues(t, 3, a.Stats().ToldToRestart)
	})
}

// TestStaleCookieIsAnsweredInTheClientsVersion: a client of DTLS 1.0 takes no record of
// another version.
func TestStaleCookieIsAnsweredInTheClientsVersion(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newUnknownPeer(t)
		for version, want := range map[uint16]uint16{0: 0xfefd, 0xfefd: 0xfefd, record.Version10: record.Version10} {
			require.True(t, a.tellToRestart(a.from, helloWith("cookie", version, 1), true, 0, time.Now()))
			time.Sleep(2 * firstRoundTrip)
			got := a.told(t)
			require.Len(t, got, record.HeaderSize+2)
			assert.Equal(t, want, binary.BigEndian.Uint16(got[1:]))
		}
	})
}

// TestStrangerIsToldTwice, and then not for a while: somebody else can have sent the
// cookies.
func TestStrangerIsToldTwice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newUnknownPeer(t)
		for range 2 {
			begin := time.Now()
			for n := range 5 {
				got := a.answerStaleCookie(a.from, helloWith("cookie", 0, uint64(n)), true, time.Now())
				assert.Equal(t, n < maxTold, got)
				assert.Equal(t, got, a.told(t) != nil)
				time.Sleep(firstRoundTrip)
				assert.False(t, a.answerStaleCookie(a.from, helloWith("cookie", 0, uint64(n)), true, time.Now()), "a copy that was under way")
				time.Sleep(firstRoundTrip)
			}
			time.Sleep(time.Until(begin.Add(tellAgainAfter - 1)))
			assert.False(t, a.answerStaleCookie(a.from, helloWith("cookie", 0, 1), true, time.Now()))
			time.Sleep(time.Nanosecond)
			a.began = time.Now()
		}
		a.stale.add(a.from.peer, []byte("cookie"))
		for range 10 {
			assert.True(t, a.answerStaleCookie(a.from, helloWith("cookie", 0, 1), true, time.Now()), "nobody else knows it")
			assert.NotNil(t, a.told(t))
			time.Sleep(2 * firstRoundTrip)
		}
	})
}

// TestStaleCookiesAreAnsweredAtARate: the answers are no flood for those whose addresses
// were forged.
func TestStaleCookiesAreAnsweredAtARate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newUnknownPeer(t)
		n := 0
		for i := range 5 * maxRestarts {
			from := a.from
			from.peer = dtlstest.NthAddr(20, i, 1)
			if a.answerStaleCookie(from, helloWith("cookie", 0, 1), true, time.Now()) {
				n++
			}
		}
		assert.Equal(t, maxRestarts, n)
		assert.EqualValues(t, maxRestarts, a.Stats().ToldToRestart)
	})
}

// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/lockorder"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// helloStart returns what a cookie covers of a ClientHello.
func helloStart(t testing.TB, h dtlstest.ClientHello) *record.ClientHello {
	t.Helper()
	body := h.Body()
	hello, ok := record.ClientHelloStart(record.Handshake{Type: record.MessageClientHello, Length: len(body), Body: body})
	require.True(t, ok)
	return &hello
}

// testCookie returns the cookie for a ClientHello at a time.
func testCookie(c *cookies, from route, hello *record.ClientHello, ms uint64) []byte {
	m := new(cookieMAC)
	m.draw(c, from, hello, ms)
	return bytes.Clone(m.cookie[:])
}

func TestCookieIsForOneAddressAndOneClientHello(t *testing.T) {
	t.Parallel()
	var c cookies
	c.init()
	first := dtlstest.ClientHello{Random: dtlstest.RandomOf(1), SessionID: []byte{1, 2}, Suites: []record.SuiteID{1, 2}, Extensions: dtlstest.CurveP256()}
	from := route{peer: netip.MustParseAddrPort("192.0.2.1:5684")}
	const sent = 1_000_000
	cookie := testCookie(&c, from, helloStart(t, first), sent)
	verify := func(from route, hello dtlstest.ClientHello, at uint64) cookieVerdict {
		if hello.Cookie == nil {
			hello.Cookie = cookie
		}
		verdict, _ := c.verify(from, helloStart(t, hello), at)
		return verdict
	}
	assert.Equal(t, cookieValid, verify(from, first, sent))
	assert.Equal(t, cookieValid, verify(from, first, sent+1000))
	_, age := c.verify(from, helloStart(t, dtlstest.ClientHello{Random: first.Random, SessionID: first.SessionID, Suites: first.Suites, Cookie: cookie}), sent+1234)
	assert.Equal(t, 1234*time.Millisecond, age, "the extensions may differ (RFC 6347 section 4.2.1)")

	for name, change := range map[string]func(h *dtlstest.ClientHello){
		"random":     func(h *dtlstest.ClientHello) { h.Random[31]++ },
		"version":    func(h *dtlstest.ClientHello) { h.Version = record.Version10 },
		"session ID": func(h *dtlstest.ClientHello) { h.SessionID = []byte{1, 3} },
		"no session": func(h *dtlstest.ClientHello) { h.SessionID = nil },
		"suites":     func(h *dtlstest.ClientHello) { h.Suites = []record.SuiteID{1, 3} },
		"one suite":  func(h *dtlstest.ClientHello) { h.Suites = []record.SuiteID{1} },
	} {
		other := first
		change(&other)
		assert.Equal(t, cookieOfAnotherHello, verify(from, other, sent), name)
	}
	for _, peer := range []string{"192.0.2.1:5685", "192.0.2.2:5684", "[2001:db8::1]:5684"} {
		assert.Equal(t, cookieUnknown, verify(route{peer: netip.MustParseAddrPort(peer)}, first, sent), peer)
	}
	for i := range cookie {
		forged := first
		forged.Cookie = bytes.Clone(cookie)
		forged.Cookie[i] ^= 1
		assert.NotEqual(t, cookieValid, verify(from, forged, sent), i)
		if i < cookieTimeSize+cookieMACSize {
			assert.Equal(t, cookieUnknown, verify(from, forged, sent), i)
		}
	}
	for _, wrong := range [][]byte{{}, {1}, cookie[:cookieSize-1], append(bytes.Clone(cookie), 0), make([]byte, 255)} {
		forged := first
		forged.Cookie = wrong
		assert.Equal(t, cookieUnknown, verify(from, forged, sent))
	}
	var other cookies
	other.init()
	verdict, _ := other.verify(from, helloStart(t, dtlstest.ClientHello{Random: first.Random, SessionID: first.SessionID, Suites: first.Suites, Cookie: cookie}), sent)
	assert.Equal(t, cookieUnknown, verdict, "of another listener")
}

// TestCookieLifetime: it ends also where the key or the count of milliseconds begins anew.
func TestCookieLifetime(t *testing.T) {
	t.Parallel()
	var c cookies
	c.init()
	from := route{peer: netip.MustParseAddrPort("192.0.2.1:5684")}
	lifetime, period := uint64(cookieLifetime.Milliseconds()), uint64(cookieKeyPeriod.Milliseconds())
	for _, sent := range []uint64{0, 1, period - 1, period, 100*period + 7, 1<<32 - 1, 1 << 32, 5<<32 + 3} {
		hello := dtlstest.ClientHello{Random: dtlstest.RandomOf(1)}
		hello.Cookie = testCookie(&c, from, helloStart(t, hello), sent)
		for _, after := range []uint64{0, 1, period - 1, period, lifetime} {
			verdict, age := c.verify(from, helloStart(t, hello), sent+after)
			assert.Equal(t, cookieValid, verdict, "sent at %d, %d later", sent, after)
			assert.Equal(t, after, uint64(age.Milliseconds()))
		}
		for _, after := range []uint64{lifetime + 1, lifetime + period, 1 << 31, 1 << 32, 1<<32 + 1, 7 << 32} {
			verdict, _ := c.verify(from, helloStart(t, hello), sent+after)
			assert.Equal(t, cookieUnknown, verdict, "sent at %d, %d later", sent, after)
		}
		if sent > 0 {
			verdict, _ := c.verify(from, helloStart(t, hello), sent-1)
			assert.Equal(t, cookieUnknown, verdict, "it is of the future")
		}
	}
}

// TestNothingIsAllocatedForAStranger whose ClientHello is answered, or whose cookie is made up,
// other than what sending the answer takes.
func TestNothingIsAllocatedForAStranger(t *testing.T) {
	if dtlstest.RaceEnabled || lockorder.Checked {
		t.Skip("the checks allocate")
	}
	l := newBareListener(t, 1)
	l.drawsCookies = true
	l.cookies.init()
	first := dtlstest.ClientHello{Random: dtlstest.RandomOf(1), Extensions: dtlstest.CurveP256()}
	second := first
	second.MessageSeq, second.Cookie = 1, make([]byte, cookieSize)
	firstDatagram, secondDatagram := first.Datagram(), second.Datagram()
	now := l.began.Add(time.Hour)
	n := 0
	allocations := testing.AllocsPerRun(1000, func() {
		n++
		from := route{socket: l.sockets[0], peer: dtlstest.NthAddr(11, n, 5684)}
		l.receive(from, firstDatagram, now)
		l.receive(from, secondDatagram, now)
	})
	reply := make([]byte, record.HeaderSize)
	network := testing.AllocsPerRun(1000, func() {
		route{socket: l.sockets[0], peer: dtlstest.NthAddr(11, 1, 5684)}.send(reply)
	})
	assert.LessOrEqual(t, allocations, network, "a socket in memory copies what is sent")
	assert.EqualValues(t, n, l.Stats().HelloVerifyRequests)
	assert.EqualValues(t, n, l.Stats().Stray)
	assert.Zero(t, l.Stats().Started)
}

func BenchmarkFirstClientHello(b *testing.B) {
	l := newBareListener(b, 1)
	l.drawsCookies = true
	l.cookies.init()
	datagram := dtlstest.ClientHello{Random: dtlstest.RandomOf(1), Extensions: dtlstest.CurveP256()}.Datagram()
	from := route{socket: l.sockets[0], peer: dtlstest.NthAddr(11, 1, 5684)}
	b.ReportAllocs()
	for b.Loop() {
		l.receive(from, datagram, l.began)
	}
}

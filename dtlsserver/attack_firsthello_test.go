// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"math/rand/v2"
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

// minHelloFragment is the size of a first fragment that has everything in front of the
// extensions, with a cookie. A server that keeps nothing wants as much at a time, and has to see
// it first.
const minHelloFragment = 70

// inFragments has a client send a message in fragments of size bytes, several in one datagram.
// They are in some order, unless the server wants the first one first.
func inFragments(c *dtlstest.ScriptedClient, message []byte, size, perDatagram int) {
	fragments := dtlstest.Fragments(message, size)
	if !statelessCookie {
		r := rand.New(rand.NewPCG(uint64(size), uint64(perDatagram)))
		r.Shuffle(len(fragments), func(i, j int) { fragments[i], fragments[j] = fragments[j], fragments[i] })
	}
	for records := c.Handshakes(fragments...); len(records) > 0; {
		n := min(perDatagram, len(records))
		c.Send(records[:n]...)
		records = records[n:]
	}
}

// helloInFragments does what Hellos does, with both ClientHellos in fragments.
func helloInFragments(t *testing.T, c *dtlstest.ScriptedClient, size, perDatagram int) {
	t.Helper()
	inFragments(c, c.Message(record.MessageClientHello, c.Hello.Body()), size, perDatagram)
	require.True(t, c.Await(dtlstest.Patience, func() bool { return c.Heard(record.MessageHelloVerifyRequest) }), "no cookie")
	inFragments(c, c.Message(record.MessageClientHello, c.Hello.Body()), size, perDatagram)
	require.True(t, c.Await(dtlstest.Patience, func() bool { return c.Heard(record.MessageServerHelloDone) }), "no ServerHello")
}

// TestFirstClientHelloComesInFragments: RFC 6347 section 4.2.3.
func TestFirstClientHelloComesInFragments(t *testing.T) {
	t.Parallel()
	sizes := []int{1, 2, 7, 30, 50, 100}
	if statelessCookie {
		sizes = []int{minHelloFragment, 100, 150}
	}
	for _, size := range sizes {
		for _, perDatagram := range []int{1, 5, 20} {
			attack(t, pskWith(), dtlsserver.Config{}, func(t *testing.T, v *victim) {
				c := v.client(t)
				c.Hello.Extensions = append(c.Hello.Extensions, 0, 21, 0, 100) // padding (RFC 7685)
				c.Hello.Extensions = append(c.Hello.Extensions, make([]byte, 100)...)
				helloInFragments(t, c, size, perDatagram)
				finishes(t, c)
				s := v.Stats()
				assert.EqualValues(t, 1, s.Started)
				if statelessCookie { // nobody waits for the other fragments of a first ClientHello
					s.Stray = 0
				}
				assert.Zero(t, refusals(s))
			})
		}
	}
}

// TestClientHelloInTinyFragmentsIsNotAnswered where the server keeps nothing, and it takes no
// place.
func TestClientHelloInTinyFragmentsIsNotAnswered(t *testing.T) {
	t.Parallel()
	if !statelessCookie {
		t.Skip("fragments of a first ClientHello are kept")
	}
	attack(t, pskWith(), dtlsserver.Config{}, func(t *testing.T, v *victim) {
		for _, size := range []int{1, 10, 40} {
			c := v.client(t)
			inFragments(c, c.Message(record.MessageClientHello, c.Hello.Body()), size, 1)
		}
		time.Sleep(2 * roundTrip)
		assert.Zero(t, v.network.Counts(dtlstest.ToClient).Sent)
		assert.Zero(t, v.Stats().Started)
		assert.Positive(t, v.Stats().Stray)
	})
}

// TestFragmentsStartHandshakeBesideSession: a client that has lost its state comes back
// from its address and port (RFC 6347 section 4.2.8) with a ClientHello in fragments. Its
// old session lives on until it is in.
func TestFragmentsStartHandshakeBesideSession(t *testing.T) {
	t.Parallel()
	attack(t, pskWith(), dtlsserver.Config{}, func(t *testing.T, v *victim) {
		first := v.client(t)
		require.NoError(t, first.Handshake())
		session := <-v.sessions
		time.Sleep(time.Minute)

		again := v.client(t)
		again.Conn = first.Conn
		size := 10
		if statelessCookie {
			size = minHelloFragment
		}
		helloInFragments(t, again, size, 2)
		require.Equal(t, dsm.StateEstablished, session.State())
		require.Equal(t, 1, v.Stats().HalfOpen)
		require.True(t, first.Echo("the old session"))
		finishes(t, again)
		assert.EqualValues(t, 1, v.Stats().Replaced)
		assert.Equal(t, 1, v.Stats().Established)
	})
}

// TestForgedFragmentsDoSessionNoHarm: fragments of a first ClientHello from the address of a
// session, which never become whole.
func TestForgedFragmentsDoSessionNoHarm(t *testing.T) {
	t.Parallel()
	attack(t, pskWith(), dtlsserver.Config{}, func(t *testing.T, v *victim) {
		c := v.client(t)
		require.NoError(t, c.Handshake())
		for n := range 100 {
			hello := dtlstest.Message(record.MessageClientHello, 0, dtlstest.ClientHello{Random: dtlstest.RandomOf(byte(n))}.Body()...)
			for _, f := range dtlstest.Fragments(hello, 20)[n%2:][:2] {
				v.network.Inject(addrPort(c), v.addr(), dtlstest.Plaintext(record.TypeHandshake, uint64(n), f...))
			}
			require.True(t, c.Echo("still in"))
		}
		s := v.Stats()
		assert.Equal(t, 1, s.Established)
		assert.Equal(t, unvalidated(dtlsserver.MaxUnvalidated), s.HalfOpen)
		assert.Zero(t, s.Replaced)
		assert.Equal(t, statelessCookie, s.AddressShare == 0)
	})
}

// TestFloodOfFirstFragmentsIsBounded: fragments from a thousand ports of one network, each
// the first of a ClientHello that never becomes whole. The network has all places but those
// that are left for other networks. The test measures the heap, and so runs by itself.
func TestFloodOfFirstFragmentsIsBounded(t *testing.T) {
	const handshakes, flood, bound = 1024, 1000, 16 << 10 // pion takes some 35 KB
	most := dtlsserver.Pressure(handshakes)
	synctest.Test(t, func(t *testing.T) {
		v := newVictim(t, pskWith(), dtlsserver.Config{Handshakes: handshakes, HandshakesPerSource: handshakes / 4, HandshakeTimeout: time.Hour})
		fragment := dtlstest.Fragments(dtlstest.Message(record.MessageClientHello, 0, make([]byte, 2000)...), 40)[0]
		before := heap()
		for n := range flood {
			from := dtlstest.NthAddr(10, n%256, uint16(1000+n/256))
			v.network.Inject(from, v.addr(), dtlstest.Plaintext(record.TypeHandshake, 0, fragment...))
			synctest.Wait()
			require.LessOrEqual(t, v.Stats().HalfOpen, most)
		}
		s := v.Stats()
		require.Equal(t, unvalidated(most), s.HalfOpen)
		assert.EqualValues(t, unvalidated(flood-most), s.SourceShare)
		assert.Equal(t, unvalidated(flood-most), s.Backlog)
		taken := (heap() - before) / int64(most)
		t.Logf("%d bytes each", taken)
		assert.Less(t, taken, int64(bound))
		v.honestClientGetsIn(t)
	})
}

// TestClientOfOlderVersionIsToldSo: a client that knows DTLS 1.0 only gets an alert that it
// can read once it has returned a cookie, and until then nothing but a HelloVerifyRequest
// (RFC 5246 appendix E.1, RFC 6347 section 4.2.1).
func TestClientOfOlderVersionIsToldSo(t *testing.T) {
	t.Parallel()
	const protocolVersion = 70
	attack(t, pskWith(), dtlsserver.Config{}, func(t *testing.T, v *victim) {
		c := v.client(t)
		c.Hello.Version = 0xfeff
		first := c.Message(record.MessageClientHello, c.Hello.Body())
		message, received := first, 0
		refused := func() bool { _, refused := c.Refused(); return refused }
		for n := 0; n < 6 && !refused(); n++ {
			r := c.Handshakes(message)[0]
			r[1], r[2] = 254, 255
			c.Send(r)
			received += len(r)
			cookie := len(c.Hello.Cookie) > 0
			c.Await(time.Second, func() bool { return refused() || !cookie && len(c.Hello.Cookie) > 0 })
			if !cookie && len(c.Hello.Cookie) > 0 {
				sent := v.network.Counts(dtlstest.ToClient).SentBytes
				assert.LessOrEqual(t, sent, 3*received)
				message = c.Message(record.MessageClientHello, c.Hello.Body())
			}
		}
		require.True(t, refused(), "no alert")
		for i, heard := range c.Server.Datagrams {
			records := dtlstest.Records(heard.Payload)
			require.Len(t, records, 1)
			assert.Equal(t, []byte{254, 255}, records[0].Raw[1:3], "the version of a record")
			if i < len(c.Server.Datagrams)-1 {
				m, _, ok := record.NextHandshake(records[0].Fragment())
				require.True(t, ok && records[0].Type == record.TypeHandshake)
				require.EqualValues(t, record.MessageHelloVerifyRequest, m.Type)
			}
		}
		description, _ := c.Refused()
		assert.EqualValues(t, protocolVersion, description)
		synctest.Wait()
		assert.EqualValues(t, 1, v.Stats().Failed)
	})
}

// TestRefusedStrangerGetsNoAlert: a ClientHello that cannot lead to a session, from an
// address that never returns a cookie. Its sender may have forged the address.
func TestRefusedStrangerGetsNoAlert(t *testing.T) {
	t.Parallel()
	for name, hello := range map[string]dtlstest.ClientHello{
		"no suite in common": {Suites: []record.SuiteID{0x1301}},
		"DTLS 1.0":           {Version: 0xfeff},
		"an unknown curve":   {Suites: []record.SuiteID{suiteECDHEPSK}, Extensions: []byte{0, 10, 0, 4, 0, 2, 0x12, 0x34}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			attack(t, pskWith(dtlstest.Suite, suiteECDHEPSK), dtlsserver.Config{}, func(t *testing.T, v *victim) {
				alerts := v.watchAlerts(func(dtlstest.Datagram) {})
				for n := range 20 {
					v.network.Inject(dtlstest.NthAddr(10, n, 5684), v.addr(), hello.Datagram())
				}
				time.Sleep(dtlsserver.DefaultHandshakeTimeout + roundTrip)
				assert.Zero(t, alerts.all.Load())
				assert.Zero(t, v.Stats().HalfOpen)
				assert.Equal(t, statelessCookie, refusals(v.Stats()) == 0)
				assert.LessOrEqual(t, v.network.Counts(dtlstest.ToClient).SentBytes, 3*20*len(hello.Datagram()))
			})
		})
	}
}

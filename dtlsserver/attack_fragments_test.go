// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fragment makes a fragment of a ClientKeyExchange whose header says what it says.
func fragment(seq uint16, length, offset, size int, body ...byte) []byte {
	return append(dtlstest.FragmentHeader(record.MessageClientKeyExchange, seq, length, offset, size), body...)
}

// hiddenHeaders returns the payload of a record with two fragments. A reader that goes on
// after a message's length, and not after the fragment's, finds 670 headers of empty
// fragments in the second one. The record has less than 8 kB.
func hiddenHeaders(seq uint16) []byte {
	const headerSize, first, headers = 12, 20, 670
	hidden := make([]byte, first-1-headerSize)
	for range headers {
		hidden = append(hidden, fragment(seq+1, 0, 0, 0)...)
	}
	payload := fragment(seq, first, 0, 1, 0)
	return append(append(payload, fragment(seq+1, len(hidden), 0, len(hidden))...), hidden...)
}

// hostileFragments are payloads of handshake records that no honest client sends. seq is
// the message_seq of its next message.
func hostileFragments(seq uint16) map[string][][]byte {
	var far, empty, ones [][]byte
	for n := range uint16(300) {
		far = append(far, fragment(seq+4+200*n, 1000, 0, 1000, make([]byte, 1000)...))
		empty = append(empty, fragment(seq+n%3, 1000, int(n), 0))
		ones = append(ones, fragment(seq+n%2, 8000, int(n)*20, 1, 'x'))
	}
	return map[string][][]byte{
		"headers in a row":          {bytes.Repeat(fragment(seq, 0, 0, 0), 680)},
		"headers of other messages": {bytes.Repeat(fragment(seq+1, 8000, 0, 0), 680)},
		"hidden headers":            {hiddenHeaders(seq)},
		"a chain of bytes":          {chain(seq)},
		"far ahead":                 far,
		"empty fragments":           empty,
		"parts of a long message":   ones,
		"lengths that differ":       {fragment(seq, 100, 0, 1, 0), fragment(seq, 200, 0, 1, 0), fragment(seq, 8, 0, 1, 0), fragment(seq, 1<<24-1, 0, 1, 0)},
		"beyond the message":        {fragment(seq, 8, 8, 1, 0), fragment(seq, 8, 1<<24-1, 1, 0), fragment(seq, 8, 4, 8, make([]byte, 8)...)},
		"longer than its record":    {fragment(seq, 8, 0, 8, 0), fragment(seq, 1<<24-1, 0, 1<<24-1, 0)},
		"a cut header":              {fragment(seq, 8, 0, 8)[:11], {record.MessageClientKeyExchange}, {}},
		"other bytes":               {fragment(seq, 8, 0, 4, 'x', 'x', 'x', 'x'), fragment(seq, 8, 2, 4, 'y', 'y', 'y', 'y')},
		"another message":           {dtlstest.Message(record.MessageCertificate, seq, 0, 0, 0), dtlstest.Message(record.MessageFinished, seq, make([]byte, 12)...)},
		"the last messages":         {fragment(65535, 8, 0, 1, 0), fragment(65535, 0, 0, 0)},
	}
}

// chain returns the payload of a record with some 600 fragments of one byte each, the last
// one first.
func chain(seq uint16) (payload []byte) {
	const size = 600
	for at := size - 1; at >= 0; at-- {
		payload = append(payload, fragment(seq, size, at, 1, 'x')...)
	}
	return payload
}

// TestHostileFragmentsAreHarmless: a stranger puts fragments between the client's cookie and
// its last flight. Each one is sent a hundred times. The client gets in when it sends its
// last flight for the second time, if not at once: the stranger's bytes may have taken the
// place of its own.
func TestHostileFragmentsAreHarmless(t *testing.T) {
	t.Parallel()
	for name := range hostileFragments(0) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			attack(t, pskWith(), dtlsserver.Config{}, func(t *testing.T, v *victim) {
				c := v.helloed(t)
				for n := range 100 {
					for _, payload := range hostileFragments(c.MessageSeq)[name] {
						v.network.Inject(addrPort(c), v.addr(), dtlstest.Plaintext(record.TypeHandshake, uint64(n+9), payload...))
					}
				}
				c.ReadFor(roundTrip)
				require.Equal(t, 1, v.Stats().HalfOpen)
				if name != "other bytes" && name != "hidden headers" { // those can be the client's
					assert.Positive(t, refusals(v.Stats()))
				}
				sendTwice(t, c, keyExchange(t, c))
				assert.Zero(t, v.Stats().Failed)
			})
		})
	}
}

// sendTwice has a client send its last flight, of which messages come before its
// ChangeCipherSpec, and once more if it is not answered. It must get in.
func sendTwice(t *testing.T, c *dtlstest.ScriptedClient, messages ...[]byte) {
	t.Helper()
	end := c.Message(record.MessageFinished, c.VerifyData())
	for range 2 {
		c.Send(append(c.Handshakes(messages...), c.ChangeCipherSpec(), c.Seal(record.TypeHandshake, end))...)
		if c.Await(2*roundTrip, func() bool { return c.Server.Finished }) {
			break
		}
	}
	require.True(t, c.Server.Finished, "no Finished")
	assert.True(t, c.Echo("in"))
}

// TestHostileFragmentsInPlaceOfFinishedAreHarmless: the client itself seals them. It has the
// keys, so it gets in afterwards, and what it has sent has taken nothing.
func TestHostileFragmentsInPlaceOfFinishedAreHarmless(t *testing.T) {
	t.Parallel()
	for name := range hostileFragments(0) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			attack(t, pskWith(), dtlsserver.Config{}, func(t *testing.T, v *victim) {
				c := v.helloed(t)
				exchange := keyExchange(t, c)
				c.Send(c.Handshakes(exchange)...)
				payloads := hostileFragments(c.MessageSeq)[name]
				if name == "another message" {
					payloads = payloads[:1] // its wrong Finished ends the handshake
				}
				for range 30 {
					for _, payload := range payloads {
						c.Send(c.ChangeCipherSpec(), c.Seal(record.TypeHandshake, payload))
					}
				}
				c.ReadFor(roundTrip)
				require.Zero(t, v.Stats().Completed)
				sendTwice(t, c, exchange)
			})
		})
	}
}

// TestClientsMessagesComeInFragments: all messages of a client in fragments of some size, in
// reverse, several in one datagram; the Finished as well.
func TestClientsMessagesComeInFragments(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, 3, 10, 100} {
		attack(t, pskWith(), dtlsserver.Config{}, func(t *testing.T, v *victim) {
			c := v.client(t)
			send := func(message []byte, size int) {
				records := c.Handshakes(dtlstest.Fragments(message, size)...)
				for len(records) > 0 {
					n := min(5, len(records))
					defer c.Send(records[:n]...) // the last datagram first
					records = records[n:]
				}
			}
			helloSize := size
			if statelessCookie {
				helloSize = 100 // all of it
			}
			send(c.Message(record.MessageClientHello, c.Hello.Body()), helloSize)
			require.True(t, c.Await(dtlstest.Patience, func() bool { return c.Heard(record.MessageHelloVerifyRequest) }))
			send(c.Message(record.MessageClientHello, c.Hello.Body()), helloSize)
			require.True(t, c.Await(dtlstest.Patience, func() bool { return c.Heard(record.MessageServerHelloDone) }))
			send(keyExchange(t, c), size)
			c.Send(c.ChangeCipherSpec())
			for _, f := range dtlstest.Fragments(c.Message(record.MessageFinished, c.VerifyData()), size) {
				c.Send(c.Seal(record.TypeHandshake, f))
			}
			require.True(t, c.Await(dtlstest.Patience, func() bool { return c.Server.Finished }))
			assert.True(t, c.Echo("in"))
			assert.Zero(t, refusals(v.Stats()))
		})
	}
}

// TestHalfOpenHandshakeTakesBoundedMemory: clients that have returned their cookies send 4
// MB each, whatever a handshake may have to keep: fragments of each message to come,
// protected records, and alerts. The test measures the heap, and so runs by itself.
func TestHalfOpenHandshakeTakesBoundedMemory(t *testing.T) {
	const peers, each, bound = 32, 4 << 20, 64 << 10
	certificate := dtlstest.SelfSigned(t, dtlstest.ECDSA)
	config := withCertificates(certificate, dtls.RequestClientCert)
	synctest.Test(t, func(t *testing.T) {
		v := newVictim(t, config, dtlsserver.Config{Handshakes: 2 * peers, HandshakesPerSource: -1, HandshakeTimeout: time.Hour})
		v.certificate = certificate
		clients := make([]*dtlstest.ScriptedClient, peers)
		for i := range clients {
			clients[i] = v.helloed(t)
		}
		synctest.Wait()
		require.Equal(t, peers, v.Stats().HalfOpen)
		before := heap()
		kinds := []uint8{record.MessageCertificate, record.MessageClientKeyExchange, record.MessageCertificateVerify, record.MessageFinished}
		lengths := []int{16 << 10, 1 << 10, 2 << 10, 12}
		chunk := make([]byte, 1000)
		for _, c := range clients {
			for sent, n := 0, 0; sent < each; n++ {
				ahead := n % 20
				kind, length := kinds[ahead%4], lengths[ahead%4]
				if sent > each/8*7 { // longer than any message may be
					length = 1<<24 - 1
				}
				at := n * 37 % length
				size := min(len(chunk), length-at)
				body := append(dtlstest.FragmentHeader(kind, c.MessageSeq+uint16(ahead), length, at, size), chunk[:size]...)
				sealed := dtlstest.Unauthentic([]record.Type{record.TypeHandshake, record.TypeApplicationData}[n%2], uint64(n), 1000)
				c.Send(c.Record(record.TypeHandshake, body), sealed, c.Record(record.TypeAlert, []byte{1, 1}))
				sent += len(body) + len(sealed)
				synctest.Wait()
			}
		}
		taken := (heap() - before) / peers
		t.Logf("%d bytes each", taken)
		assert.Less(t, taken, int64(bound))
		assert.Equal(t, peers, v.Stats().HalfOpen)
		assert.Positive(t, refusals(v.Stats()))
		v.honestClientGetsIn(t)
	})
}

// TestFragmentsOfStrangersAreDropped: a stranger sends a ClientHello, and returns no cookie.
// What it sends then reaches no reassembly. Pion keeps empty fragments without counting
// them, and takes quadratic time for chains of them.
func TestFragmentsOfStrangersAreDropped(t *testing.T) {
	t.Parallel()
	for name, next := range map[string]func(n int) []byte{
		"of a message to come": func(int) []byte { return fragment(60000, 0, 0, 0) },
		"in a chain":           func(n int) []byte { return fragment(1, 0, n, 1) },
		"empty":                func(n int) []byte { return fragment(uint16(n%16), 100, 0, 0) },
		"sound, and too early": func(n int) []byte { return fragment(uint16(1+n%15), 9000, 0, 7988, make([]byte, 7988)...) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
				from := l.sendHello(t, 1)
				synctest.Wait()
				require.Equal(t, unvalidated(1), l.Stats().HalfOpen)
				n := 0
				for range 100 {
					var body []byte
					for len(body) < 8000 {
						body = append(body, next(n)...)
						n++
					}
					before := allDrops(l.Stats())
					l.network.Inject(from, l.addr(), dtlstest.Plaintext(record.TypeHandshake, uint64(n), body...))
					synctest.Wait()
					require.Equal(t, before+1, allDrops(l.Stats()))
				}
				assert.Equal(t, unvalidated(1), l.Stats().HalfOpen)
			})
		})
	}
}

// TestFragmentsFarAheadAreDropped: the client has returned its cookie, and sends fragments
// that no honest client sends.
func TestFragmentsFarAheadAreDropped(t *testing.T) {
	t.Parallel()
	attack(t, pskWith(), dtlsserver.Config{}, func(t *testing.T, v *victim) {
		c := v.helloed(t)
		for range 100 {
			c.Send(c.Record(record.TypeHandshake, fragment(60000, 0, 0, 0)))
		}
		c.ReadFor(roundTrip)
		assert.EqualValues(t, 100, allDrops(v.Stats()))
		assert.Equal(t, 1, v.Stats().HalfOpen)
	})
}

// SPDX-License-Identifier: MIT

package pionv2

import (
	"bytes"
	"net"
	"testing"
	"testing/synctest"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/handshake"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// clientFragment is the header of a fragment of a message from the client.
func clientFragment(messageSeq uint16, length, offset, size int) []byte {
	return dtlstest.FragmentHeader(record.MessageClientHello, messageSeq, length, offset, size)
}

// TestFragmentsOfStrangersDoNotReachPion: pion keeps empty fragments without counting
// them, and takes quadratic time for chains of them, which nothing can stop.
func TestFragmentsOfStrangersDoNotReachPion(t *testing.T) {
	t.Parallel()
	for name, fragment := range map[string]func(n int) []byte{
		"of a message to come": func(int) []byte { return clientFragment(60000, 0, 0, 0) },
		"in a chain":           func(n int) []byte { return clientFragment(1, 0, n, 1) },
		"empty":                func(n int) []byte { return clientFragment(uint16(n%16), 100, 0, 0) },
		"sound, and too early": func(n int) []byte {
			return append(clientFragment(uint16(n%16), 8000, 0, 7988), make([]byte, 7988)...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, dtlstest.PSKConfig("key"), Config{}, func(t *testing.T, l memory) {
				from := dtlstest.NthAddr(10, 1, 5684)
				l.network.Inject(from, l.addr(), dtlstest.Hello(1))
				synctest.Wait()
				require.Equal(t, 1, l.Stats().HalfOpen)
				n := 0
				for range 100 {
					var body []byte
					for len(body) < 8000 {
						body = append(body, fragment(n)...)
						n++
					}
					before := l.Stats().Plaintext
					l.network.Inject(from, l.addr(), dtlstest.Plaintext(record.TypeHandshake, uint64(n), body...))
					synctest.Wait()
					require.Equal(t, before+1, l.Stats().Plaintext)
				}
				assert.Equal(t, 1, l.Stats().HalfOpen)
			})
		})
	}
}

// TestImplausibleFragmentsOfClientsDoNotReachPion: the client has returned its cookie, and
// sends fragments that no honest client sends.
func TestImplausibleFragmentsOfClientsDoNotReachPion(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlstest.PSKConfig("key"), Config{}, func(t *testing.T, l memory) {
		client := l.stall(t)
		for n := range 100 {
			dtlstest.Send(t, client, dtlstest.Plaintext(record.TypeHandshake, uint64(n), clientFragment(60000, 0, 0, 0)...))
		}
		synctest.Wait()
		assert.EqualValues(t, 100, l.Stats().Plaintext)
		assert.Equal(t, 1, l.Stats().HalfOpen)
	})
}

func TestPlausible(t *testing.T) {
	t.Parallel()
	take := func(fragments ...[]byte) bool {
		r, _, fault := record.Next(dtlstest.Plaintext(record.TypeHandshake, 0, bytes.Join(fragments, nil)...))
		require.Equal(t, record.NoFault, fault)
		return plausible(r)
	}
	whole := append(clientFragment(2, 4, 0, 4), 1, 2, 3, 4)
	assert.True(t, take(whole))
	assert.True(t, take(whole, whole, clientFragment(3, 0, 0, 0)))
	assert.True(t, take(bytes.Repeat(whole, maxMessages)))
	assert.True(t, take(clientFragment(maxMessageSeq, 0, 0, 0)))
	assert.False(t, take(clientFragment(maxMessageSeq+1, 0, 0, 0)), "too far ahead")
	assert.False(t, take(clientFragment(2, 4, 0, 0)), "an empty fragment of a message that is not empty")
	assert.False(t, take(clientFragment(2, 0, 1, 1)), "outside of its message")
	assert.False(t, take(bytes.Repeat(whole, maxMessages+1)), "too many")
	assert.False(t, take(whole, []byte{1}), "a remainder")
}

// validatedHandshake returns a handshake whose client has returned its cookie. Pion does
// not run.
func validatedHandshake() *serverHandshake {
	h := newServerHandshake(dtlstest.PSKConfig("key"), false, record.ClientHello{}, func([]byte) {})
	h.amplification.validated.Store(true)
	return h
}

// clientMessage returns the n-th of different records of a client.
func clientMessage(n int) record.Record {
	const clientKeyExchange = 16
	r, _, _ := record.Next(dtlstest.Plaintext(record.TypeHandshake, uint64(n+5000), dtlstest.Message(clientKeyExchange, 2, 1, 2, 3, 4)...))
	return r
}

// TestDuplicateRecordIsNotPassedOnTwice: pion must not answer it twice, and it takes no
// room.
func TestDuplicateRecordIsNotPassedOnTwice(t *testing.T) {
	t.Parallel()
	h := validatedHandshake()
	for n := range maxQueuedRecords {
		require.Equal(t, handshake.Accepted, h.HandleRecord(clientMessage(n)))
		require.Equal(t, handshake.Accepted, h.HandleRecord(clientMessage(n)))
		require.Len(t, h.queue, n+1)
	}
	assert.Equal(t, handshake.NoSpace, h.HandleRecord(clientMessage(maxQueuedRecords)))
}

// TestRecordsForPionAreBounded: pion gets a bounded number of records in one handshake,
// with sequence numbers of the transport's own.
func TestRecordsForPionAreBounded(t *testing.T) {
	t.Parallel()
	h := validatedHandshake()
	accepted := 0
	for ; h.HandleRecord(clientMessage(accepted)) == handshake.Accepted; accepted++ {
		raw, _, _ := h.next()
		r, _, _ := record.Next(raw)
		require.EqualValues(t, accepted, r.Sequence)
	}
	assert.Equal(t, maxPassedOn, accepted)
}

// TestPlaintextIsUnexpectedOnceTheLastFlightIsSent: pion must not repeat the flight, and
// protected records are the session's.
func TestPlaintextIsUnexpectedOnceTheLastFlightIsSent(t *testing.T) {
	t.Parallel()
	change, _, _ := record.Next(dtlstest.Plaintext(record.TypeChangeCipherSpec, 3, 1))
	finished, _, _ := record.Next(dtlstest.Unauthentic(record.TypeHandshake, 0, 60))
	h := validatedHandshake()
	require.Equal(t, handshake.Accepted, h.HandleRecord(clientMessage(0)))
	require.Equal(t, handshake.Accepted, h.HandleRecord(change))
	require.Equal(t, handshake.Accepted, h.HandleRecord(finished))
	require.Len(t, h.queue, 1)
	h.server.lastStarted = true
	assert.Equal(t, handshake.Unexpected, h.HandleRecord(clientMessage(1)))
	assert.Equal(t, handshake.Unexpected, h.HandleRecord(change))
	assert.Equal(t, handshake.ForSession, h.HandleRecord(finished))
	assert.Len(t, h.queue, 1)
}

// TestPlaintextDataDoNotReachPion: anybody can put application data in epoch 0 among the
// client's datagrams. Pion would give up the handshake, and leave its transport open.
func TestPlaintextDataDoNotReachPion(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlstest.PSKConfig("key"), Config{}, func(t *testing.T, l memory) {
		dtlstest.ServeEcho[*Conn](t, l)
		client := l.dial(t, func(socket net.Conn) net.Conn {
			return dtlstest.Rewrite(socket, func(datagram []byte, send func([]byte) error) error {
				if dtlstest.Has(datagram, record.TypeChangeCipherSpec, false) {
					if err := send(dtlstest.Plaintext(record.TypeApplicationData, 50, 'x')); err != nil {
						return err
					}
				}
				return send(datagram)
			})
		})
		dtlstest.Echo(t, client, "x")
		assert.EqualValues(t, 1, l.Stats().Plaintext)
		assert.Zero(t, l.Stats().Failed)
	})
}

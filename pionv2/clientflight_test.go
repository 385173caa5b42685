// SPDX-License-Identifier: MIT

package pionv2

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestPaddingForMACDoesNotReachPion: a client sends a Finished that has padding in the
// place of its MAC. Pion would panic in a goroutine of its own, and end the process.
func TestPaddingForMACDoesNotReachPion(t *testing.T) {
	t.Parallel()
	config := dtlstest.PSKConfig("key", dtls.TLS_PSK_WITH_AES_128_CBC_SHA256)
	inBubble(t, config, Config{}, func(t *testing.T, l memory) {
		dtlstest.ServeEcho[*Conn](t, l)
		socket := l.network.Dial(netip.AddrPort{}, l.addr())
		forger := dtlstest.NewFinishedForger(socket, record.SuiteID(config.CipherSuites[0]), dtlstest.PaddingForMAC)
		client := *config
		client.KeyLogWriter = forger.KeyLog()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err := dtls.ClientWithContext(ctx, forger, &client)
		require.Error(t, err)
		assert.Positive(t, forger.Forged())
		assert.Zero(t, l.Stats().Completed)

		honest := l.dial(t, func(socket net.Conn) net.Conn { return socket })
		dtlstest.Echo(t, honest, "the server is well")
		assert.EqualValues(t, 1, l.Stats().Completed)
	})
}

// TestLastFlightCanComeBackwards: pion keeps records that come before it has the keys in
// buffers that it has given back to a pool, so it gets no record too early. Otherwise the
// race detector reports it, or clients get the wrong answer.
func TestLastFlightCanComeBackwards(t *testing.T) {
	t.Parallel()
	for _, suite := range []dtls.CipherSuiteID{dtls.TLS_PSK_WITH_AES_128_GCM_SHA256, dtls.TLS_PSK_WITH_AES_128_CBC_SHA256} {
		t.Run(suite.String(), func(t *testing.T) {
			t.Parallel()
			config := dtlstest.PSKConfig("key", suite)
			config.FlightInterval = dtlstest.Patience // nothing is repeated
			l := listen(t, config, Config{HandshakesPerSource: -1})
			dtlstest.ServeEcho[*Conn](t, l)
			var wg sync.WaitGroup
			for range 10 {
				wg.Go(func() {
					for range 5 {
						udp, err := net.DialUDP("udp", nil, l.Addr().(*net.UDPAddr))
						if !assert.NoError(t, err) {
							return
						}
						client, err := dtlstest.Handshake(dtlstest.LastFlightBackwards(udp), config)
						if !assert.NoError(t, err) {
							return
						}
						_, err = client.Write([]byte("x"))
						assert.NoError(t, err)
						buf := make([]byte, 10)
						n, err := client.Read(buf)
						assert.NoError(t, err)
						assert.Equal(t, "x", string(buf[:n]))
						_ = client.Close()
					}
				})
			}
			wg.Wait()
			assert.EqualValues(t, 50, l.Stats().Completed)
		})
	}
}

// flightTest has the two sides' records of a session with its keys.
func flightTest(t *testing.T) (client, server *record.Session) {
	t.Helper()
	config := record.Config{Suite: dtlstest.Suite, MasterSecret: make([]byte, 48), Epoch: epoch}
	server, err := record.New(config)
	require.NoError(t, err)
	config.IsClient = true
	client, err = record.New(config)
	require.NoError(t, err)
	return client, server
}

// TestClientFlightIsReadyWithBothRecords, in any order, and with the Finished before the
// keys.
func TestClientFlightIsReadyWithBothRecords(t *testing.T) {
	t.Parallel()
	client, server := flightTest(t)
	next := func(raw []byte) record.Record {
		r, _, fault := record.Next(raw)
		require.Equal(t, record.NoFault, fault)
		return r
	}
	seal := func(message []byte) record.Record {
		raw, err := client.Seal(nil, record.TypeHandshake, message)
		require.NoError(t, err)
		return next(raw)
	}
	change := next(dtlstest.Plaintext(record.TypeChangeCipherSpec, 3, 1))
	finished := dtlstest.Message(record.MessageFinished, 4, make([]byte, 12)...)

	f := clientFlight{}
	f.receive(change, server)
	assert.False(t, f.ready())
	f.receive(seal(finished), server)
	assert.True(t, f.ready())
	f = clientFlight{}
	f.receive(seal(finished), server)
	assert.False(t, f.ready())
	f.receive(change, server)
	assert.True(t, f.ready())
	f.passedOn = true
	assert.False(t, f.ready(), "once")

	f = clientFlight{}
	first := seal(finished)
	for range maxEarly + 1 {
		f.receive(first, nil) // before the keys
	}
	assert.Len(t, f.early, maxEarly)
	assert.Nil(t, f.finished)
	f.receive(change, nil)
	f.openEarly(server)
	assert.True(t, f.ready())
	assert.Equal(t, first.Raw, f.finished)
	assert.Empty(t, f.early)

	f.forget()
	assert.False(t, f.ready())
	f.receive(change, server)
	f.receive(first, server)
	assert.False(t, f.ready(), "a replay")
	f.receive(seal(finished), server)
	assert.True(t, f.ready())

	f = clientFlight{}
	for name, r := range map[string]record.Record{
		"a ChangeCipherSpec of two bytes": next(dtlstest.Plaintext(record.TypeChangeCipherSpec, 3, 1, 1)),
		"another value":                   next(dtlstest.Plaintext(record.TypeChangeCipherSpec, 3, 2)),
		"not authentic":                   next(dtlstest.Unauthentic(record.TypeHandshake, 99, 60)),
		"another message":                 seal(dtlstest.Message(record.MessageClientHello, 4, 0)),
	} {
		f.receive(r, server)
		assert.Nil(t, f.changeCipherSpec, name)
		assert.Nil(t, f.finished, name)
	}
}

// SPDX-License-Identifier: MIT

package dtlstest_test

import (
	"crypto"
	"crypto/tls"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// serveOnce has pion's server do one handshake and echo one datagram.
func serveOnce(t *testing.T, conn net.Conn, config *dtls.Config) <-chan dtls.State {
	t.Helper()
	states := make(chan dtls.State, 1)
	go func() {
		defer close(states)
		server, err := dtls.Server(conn, config)
		if !assert.NoError(t, err) {
			return
		}
		buf := make([]byte, 100)
		n, err := server.Read(buf)
		if assert.NoError(t, err) {
			_, err = server.Write(buf[:n])
			assert.NoError(t, err)
		}
		state := server.ConnectionState()
		assert.NoError(t, server.Close())
		states <- state
	}()
	return states
}

// scripted runs a handshake of a scripted client with pion's server in a bubble, and an
// echo.
func scripted(t *testing.T, config *dtls.Config, suites []record.SuiteID, prepare func(c *dtlstest.ScriptedClient)) (*dtlstest.ScriptedClient, dtls.State) {
	t.Helper()
	network := dtlstest.NewNetwork(1)
	t.Cleanup(func() { _ = network.Close() })
	server := network.Listen(netip.AddrPort{})
	socket := network.Dial(netip.AddrPort{}, server.AddrPort())
	server.Connect(socket.AddrPort())
	states := serveOnce(t, server, config)
	c := dtlstest.NewScriptedClient(socket, "key", suites...)
	prepare(c)
	require.NoError(t, c.Handshake())
	require.True(t, c.Echo("hello"))
	return c, <-states
}

func TestScriptedClientDoesHandshakes(t *testing.T) {
	t.Parallel()
	certificate := dtlstest.SelfSigned(t, dtlstest.ECDSA)
	withCertificate := func(auth dtls.ClientAuthType) *dtls.Config {
		return &dtls.Config{Certificates: []tls.Certificate{certificate.Certificate}, ClientAuth: auth, FlightInterval: dtlstest.FlightInterval}
	}
	const ecdhePSK, ecdsa = dtls.TLS_ECDHE_PSK_WITH_AES_128_CBC_SHA256, dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
	for name, test := range map[string]struct {
		config *dtls.Config
		suite  dtls.CipherSuiteID
		chain  int
	}{
		"PSK":                      {dtlstest.PSKConfig("key"), dtls.CipherSuiteID(dtlstest.Suite), 0},
		"ECDHE_PSK":                {dtlstest.PSKConfig("key", ecdhePSK), ecdhePSK, 0},
		"ECDHE_ECDSA":              {withCertificate(dtls.NoClientCert), ecdsa, 0},
		"a client's certificate":   {withCertificate(dtls.RequireAnyClientCert), ecdsa, 1},
		"no certificate, as asked": {withCertificate(dtls.RequestClientCert), ecdsa, 0},
	} {
		for _, extended := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					c, state := scripted(t, test.config, []record.SuiteID{record.SuiteID(test.suite)}, func(c *dtlstest.ScriptedClient) {
						c.Signer = certificate.PrivateKey.(crypto.Signer)
						c.Chain = certificate.Certificate.Certificate[:test.chain]
						if !extended {
							c.Hello.Extensions = dtlstest.CurveP256()
						}
					})
					assert.Equal(t, extended, c.Server.Hello.ExtendedMasterSecret)
					assert.Equal(t, record.SuiteID(test.suite), c.Server.Hello.Suite)
					assert.Len(t, state.PeerCertificates, test.chain)
					_, refused := c.Refused()
					assert.False(t, refused)
				})
			})
		}
	}
}

// TestScriptedClientResumesSession: a client with a session's ID and master secret does an
// abbreviated handshake.
func TestScriptedClientResumesSession(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		config := dtlstest.PSKConfig("key")
		config.SessionStore = &dtlstest.ClientStore{}
		first, _ := scripted(t, config, nil, func(*dtlstest.ScriptedClient) {})
		require.NotEmpty(t, first.Server.Hello.SessionID)
		second, _ := scripted(t, config, nil, func(c *dtlstest.ScriptedClient) {
			c.Hello.SessionID, c.Master = []byte(first.Server.Hello.SessionID), first.Master
		})
		assert.True(t, second.Resumes())
		assert.Equal(t, first.Master, second.Master)
	})
}

// TestScriptedClientSaysWhatItIsTold: fragments, records and messages of the test's own.
func TestScriptedClientSaysWhatItIsTold(t *testing.T) {
	t.Parallel()
	network := dtlstest.NewNetwork(1)
	server := network.Listen(netip.AddrPort{})
	c := dtlstest.NewScriptedClient(network.Dial(netip.AddrPort{}, server.AddrPort()), "key")
	m := c.Message(record.MessageClientHello, c.Hello.Body())
	fragments := dtlstest.Fragments(m, 10)
	c.Send(append(c.Handshakes(fragments...), c.Record(record.TypeAlert, []byte{1, 0}))...)

	buf := make([]byte, 4096)
	n, _, err := server.ReadFrom(buf)
	require.NoError(t, err)
	var body []byte
	for i, r := range dtlstest.Records(buf[:n]) {
		require.EqualValues(t, i, r.Sequence)
		if i == len(fragments) {
			assert.Equal(t, record.TypeAlert, r.Type)
			break
		}
		f, rest, ok := record.NextHandshake(r.Fragment())
		require.True(t, ok)
		require.Empty(t, rest)
		assert.Equal(t, len(body), f.Offset)
		body = append(body, f.Body...)
	}
	assert.Equal(t, c.Hello.Body(), body)
	assert.Equal(t, m, c.Transcript)
	assert.EqualValues(t, 1, c.MessageSeq)
	next := c.Message(record.MessageClientKeyExchange, []byte{0, 0})
	assert.Equal(t, append(append([]byte(nil), m...), next...), c.Transcript)
}

// TestScriptedClientOverUDP: the clock of the test is real there.
func TestScriptedClientOverUDP(t *testing.T) {
	t.Parallel()
	l, err := dtls.Listen("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}, dtlstest.PSKConfig("key"))
	require.NoError(t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		conn, err := l.Accept()
		if !assert.NoError(t, err) {
			return
		}
		buf := make([]byte, 100)
		for n, err := conn.Read(buf); err == nil; n, err = conn.Read(buf) {
			_, _ = conn.Write(buf[:n])
		}
		assert.NoError(t, conn.Close())
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	c := dtlstest.NewScriptedClient(dtlstest.Stranger(t, l.Addr()), "key")
	require.NoError(t, c.Handshake())
	assert.True(t, c.Echo("hello"))
	c.Send(c.Seal(record.TypeAlert, record.Alert{Level: record.LevelWarning, Description: record.CloseNotify}.Payload()))
	assert.True(t, c.Await(dtlstest.Patience, func() bool { return len(c.Server.Opened) > 0 }), "close_notify")
}

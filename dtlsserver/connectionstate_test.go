// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"bytes"
	"crypto/tls"
	"net/netip"
	"testing"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestConnectionStateHasPSKIdentity(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		for _, size := range []int{1, 47, 48, 200} {
			config := psk()
			config.PSKIdentityHint = bytes.Repeat([]byte("i"), size)
			l.network.DialClient(t, netip.AddrPort{}, l.addr(), config)
			c, err := l.AcceptConn(t.Context())
			require.NoError(t, err)
			state := connectionState(c)
			assert.Equal(t, string(config.PSKIdentityHint), string(state.IdentityHint))
			assert.Empty(t, state.PeerCertificates)
			assert.Empty(t, state.SessionID)
			assert.Empty(t, state.NegotiatedProtocol)
		}
	})
}

// TestConnectionStateIsTheClients compares it with what the client says of the session:
// certificates, ALPN, and keying material (RFC 5705).
func TestConnectionStateIsTheClients(t *testing.T) {
	t.Parallel()
	cert := dtlstest.SelfSigned(t, dtlstest.ECDSA)
	config := dtlstest.WithTimeout(&dtls.Config{
		Certificates: []tls.Certificate{cert.Certificate}, InsecureSkipVerify: true, ClientAuth: dtls.RequireAnyClientCert,
		SupportedProtocols: []string{"coap"}, FlightInterval: dtlstest.FlightInterval,
	}, dtlstest.Patience)
	l := listen(t, config, dtlsserver.Config{})
	conns := echoServer(t, l)
	client := dtlstest.Dial(t, l.Addr(), nil, config)
	dtlstest.Echo(t, client, "x")
	c := dtlstest.Receive(t, conns)
	clientState := client.ConnectionState()
	want, err := clientState.ExportKeyingMaterial("EXPORTER-test", nil, 32)
	require.NoError(t, err)
	check := func(when string) {
		t.Helper()
		state := connectionState(c)
		assert.Equal(t, "coap", state.NegotiatedProtocol, when)
		assert.Equal(t, cert.Certificate.Certificate, state.PeerCertificates, when)
		got, err := state.export("EXPORTER-test", nil, 32)
		require.NoError(t, err)
		assert.Equal(t, want, got, when)
		other, err := state.export("EXPORTER-other", nil, 32)
		require.NoError(t, err)
		assert.NotEqual(t, want, other, when)
	}
	check("while it is established")
	require.NoError(t, c.Close())
	check("after the end")
}

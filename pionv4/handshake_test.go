// SPDX-License-Identifier: MIT

package pionv4

import (
	"context"
	"crypto/tls"
	"errors"
	"testing"
	"time"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/handshake"
	"github.com/go-dsm/dsm/pionv2"
	"github.com/go-dsm/dsm/resume"
	v2 "github.com/pion/dtls/v2"
	"github.com/pion/dtls/v4"
	"github.com/pion/dtls/v4/pkg/crypto/ciphersuite"
	"github.com/pion/dtls/v4/pkg/protocol"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func cfgOf(t *testing.T) dtlsserver.Config {
	t.Helper()
	store, err := resume.New(resume.Config{})
	require.NoError(t, err)
	return dtlsserver.Config{Resumption: store}
}

// visit has a client echo once and close its session.
func visit(t *testing.T, sessions <-chan *dtlsserver.Conn, c *dtlstest.Client) *dtlsserver.Conn {
	t.Helper()
	dtlstest.Echo(t, c, "visit")
	s := dtlstest.Receive(t, sessions)
	require.NoError(t, c.Close())
	dtlstest.Eventually(t, func() bool { return s.State() == dsm.StateNone }, "the client has closed the session")
	return s
}

// TestSessionsOfClientsWithCertificatesAreResumed: pion alone resumes none of a client that has
// shown a certificate.
func TestSessionsOfClientsWithCertificatesAreResumed(t *testing.T) {
	t.Parallel()
	for _, auth := range []dtls.ClientAuthType{dtls.NoClientCert, dtls.RequestClientCert, dtls.RequireAnyClientCert, dtls.RequireAndVerifyClientCert} {
		cert := dtlstest.SelfSigned(t, dtlstest.ECDSA)
		asked := 0
		config := Config{Certificates: []tls.Certificate{cert.Certificate}, ClientAuth: auth, ClientCAs: cert.Pool}
		config.VerifyConnection = func(*dtls.State) error { asked++; return nil }
		l := listen(t, config, cfgOf(t))
		sessions := dtlstest.ServeEcho[*dtlsserver.Conn](t, l)
		client := dtlstest.WithTimeout(&v2.Config{
			Certificates: config.Certificates, InsecureSkipVerify: true, SessionStore: &dtlstest.ClientStore{},
			FlightInterval: dtlstest.FlightInterval,
		}, dtlstest.Patience)
		first := visit(t, sessions, dtlstest.Dial(t, l.Addr(), nil, client))
		assert.False(t, first.Resumed())
		second := visit(t, sessions, dtlstest.Dial(t, l.Addr(), nil, client))
		assert.True(t, second.Resumed(), auth)
		assert.Equal(t, 2, asked, "once in each handshake")
		if auth == dtls.NoClientCert {
			assert.Empty(t, second.Identity().Certificates)
		} else {
			assert.Equal(t, cert.Certificate.Certificate, second.Identity().Certificates, auth)
		}
		assert.Equal(t, auth >= dtls.VerifyClientCertIfGiven, !second.Identity().Verified.IsZero())
	}
}

// TestSessionIsResumedAfterChangeOfKeyKind: an abbreviated handshake needs no certificate of the
// server's, so another kind of key does not matter, and nobody asks for a certificate.
func TestSessionIsResumedAfterChangeOfKeyKind(t *testing.T) {
	t.Parallel()
	cfg := cfgOf(t)
	client := dtlstest.WithTimeout(&v2.Config{
		InsecureSkipVerify: true, SessionStore: &dtlstest.ClientStore{}, FlightInterval: dtlstest.FlightInterval,
	}, dtlstest.Patience)
	old := listen(t, Config{Certificates: []tls.Certificate{dtlstest.SelfSigned(t, dtlstest.ECDSA).Certificate}}, cfg)
	visit(t, dtlstest.ServeEcho[*dtlsserver.Conn](t, old), dtlstest.Dial(t, old.Addr(), nil, client))

	rsa := dtlstest.SelfSigned(t, dtlstest.RSA).Certificate
	for _, config := range []Config{
		{Certificates: []tls.Certificate{rsa}},
		{GetCertificate: func(*dtls.ClientHelloInfo) (*tls.Certificate, error) { return nil, errors.New("refused") }},
	} {
		l := listen(t, config, cfg)
		s := visit(t, dtlstest.ServeEcho[*dtlsserver.Conn](t, l), dtlstest.Dial(t, l.Addr(), nil, client))
		assert.True(t, s.Resumed())
	}
}

// TestSessionsMoveBetweenAdapters by Detach and Attach, and by resumption.
func TestSessionsMoveBetweenAdapters(t *testing.T) {
	t.Parallel()
	store := cfgOf(t).Resumption
	cfg := dtlsserver.Config{Resumption: store}
	suite := v2.TLS_PSK_WITH_AES_128_GCM_SHA256
	old, err := pionv2.Listen("udp", "127.0.0.1:0", dtlstest.PSKConfig("key", suite), cfg)
	require.NoError(t, err)
	defer old.Close()
	client := dtlstest.PSKConfig("key", suite)
	client.SessionStore = &dtlstest.ClientStore{}
	c := visit(t, dtlstest.ServeEcho[*dtlsserver.Conn](t, old), dtlstest.Dial(t, old.Addr(), nil, client))
	require.False(t, c.Resumed())

	l := listen(t, pskConfig(0x00a8), cfg)
	sessions := dtlstest.ServeEcho[*dtlsserver.Conn](t, l)
	resumed := visit(t, sessions, dtlstest.Dial(t, l.Addr(), nil, client))
	assert.True(t, resumed.Resumed())

	dtlstest.Dial(t, old.Addr(), nil, dtlstest.PSKConfig("key", suite))
	var moving *dtlsserver.Conn
	dtlstest.Eventually(t, func() bool {
		for c := range old.Sessions() {
			moving = c
		}
		return moving != nil
	}, "it is established")
	state, err := moving.Detach()
	require.NoError(t, err)
	moved, err := l.Attach(state)
	require.NoError(t, err)
	state, err = moved.Detach()
	require.NoError(t, err)
	_, err = old.Attach(state)
	assert.NoError(t, err, "and back")

	other := listen(t, pskConfig(0xc0a8), cfg)
	for c := range old.Sessions() {
		state, err := c.Detach()
		require.NoError(t, err)
		_, err = other.Attach(state)
		assert.ErrorIs(t, err, dtlsserver.ErrStatePolicy)
	}
}

// TestRefusalOfVerifyConnectionReachesClient as an alert.
func TestRefusalOfVerifyConnectionReachesClient(t *testing.T) {
	t.Parallel()
	config := pskConfig()
	config.VerifyConnection = func(s *dtls.State) error {
		assert.Equal(t, dtlstest.Identity, string(s.IdentityHint))
		return errors.New("refused")
	}
	l := listen(t, config, dtlsserver.Config{})
	_, err := dtlstest.TryDial(l.Addr(), nil, dtlstest.PSKConfig("key"))
	assert.ErrorContains(t, err, "alert")
	dtlstest.Eventually(t, func() bool { return l.Stats().Failed == 1 }, "the handshake has failed")
}

// TestVersions: a client that offers DTLS 1.3 too is served DTLS 1.2. One that offers nothing else
// is refused, as soon as it repeats its ClientHello.
func TestVersions(t *testing.T) {
	t.Parallel()
	l := listen(t, pskConfig(), dtlsserver.Config{})
	sessions := dtlstest.ServeEcho[*dtlsserver.Conn](t, l)
	conn, err := dialV4(t, l)
	require.NoError(t, err)
	dtlstest.Echo(t, conn, "x")
	state, ok := conn.ConnectionState()
	require.True(t, ok)
	assert.Equal(t, protocol.Version1_2, state.NegotiatedVersion())
	dtlstest.Receive(t, sessions)

	started := l.Stats().Started
	_, err = dialV4(t, l, dtls.WithMinVersion(protocol.Version1_3), dtls.WithFlightInterval(600*time.Millisecond))
	assert.ErrorContains(t, err, "ProtocolVersion")
	assert.Equal(t, started, l.Stats().Started)
	assert.Positive(t, l.Stats().UnsupportedVersion)
	assert.Equal(t, "unsupported_version", l.Refusals()[0].Word)
}

// TestConnectionStateIsPionsOwn compares it with what pion's client says of the session.
func TestConnectionStateIsPionsOwn(t *testing.T) {
	t.Parallel()
	l := listen(t, pskConfig(), cfgOf(t))
	sessions := dtlstest.ServeEcho[*dtlsserver.Conn](t, l)
	client, err := dialV4(t, l)
	require.NoError(t, err)
	dtlstest.Echo(t, client, "x")
	theirs, ok := client.ConnectionState()
	require.True(t, ok)
	ours := ConnectionState(dtlstest.Receive(t, sessions))
	assert.Equal(t, theirs.CipherSuiteID, ours.CipherSuiteID)
	assert.Len(t, ours.SessionID, 32)
	assert.Equal(t, dtlstest.Identity, string(ours.IdentityHint))
	assert.Equal(t, dtls.RoleServer, ours.Role())
	want, err := theirs.ExportKeyingMaterial("EXPORTER-test", nil, 32)
	require.NoError(t, err)
	got, err := ours.ExportKeyingMaterial("EXPORTER-test", nil, 32)
	require.NoError(t, err)
	assert.Equal(t, want, got)
}

// dialV4 connects pion v4's client.
func dialV4(t *testing.T, l *dtlsserver.Listener, options ...dtls.ClientOption) (*dtls.Conn, error) {
	t.Helper()
	socket := dtlstest.NewTransport(dtlstest.Stranger(t, l.Addr()))
	options = append([]dtls.ClientOption{dtls.WithFlightInterval(dtlstest.FlightInterval)}, options...)
	options = append(options, dtls.WithPSK(func() ([]dtls.PSK, error) {
		return []dtls.PSK{{Identity: []byte(dtlstest.Identity), Key: []byte("key")}}, nil
	}, nil))
	suites := []ciphersuite.ID{ciphersuite.TLS_PSK_WITH_AES_128_GCM_SHA256, ciphersuite.TLS_AES_128_GCM_SHA256}
	conn, err := dtls.Client(socket, l.Addr(), append(options, dtls.WithCipherSuites(suites...))...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), dtlstest.Patience)
	defer cancel()
	return conn, conn.HandshakeContext(ctx)
}

// TestConnectionIDs of both sides, of one, and of none.
func TestConnectionIDs(t *testing.T) {
	t.Parallel()
	for name, options := range map[string][]dtls.ClientOption{
		"both":           {dtls.WithConnectionID(func() []byte { return []byte("client") }, dtls.CIDPathMigrationReject)},
		"the client's":   {dtls.WithConnectionID(func() []byte { return nil }, dtls.CIDPathMigrationReject)},
		"with RFC 9853":  {dtls.WithConnectionID(func() []byte { return []byte("client") }, dtls.CIDPathMigrationRRC)},
		"not negotiated": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := listen(t, pskConfig(), dtlsserver.Config{ServerID: []byte("one")})
			sessions := dtlstest.ServeEcho[*dtlsserver.Conn](t, l)
			client, err := dialV4(t, l, options...)
			require.NoError(t, err)
			dtlstest.Echo(t, client, "x")
			var state handshake.State
			dtlstest.Receive(t, sessions).Export(&state)
			assert.Equal(t, options != nil, len(state.Secrets.ConnectionID) > 0)
		})
	}
}

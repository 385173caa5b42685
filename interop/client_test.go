// SPDX-License-Identifier: MIT

package interop

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
	v2 "github.com/pion/dtls/v2"
	v3 "github.com/pion/dtls/v3"
	"github.com/stretchr/testify/require"
)

// newTransport opens a client's socket. All of pion's clients can use it: v2 wants a
// net.Conn, v3 and v4 want a net.PacketConn. Nil stands for a free port.
func newTransport(t *testing.T, server net.Addr, from *net.UDPAddr) *dtlstest.Transport {
	t.Helper()
	socket, err := dtlstest.DialUDP(from, server.(*net.UDPAddr))
	require.NoError(t, err)
	t.Cleanup(func() { _ = socket.Close() })
	return dtlstest.NewTransport(socket)
}

// credentials are what a client has to show, and what it knows of the server.
type credentials struct {
	identity string           // of the PSK
	psk      []byte           // nil: certificates are used
	cert     *tls.Certificate // the client's own, or nil
	roots    *x509.CertPool   // those of the certificate of dtlstest.ServerName
	suites   []uint16         // nil: the client's own choice
}

// exporter is the connection state of each version of pion.
type exporter interface {
	ExportKeyingMaterial(label string, context []byte, length int) ([]byte, error)
}

// dialer makes the handshake of one of pion's clients. suite is 0 if the client does not
// know it.
type dialer func(ctx context.Context, transport *dtlstest.Transport, c credentials) (conn net.Conn, state exporter, suite uint16, err error)

func dialV3(ctx context.Context, transport *dtlstest.Transport, c credentials) (net.Conn, exporter, uint16, error) {
	return dialV3With(ctx, transport, c)
}

func dialV3With(ctx context.Context, transport *dtlstest.Transport, c credentials, options ...v3.ClientOption) (net.Conn, exporter, uint16, error) {
	options = append(options, v3.WithFlightInterval(dtlstest.FlightInterval))
	if c.psk != nil {
		options = append(options, v3.WithPSKIdentityHint([]byte(c.identity)),
			v3.WithPSK(func([]byte) ([]byte, error) { return c.psk, nil }))
	} else {
		options = append(options, v3.WithRootCAs(c.roots), v3.WithServerName(dtlstest.ServerName))
	}
	if c.cert != nil {
		options = append(options, v3.WithCertificates(*c.cert))
	}
	if c.suites != nil {
		var suites []v3.CipherSuiteID
		for _, id := range c.suites {
			suites = append(suites, v3.CipherSuiteID(id))
		}
		options = append(options, v3.WithCipherSuites(suites...))
	}
	conn, err := v3.ClientWithOptions(transport, transport.RemoteAddr(), options...)
	if err != nil {
		return nil, nil, 0, err
	}
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, nil, 0, errors.Join(err, conn.Close())
	}
	state, ok := conn.ConnectionState()
	if !ok {
		return nil, nil, 0, errors.Join(errors.New("no connection state"), conn.Close())
	}
	return conn, &state, uint16(state.CipherSuiteID), nil
}

func dialV2(ctx context.Context, transport *dtlstest.Transport, c credentials) (net.Conn, exporter, uint16, error) {
	return dialV2With(ctx, transport, c, nil)
}

func dialV2With(ctx context.Context, transport *dtlstest.Transport, c credentials, store v2.SessionStore) (net.Conn, exporter, uint16, error) {
	config := &v2.Config{FlightInterval: dtlstest.FlightInterval, SessionStore: store}
	if c.psk != nil {
		config.PSKIdentityHint = []byte(c.identity)
		config.PSK = func([]byte) ([]byte, error) { return c.psk, nil }
	} else {
		config.RootCAs, config.ServerName = c.roots, dtlstest.ServerName
	}
	if c.cert != nil {
		config.Certificates = []tls.Certificate{*c.cert}
	}
	for _, id := range c.suites {
		config.CipherSuites = append(config.CipherSuites, v2.CipherSuiteID(id))
	}
	conn, err := v2.ClientWithContext(ctx, transport, config)
	if err != nil {
		return nil, nil, 0, err
	}
	state := conn.ConnectionState()
	return conn, &state, 0, nil
}

// clients are those of all versions of pion.
var clients = []struct {
	name string
	dial dialer
}{{"pion v3", dialV3}, {"pion v2", dialV2}, {"pion v4", dialV4}}

// client is an established client.
type client struct {
	net.Conn
	transport *dtlstest.Transport
	state     exporter
	suite     uint16
}

// newClient makes the handshake of a client, whose Reads and Writes end with the test's
// patience.
func newClient(t *testing.T, transport *dtlstest.Transport, c credentials, dial dialer) *client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), dtlstest.Patience)
	defer cancel()
	conn, state, suite, err := dial(ctx, transport, c)
	require.NoError(t, err)
	established := &client{conn, transport, state, suite}
	t.Cleanup(established.kill)
	require.NoError(t, conn.SetDeadline(time.Now().Add(dtlstest.Patience)))
	return established
}

// kill ends the client as a loss of power would: without close_notify.
func (c *client) kill() {
	c.transport.Kill()
	_ = c.Close()
}

func (c *client) addr() *net.UDPAddr { return c.transport.LocalAddr().(*net.UDPAddr) }

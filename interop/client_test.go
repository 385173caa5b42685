// SPDX-License-Identifier: MIT

package interop

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	v2 "github.com/pion/dtls/v2"
	v3 "github.com/pion/dtls/v3"
	"github.com/stretchr/testify/require"
)

// patience bounds what a test waits for; nothing waits for all of it but a failure.
const patience = 20 * time.Second

// flightInterval is after how long a lost flight is sent again, on both sides.
const flightInterval = 50 * time.Millisecond

// socket is a client's, with its server as its only peer. Both of pion's clients can
// have it: v2 wants a net.Conn, and v3 a net.PacketConn.
type socket struct {
	*net.UDPConn
	// drop, if not nil, sees each datagram, and says if it is lost.
	drop func(sent bool, datagram []byte) bool
	// alerted is closed when an alert was sent, or came.
	alerted   chan struct{}
	alertOnce sync.Once
}

func newSocket(t *testing.T, server net.Addr, from net.Addr) *socket {
	t.Helper()
	local, _ := from.(*net.UDPAddr)
	conn, err := net.DialUDP("udp", local, server.(*net.UDPAddr))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return &socket{UDPConn: conn, alerted: make(chan struct{})}
}

func (s *socket) Read(p []byte) (int, error) {
	for {
		n, err := s.UDPConn.Read(p)
		if n > 0 && p[0] == alert {
			s.alertOnce.Do(func() { close(s.alerted) })
		}
		if err != nil || s.drop == nil || !s.drop(false, p[:n]) {
			return n, err
		}
	}
}

func (s *socket) ReadFrom(p []byte) (int, net.Addr, error) {
	n, err := s.Read(p)
	return n, s.RemoteAddr(), err
}

func (s *socket) Write(p []byte) (int, error) {
	if p[0] == alert {
		defer s.alertOnce.Do(func() { close(s.alerted) })
	}
	if s.drop != nil && s.drop(true, p) {
		return len(p), nil
	}
	return s.UDPConn.Write(p)
}

func (s *socket) WriteTo(p []byte, _ net.Addr) (int, error) { return s.Write(p) }

// Close waits for close_notify to be sent: now and then pion v2 closes its transport
// before it writes it, and then does not. A client whose handshake failed may send none.
func (s *socket) Close() error {
	select {
	case <-s.alerted:
	case <-time.After(time.Second):
	}
	return s.UDPConn.Close()
}

// credentials are what a client has to show, and what it knows of the server.
type credentials struct {
	identity string // of the PSK; without one certificates are used
	psk      []byte
	cert     *tls.Certificate // the client's own, or nil
	roots    *x509.CertPool   // the server's certificate is of "localhost"
	suites   []uint16         // nil: the client's own choice
}

// exporter is either pion's connection state.
type exporter interface {
	ExportKeyingMaterial(label string, context []byte, length int) ([]byte, error)
}

// dialer makes the handshake of one of pion's clients. suite is 0 if it does not say.
type dialer func(ctx context.Context, s *socket, c credentials) (conn net.Conn, state exporter, suite uint16, err error)

func dialV3(ctx context.Context, s *socket, c credentials) (net.Conn, exporter, uint16, error) {
	return dialV3With(ctx, s, c)
}

func dialV3With(ctx context.Context, s *socket, c credentials, options ...v3.ClientOption) (net.Conn, exporter, uint16, error) {
	options = append(options, v3.WithFlightInterval(flightInterval))
	if c.psk != nil {
		options = append(options, v3.WithPSKIdentityHint([]byte(c.identity)),
			v3.WithPSK(func([]byte) ([]byte, error) { return c.psk, nil }))
	} else {
		options = append(options, v3.WithRootCAs(c.roots), v3.WithServerName("localhost"))
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
	conn, err := v3.ClientWithOptions(s, s.RemoteAddr(), options...)
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

func dialV2(ctx context.Context, s *socket, c credentials) (net.Conn, exporter, uint16, error) {
	return dialV2With(ctx, s, c, nil)
}

func dialV2With(ctx context.Context, s *socket, c credentials, store v2.SessionStore) (net.Conn, exporter, uint16, error) {
	config := &v2.Config{FlightInterval: flightInterval, SessionStore: store}
	if c.psk != nil {
		config.PSKIdentityHint = []byte(c.identity)
		config.PSK = func([]byte) ([]byte, error) { return c.psk, nil }
	} else {
		config.RootCAs, config.ServerName = c.roots, "localhost"
	}
	if c.cert != nil {
		config.Certificates = []tls.Certificate{*c.cert}
	}
	for _, id := range c.suites {
		config.CipherSuites = append(config.CipherSuites, v2.CipherSuiteID(id))
	}
	conn, err := v2.ClientWithContext(ctx, s, config)
	if err != nil {
		return nil, nil, 0, err
	}
	state := conn.ConnectionState()
	return conn, &state, 0, nil
}

// clients are both.
var clients = []struct {
	name string
	dial dialer
}{{"pion v3", dialV3}, {"pion v2", dialV2}}

// client is an established one. Its Reads and Writes end by its deadline.
type client struct {
	net.Conn
	socket *socket
	state  exporter
	suite  uint16
}

func newClient(t *testing.T, s *socket, c credentials, dial dialer) *client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, state, suite, err := dial(ctx, s, c)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	return &client{conn, s, state, suite}
}

// kill ends the client as a loss of power would: without close_notify.
func (c *client) kill() {
	_ = c.socket.UDPConn.Close()
	_ = c.Close()
}

// echo sends a line and waits for it.
func (c *client) echo(t *testing.T, line string) {
	t.Helper()
	n, err := c.Write([]byte(line))
	require.NoError(t, err)
	require.Equal(t, len(line), n)
	c.expect(t, line)
}

func (c *client) expect(t *testing.T, line string) {
	t.Helper()
	buf := make([]byte, 8192)
	n, err := c.Read(buf)
	require.NoError(t, err)
	require.Equal(t, line, string(buf[:n]))
}

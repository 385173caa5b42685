// SPDX-License-Identifier: MIT

package interop

import (
	"context"
	"errors"
	"net"

	"github.com/go-dsm/dsm/internal/dtlstest"
	v4 "github.com/pion/dtls/v4"
	"github.com/pion/dtls/v4/pkg/crypto/ciphersuite"
)

// dialV4 makes the handshake of pion v4's client, which also offers DTLS 1.3.
func dialV4(ctx context.Context, transport *dtlstest.Transport, c credentials) (net.Conn, exporter, uint16, error) {
	return dialV4With(ctx, transport, c)
}

func dialV4With(ctx context.Context, transport *dtlstest.Transport, c credentials, options ...v4.ClientOption) (net.Conn, exporter, uint16, error) {
	options = append(options, v4.WithFlightInterval(dtlstest.FlightInterval))
	if c.psk != nil {
		options = append(options, v4.WithPSK(func() ([]v4.PSK, error) {
			return []v4.PSK{{Identity: []byte(c.identity), Key: c.psk}}, nil
		}, nil))
	} else {
		options = append(options, v4.WithRootCAs(c.roots), v4.WithServerName(dtlstest.ServerName))
	}
	if c.cert != nil {
		options = append(options, v4.WithCertificates(*c.cert))
	}
	if c.suites != nil {
		var suites []ciphersuite.ID
		for _, id := range c.suites {
			suites = append(suites, ciphersuite.ID(id))
		}
		options = append(options, v4.WithCipherSuites(suites...))
	}
	conn, err := v4.Client(transport, transport.RemoteAddr(), options...)
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

// SPDX-License-Identifier: MIT

package interop

import (
	"testing"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/pionv2"
	"github.com/go-dsm/dsm/pionv4"
	v2 "github.com/pion/dtls/v2"
	v4 "github.com/pion/dtls/v4"
	"github.com/pion/dtls/v4/pkg/crypto/ciphersuite"
)

// adapter opens listeners on one major version of pion.
type adapter struct {
	name string
	// listen opens a listener on a UDP address. config is in pion v2's terms, whichever
	// version the adapter is for.
	listen func(address string, config *v2.Config, cfg dtlsserver.Config) (*dtlsserver.Listener, error)
	// state returns the connection state of a session.
	state func(*dtlsserver.Conn) exporter
	// statelessCookie says that the listener answers each first ClientHello with a cookie of
	// its own, and keeps nothing until that is returned.
	statelessCookie bool
	// connectionIDs says that a client that offers a connection ID (RFC 9146) is given one.
	connectionIDs bool
	// renegotiationInfo says that each ServerHello has the extension of RFC 5746, also if
	// the client has not offered it.
	renegotiationInfo bool
	// recorded says that the recordings of internal/handshake are of its handshakes.
	recorded bool
}

var adapters = []adapter{
	{
		name: "pionv2",
		listen: func(address string, config *v2.Config, cfg dtlsserver.Config) (*dtlsserver.Listener, error) {
			return pionv2.Listen("udp", address, config, cfg)
		},
		state: func(c *dtlsserver.Conn) exporter {
			state := pionv2.ConnectionState(c)
			return &state
		},
		renegotiationInfo: true, recorded: true,
	},
	{
		name: "pionv4",
		listen: func(address string, config *v2.Config, cfg dtlsserver.Config) (*dtlsserver.Listener, error) {
			return pionv4.Listen("udp", address, configV4(config), cfg)
		},
		state: func(c *dtlsserver.Conn) exporter {
			state := pionv4.ConnectionState(c)
			return &state
		},
		statelessCookie: true, connectionIDs: true,
	},
}

// configV4 translates what the tests set. Pion v4 has no hint of a server's.
func configV4(config *v2.Config) pionv4.Config {
	c := pionv4.Config{
		Certificates: config.Certificates, PSK: config.PSK, ClientAuth: v4.ClientAuthType(config.ClientAuth), ClientCAs: config.ClientCAs,
		FlightInterval: config.FlightInterval, KeyLogWriter: config.KeyLogWriter,
	}
	for _, id := range config.CipherSuites {
		c.CipherSuites = append(c.CipherSuites, ciphersuite.ID(id))
	}
	return c
}

// withEachAdapter runs a test with each adapter, as a subtest.
func withEachAdapter(t *testing.T, test func(t *testing.T, on adapter)) {
	t.Helper()
	withAdapters(t, func(adapter) bool { return true }, test)
}

// withConnectionIDs is withEachAdapter for those that have connection IDs.
func withConnectionIDs(t *testing.T, test func(t *testing.T, on adapter)) {
	t.Helper()
	withAdapters(t, func(on adapter) bool { return on.connectionIDs }, test)
}

func withAdapters(t *testing.T, chosen func(adapter) bool, test func(t *testing.T, on adapter)) {
	t.Helper()
	t.Parallel()
	for _, on := range adapters {
		if !chosen(on) {
			continue
		}
		t.Run(on.name, func(t *testing.T) {
			t.Parallel()
			test(t, on)
		})
	}
}

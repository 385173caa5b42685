// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"net"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/pionv2"
	"github.com/pion/dtls/v2"
)

// This file is all that the tests know of an adapter: it is pion v2's. make test-v4 puts
// pionv4/testdata/dtlsserver/adapter_test.go in its place. Configurations are pion v2's in
// both, as the clients are.

// adapterName is the prefix of the adapter's errors.
const adapterName = "pionv2"

// statelessCookie reports whether the server keeps nothing of a client that has not returned
// its cookie. Otherwise each first ClientHello starts a handshake.
const statelessCookie = false

// cookieInResumption reports whether a client that names a session is asked for a cookie, too.
const cookieInResumption = false

// openListener opens a listener on an address.
func openListener(network, address string, config *dtls.Config, cfg dtlsserver.Config) (*dtlsserver.Listener, error) {
	return pionv2.Listen(network, address, config, cfg)
}

// openListenerOn opens a listener on sockets that exist already.
func openListenerOn(sockets []net.PacketConn, config *dtls.Config, cfg dtlsserver.Config) (*dtlsserver.Listener, error) {
	return pionv2.NewListener(sockets, config, cfg)
}

// sessionState is what the tests read of the adapter's view of a session.
type sessionState struct {
	IdentityHint, SessionID []byte
	PeerCertificates        [][]byte
	NegotiatedProtocol      string
	// export returns keying material (RFC 5705).
	export func(label string, context []byte, length int) ([]byte, error)
}

func connectionState(c *dtlsserver.Conn) sessionState {
	s := pionv2.ConnectionState(c)
	return sessionState{s.IdentityHint, s.SessionID, s.PeerCertificates, s.NegotiatedProtocol, s.ExportKeyingMaterial}
}

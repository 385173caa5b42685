// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"net"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/pionv4"
	"github.com/pion/dtls/v2"
	v4 "github.com/pion/dtls/v4"
	"github.com/pion/dtls/v4/pkg/crypto/ciphersuite"
)

// This file takes the place of dtlsserver/adapter_test.go: see pionv4/testdata/overlay.json.
// The tests then run against pion v4. Configurations stay pion v2's, as the clients do, and
// are translated here.

const adapterName = "pionv4"

const statelessCookie = true

const cookieInResumption = true

func openListener(network, address string, config *dtls.Config, cfg dtlsserver.Config) (*dtlsserver.Listener, error) {
	return pionv4.Listen(network, address, translate(config), cfg)
}

func openListenerOn(sockets []net.PacketConn, config *dtls.Config, cfg dtlsserver.Config) (*dtlsserver.Listener, error) {
	return pionv4.NewListener(sockets, translate(config), cfg)
}

// translate panics at what is set and not translated. What is only a client's is ignored.
func translate(config *dtls.Config) pionv4.Config {
	if config.CustomCipherSuites != nil || config.SignatureSchemes != nil || config.SRTPProtectionProfiles != nil ||
		config.SessionStore != nil || config.EllipticCurves != nil || config.GetCertificate != nil || config.InsecureSkipVerifyHello {
		panic("a field of a dtls.Config is not translated")
	}
	c := pionv4.Config{
		Certificates:           config.Certificates,
		ClientAuth:             v4.ClientAuthType(config.ClientAuth),
		ClientCAs:              config.ClientCAs,
		ExtendedMasterSecret:   v4.ExtendedMasterSecretType(config.ExtendedMasterSecret),
		FlightInterval:         config.FlightInterval,
		PSK:                    config.PSK,
		VerifyPeerCertificate:  config.VerifyPeerCertificate,
		SupportedProtocols:     config.SupportedProtocols,
		MTU:                    config.MTU,
		ReplayProtectionWindow: config.ReplayProtectionWindow,
		KeyLogWriter:           config.KeyLogWriter,
		LoggerFactory:          config.LoggerFactory,
		InsecureHashes:         config.InsecureHashes,
	}
	for _, id := range config.CipherSuites {
		c.CipherSuites = append(c.CipherSuites, ciphersuite.ID(id))
	}
	if verify := config.VerifyConnection; verify != nil {
		c.VerifyConnection = func(s *v4.State) error {
			return verify(&dtls.State{
				PeerCertificates: s.PeerCertificates, IdentityHint: s.IdentityHint, SessionID: s.SessionID, NegotiatedProtocol: s.NegotiatedProtocol,
			})
		}
	}
	return c
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
	s := pionv4.ConnectionState(c)
	return sessionState{s.IdentityHint, s.SessionID, s.PeerCertificates, s.NegotiatedProtocol, s.ExportKeyingMaterial}
}

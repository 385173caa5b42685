// SPDX-License-Identifier: MIT

package pionv4

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"

	"github.com/go-dsm/dsm/internal/handshake"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/resume"
	"github.com/pion/dtls/v4"
	"github.com/pion/dtls/v4/pkg/crypto/ciphersuite"
)

// handshaker makes handshakes by pion/dtls v4 with one Config. Nothing of it changes after
// newHandshaker.
type handshaker struct {
	config Config
	base   []dtls.ServerOption // of each handshake
	psk    bool                // there are pre-shared keys
	// resumption: sessions get an ID, so that they can be stored.
	resumption bool
	// verifyAddress: return-routability checks are negotiated (RFC 9853).
	verifyAddress   bool
	statelessCookie bool // found by probe
}

var _ handshake.Handshaker = (*handshaker)(nil)

// New is part of handshake.Handshaker.
func (m *handshaker) New(p handshake.Parameters) handshake.Handshake {
	gate := handshake.NewGate(p, handshake.Options{
		ReplayWindow: m.config.ReplayProtectionWindow, Interval: m.config.FlightInterval, MaxDatagram: receiveBuffer,
	})
	return &serverHandshake{Gate: gate, maker: m, cookie: p.Cookie, connectionID: p.ConnectionID}
}

// MaxDatagram is part of handshake.Handshaker.
func (m *handshaker) MaxDatagram() int { return m.config.MTU }

// StatelessCookie is part of handshake.Handshaker.
func (m *handshaker) StatelessCookie() bool { return m.statelessCookie }

// ConnectionIDs is part of handshake.Handshaker.
func (m *handshaker) ConnectionIDs() bool { return true }

// PolicyID is part of handshake.Handshaker.
func (m *handshaker) PolicyID() string { return m.policy().ID() }

func (m *handshaker) policy() handshake.Policy {
	c := &m.config
	p := handshake.Policy{
		ClientAuth: handshake.ClientAuth(c.ClientAuth), ClientCAs: c.ClientCAs, VerifyPeerCertificate: c.VerifyPeerCertificate,
		ExtendedMasterSecret: int(c.ExtendedMasterSecret), PSK: m.psk, Certificates: c.hasCertificates(),
	}
	for _, id := range c.CipherSuites {
		p.Suites = append(p.Suites, id.String())
	}
	return p
}

// CheckResumable is part of handshake.Handshaker.
func (m *handshaker) CheckResumable(s *resume.Session, hello record.ClientHello) error {
	if err := m.policy().Check(s); err != nil || m.config.VerifyConnection == nil {
		return err
	}
	// As in a full handshake ALPN has chosen nothing yet.
	state, err := newState(handshake.State{
		Secrets:  record.Config{Suite: record.SuiteID(s.Suite), MasterSecret: s.Secret, ClientRandom: hello.Random},
		Identity: handshake.IdentityOf(s, ""),
	})
	if err != nil {
		return err
	}
	if err := m.config.VerifyConnection(state); err != nil {
		return fmt.Errorf("VerifyConnection: %w", err)
	}
	return nil
}

// credentials returns the options for who may authenticate, in a full handshake.
func (m *handshaker) credentials(selectPSK dtls.PSKServerCallback) []dtls.ServerOption {
	c := &m.config
	o := []dtls.ServerOption{dtls.WithCipherSuites(c.suites(m.psk)...), dtls.WithClientAuth(c.ClientAuth)}
	if m.psk {
		o = append(o, dtls.WithPSK(nil, selectPSK))
	}
	if c.VerifyPeerCertificate != nil {
		o = append(o, dtls.WithVerifyPeerCertificate(c.VerifyPeerCertificate))
	}
	if c.VerifyConnection != nil {
		o = append(o, dtls.WithVerifyConnection(c.VerifyConnection))
	}
	if len(c.Certificates) > 0 {
		o = append(o, dtls.WithCertificates(c.Certificates...))
	}
	if c.GetCertificate != nil {
		o = append(o, dtls.WithGetCertificate(c.GetCertificate))
	}
	return o
}

// credentialsOf returns the options for the abbreviated handshake of a session. Who its client is
// was checked before: see CheckResumable. Pion would resume no session of a client with
// certificates.
func (m *handshaker) credentialsOf(s *resume.Session, selectPSK dtls.PSKServerCallback) []dtls.ServerOption {
	o := []dtls.ServerOption{dtls.WithCipherSuites(ciphersuite.ID(s.Suite)), dtls.WithClientAuth(dtls.NoClientCert)}
	if record.SuiteID(s.Suite).PSK() {
		return append(o, dtls.WithPSK(nil, selectPSK))
	}
	return append(o, dtls.WithGetCertificate(noCertificate))
}

// noCertificate returns the server's certificate for an abbreviated handshake, in which the
// server sends none. Pion chooses one all the same, and takes a certificate without a key with
// each cipher suite. Those of the configuration can have another kind of key by now.
func noCertificate(*dtls.ClientHelloInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil }

// probe begins a handshake without a client. It returns pion's error if pion rejects the
// configuration, and notes whether pion takes a cookie that the server has drawn.
func (m *handshaker) probe() error {
	conn, err := dtls.DetachedServer(anyAddr, append(m.base, m.credentials(noPSK)...)...)
	if err != nil {
		return fmt.Errorf("pionv4: %w", err)
	}
	if err := conn.Start(context.Background()); err != nil {
		return fmt.Errorf("pionv4: %w", err)
	}
	m.statelessCookie = cookieOf(conn) != nil
	_ = conn.Close()
	return nil
}

// anyAddr is the address that pion gets as the client's. A DetachedConn sends nothing by itself.
var anyAddr net.Addr = &net.UDPAddr{}

func noPSK([][]byte) (*dtls.PSK, error) { return nil, nil }

// SPDX-License-Identifier: MIT

package pionv2

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/go-dsm/dsm/internal/handshake"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/resume"
	"github.com/pion/dtls/v2"
)

// handshaker makes handshakes by pion/dtls v2 with one dtls.Config.
type handshaker struct {
	config dtls.Config // its PSK says only that there are pre-shared keys: see movePSK
	// resumption: sessions get an ID, so that they can be stored.
	resumption bool
}

var _ handshake.Handshaker = (*handshaker)(nil)

// New is part of handshake.Handshaker.
func (m *handshaker) New(p handshake.Parameters) handshake.Handshake {
	return newServerHandshake(&m.config, m.resumption, p)
}

// MaxDatagram is part of handshake.Handshaker.
func (m *handshaker) MaxDatagram() int { return m.config.MTU }

// PolicyID is part of handshake.Handshaker. Whom VerifyConnection and the PSK callback
// admit has no name. They are asked again instead.
func (m *handshaker) PolicyID() string {
	c := &m.config
	return fmt.Sprintf("client auth %d, suites %v, extended master secret %d, PSK %t, certificates %t",
		c.ClientAuth, c.CipherSuites, c.ExtendedMasterSecret, c.PSK != nil, hasCertificates(c))
}

// hasCertificates reports whether pion does handshakes with certificates.
func hasCertificates(config *dtls.Config) bool {
	return config.PSK == nil || len(config.Certificates) > 0 || config.GetCertificate != nil
}

// CheckResumable is part of handshake.Handshaker.
func (m *handshaker) CheckResumable(s *resume.Session, hello record.ClientHello) error {
	config, suite := &m.config, record.SuiteID(s.Suite)
	switch {
	case !suite.Supported() || suite.PSK() && config.PSK == nil || !suite.PSK() && !hasCertificates(config):
		return errors.New("its cipher suite is not supported here")
	case len(s.Certificates) == 0 && (config.ClientAuth == dtls.RequireAnyClientCert || config.ClientAuth == dtls.RequireAndVerifyClientCert):
		return errors.New("its client has shown no certificate")
	}
	if len(s.Certificates) > 0 {
		if err := m.verifyCertificates(s); err != nil {
			return err
		}
	}
	if config.VerifyConnection != nil {
		// As in a full handshake the epoch is still 0, so there is no keying material,
		// and ALPN has chosen nothing.
		state, err := newState(handshake.State{
			Secrets:  record.Config{Suite: suite, MasterSecret: s.Secret, ClientRandom: hello.Random},
			Identity: identityOf(s, ""),
		})
		if err != nil {
			return err
		}
		if err := config.VerifyConnection(state); err != nil {
			return fmt.Errorf("VerifyConnection: %w", err)
		}
	}
	return nil
}

// verifyCertificates verifies the client's certificates as a full handshake would: they
// may have expired since, or their authority may no longer be trusted.
func (m *handshaker) verifyCertificates(s *resume.Session) error {
	now := time.Now()
	chain := make([]*x509.Certificate, len(s.Certificates))
	for i, der := range s.Certificates {
		var err error
		if chain[i], err = x509.ParseCertificate(der); err != nil {
			return fmt.Errorf("the client's certificate: %w", err)
		}
		if now.After(chain[i].NotAfter) {
			return errors.New("the client's certificate has expired")
		}
	}
	var verified [][]*x509.Certificate
	if m.config.ClientAuth >= dtls.VerifyClientCertIfGiven {
		intermediates := x509.NewCertPool()
		for _, c := range chain[1:] {
			intermediates.AddCert(c)
		}
		var err error
		if verified, err = chain[0].Verify(x509.VerifyOptions{
			Roots: m.config.ClientCAs, Intermediates: intermediates, CurrentTime: now,
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}); err != nil {
			return fmt.Errorf("the client's certificate: %w", err)
		}
		s.Verified = now
	}
	if m.config.VerifyPeerCertificate != nil {
		if err := m.config.VerifyPeerCertificate(s.Certificates, verified); err != nil {
			return fmt.Errorf("VerifyPeerCertificate: %w", err)
		}
	}
	return nil
}

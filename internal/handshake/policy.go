// SPDX-License-Identifier: MIT

package handshake

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/resume"
)

// ClientAuth is what is asked of a client's certificates. The values are those of
// dtls.ClientAuthType in each major version of pion.
type ClientAuth int

// What is asked of a client's certificates.
const (
	NoClientCert ClientAuth = iota
	RequestClientCert
	RequireAnyClientCert
	VerifyClientCertIfGiven
	RequireAndVerifyClientCert
)

// Policy is what of an adapter's configuration decides whom a listener admits, and how it
// protects records.
type Policy struct {
	ClientAuth            ClientAuth
	ClientCAs             *x509.CertPool
	VerifyPeerCertificate func(certificates [][]byte, verified [][]*x509.Certificate) error // may be nil
	Suites                []string                                                          // names of cipher suites; nil: pion's default
	ExtendedMasterSecret  int
	PSK, Certificates     bool // what clients, and the server, can authenticate with
}

// ID names the policy, in the same way for each adapter: a session can move from one to another.
// Whom VerifyConnection and the PSK callback admit has no name. They are asked again instead.
func (p Policy) ID() string {
	return fmt.Sprintf("client auth %d, suites %v, extended master secret %d, PSK %t, certificates %t",
		p.ClientAuth, p.Suites, p.ExtendedMasterSecret, p.PSK, p.Certificates)
}

// Check returns what the policy has against resuming a session, or nil. It sets s.Verified if it
// has verified the client's certificates.
func (p Policy) Check(s *resume.Session) error {
	suite := record.SuiteID(s.Suite)
	switch {
	case !suite.Supported() || suite.PSK() && !p.PSK || !suite.PSK() && !p.Certificates:
		return errors.New("its cipher suite is not supported here")
	case len(s.Certificates) == 0 && (p.ClientAuth == RequireAnyClientCert || p.ClientAuth == RequireAndVerifyClientCert):
		return errors.New("its client has shown no certificate")
	case len(s.Certificates) > 0:
		return p.verifyCertificates(s)
	}
	return nil
}

// verifyCertificates verifies the client's certificates as a full handshake would: they
// may have expired since, or their authority may no longer be trusted.
func (p Policy) verifyCertificates(s *resume.Session) error {
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
	if p.ClientAuth >= VerifyClientCertIfGiven {
		intermediates := x509.NewCertPool()
		for _, c := range chain[1:] {
			intermediates.AddCert(c)
		}
		var err error
		if verified, err = chain[0].Verify(x509.VerifyOptions{
			Roots: p.ClientCAs, Intermediates: intermediates, CurrentTime: now,
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}); err != nil {
			return fmt.Errorf("the client's certificate: %w", err)
		}
		s.Verified = now
	}
	if p.VerifyPeerCertificate != nil {
		if err := p.VerifyPeerCertificate(s.Certificates, verified); err != nil {
			return fmt.Errorf("VerifyPeerCertificate: %w", err)
		}
	}
	return nil
}

// IdentityOf returns the identity of a session that is resumed. What ALPN chooses is
// chosen anew (RFC 7301 section 3.1).
func IdentityOf(s *resume.Session, protocol string) Identity {
	return Identity{PSKIdentity: s.PSKIdentity, Certificates: s.Certificates, Verified: s.Verified, Protocol: protocol}
}

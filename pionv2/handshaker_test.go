// SPDX-License-Identifier: MIT

package pionv2

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/resume"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// certificateSuite is a cipher suite for certificates.
const certificateSuite = dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256

// sessionOf returns a session whose client has shown certificates.
func sessionOf(suite dtls.CipherSuiteID, certificates ...[]byte) *resume.Session {
	return &resume.Session{Secret: make([]byte, 48), Suite: uint16(suite), Certificates: certificates}
}

// A client that must show a certificate does not resume a session without one. The
// certificates of a session must be as good as in a full handshake.
func TestCheckResumableVerifiesCertificates(t *testing.T) {
	t.Parallel()
	cert := dtlstest.SelfSigned(t, dtlstest.ECDSA)
	chain := cert.Certificate.Certificate
	check := func(s *resume.Session, change func(c *dtls.Config)) error {
		m := &handshaker{config: dtls.Config{
			Certificates: []tls.Certificate{cert.Certificate}, ClientAuth: dtls.RequireAndVerifyClientCert, ClientCAs: cert.Pool,
		}}
		if change != nil {
			change(&m.config)
		}
		return m.CheckResumable(s, record.ClientHello{})
	}
	for _, auth := range []dtls.ClientAuthType{dtls.RequireAnyClientCert, dtls.RequireAndVerifyClientCert, dtls.VerifyClientCertIfGiven} {
		set := func(c *dtls.Config) { c.ClientAuth = auth }
		s := sessionOf(certificateSuite, chain...)
		assert.NoError(t, check(s, set))
		assert.Equal(t, auth >= dtls.VerifyClientCertIfGiven, !s.Verified.IsZero())
		if err := check(sessionOf(certificateSuite), set); auth == dtls.VerifyClientCertIfGiven {
			assert.NoError(t, err, "it may have no certificate")
		} else {
			assert.ErrorContains(t, err, "no certificate")
		}
		assert.Error(t, check(sessionOf(certificateSuite, []byte{1, 2, 3}), set))
	}

	assert.ErrorContains(t, check(sessionOf(certificateSuite, chain...), func(c *dtls.Config) {
		c.ClientCAs = x509.NewCertPool() // its authority is no longer trusted
	}), "certificate")
	assert.ErrorContains(t, check(sessionOf(certificateSuite, chain...), func(c *dtls.Config) {
		c.VerifyPeerCertificate = func(raw [][]byte, verified [][]*x509.Certificate) error {
			assert.Equal(t, chain, raw)
			assert.Equal(t, [][]*x509.Certificate{{cert.Leaf}}, verified)
			return errors.New("revoked")
		}
	}), "revoked")

	// A chain is verified through its intermediates.
	issued := dtlstest.NewCA(t, dtlstest.ECDSA).NewIntermediate(t).Issue(t, dtlstest.ECDSA)
	trust := func(c *dtls.Config) { c.ClientCAs = issued.Pool }
	assert.NoError(t, check(sessionOf(certificateSuite, issued.Certificate.Certificate...), trust))
	assert.Error(t, check(sessionOf(certificateSuite, issued.Certificate.Certificate[:1]...), trust))
}

func TestCheckResumableNoticesExpiry(t *testing.T) {
	t.Parallel()
	for _, auth := range []dtls.ClientAuthType{dtls.RequireAnyClientCert, dtls.RequireAndVerifyClientCert} {
		synctest.Test(t, func(t *testing.T) {
			cert := dtlstest.SelfSigned(t, dtlstest.ECDSA)
			m := &handshaker{config: dtls.Config{
				Certificates: []tls.Certificate{cert.Certificate}, ClientAuth: auth, ClientCAs: cert.Pool,
			}}
			s := sessionOf(certificateSuite, cert.Certificate.Certificate...)
			time.Sleep(time.Until(cert.Leaf.NotAfter))
			assert.NoError(t, m.CheckResumable(s, record.ClientHello{}))
			time.Sleep(time.Second)
			assert.ErrorContains(t, m.CheckResumable(s, record.ClientHello{}), "expired")
		})
	}
}

func TestCheckResumableWantsSupportedSuite(t *testing.T) {
	t.Parallel()
	cert := dtlstest.SelfSigned(t, dtlstest.ECDSA)
	keys := dtlstest.PSKConfig("key")
	certificates := &dtls.Config{Certificates: []tls.Certificate{cert.Certificate}}
	both := dtlstest.PSKConfig("key")
	both.GetCertificate = func(*dtls.ClientHelloInfo) (*tls.Certificate, error) { return &cert.Certificate, nil }
	const pskSuite, tls13Suite = dtls.TLS_PSK_WITH_AES_128_GCM_SHA256, 0x1301
	for _, test := range []struct {
		name   string
		config *dtls.Config
		suite  dtls.CipherSuiteID
		ok     bool
	}{
		{"a key's, with keys", keys, pskSuite, true},
		{"a certificate's, with keys", keys, certificateSuite, false},
		{"a key's, with certificates", certificates, pskSuite, false},
		{"a certificate's, with certificates", certificates, certificateSuite, true},
		{"a key's, with both", both, pskSuite, true},
		{"a certificate's, with both", both, certificateSuite, true},
		// Such as from a backend that does not seal what it keeps.
		{"TLS 1.3's", both, tls13Suite, false},
	} {
		err := (&handshaker{config: *test.config}).CheckResumable(sessionOf(test.suite), record.ClientHello{})
		if test.ok {
			assert.NoError(t, err, test.name)
		} else {
			assert.ErrorContains(t, err, "not supported here", test.name)
		}
	}
}

// VerifyConnection is asked with what it is asked with in a full handshake.
func TestCheckResumableAsksVerifyConnection(t *testing.T) {
	t.Parallel()
	config := dtlstest.PSKConfig("key")
	refuse := errors.New("refused")
	var asked *dtls.State
	config.VerifyConnection = func(state *dtls.State) error { asked = state; return refuse }
	s := sessionOf(dtls.TLS_PSK_WITH_AES_128_GCM_SHA256)
	s.PSKIdentity = []byte(dtlstest.Identity)
	assert.ErrorIs(t, (&handshaker{config: *config}).CheckResumable(s, record.ClientHello{}), refuse)
	require.NotNil(t, asked)
	assert.Equal(t, dtlstest.Identity, string(asked.IdentityHint))
	assert.Empty(t, asked.NegotiatedProtocol)
	_, err := asked.ExportKeyingMaterial("EXPORTER-test", nil, 32)
	assert.Error(t, err, "as during a handshake")
}

// What decides whom a listener admits, and how it protects records, is in its policy.
func TestPolicyID(t *testing.T) {
	t.Parallel()
	seen := map[string]int{}
	for n, change := range []func(c *dtls.Config){
		func(*dtls.Config) {},
		func(c *dtls.Config) { c.ClientAuth = dtls.RequestClientCert },
		func(c *dtls.Config) { c.ClientAuth = dtls.RequireAnyClientCert },
		func(c *dtls.Config) { c.ClientAuth = dtls.VerifyClientCertIfGiven },
		func(c *dtls.Config) { c.ClientAuth = dtls.RequireAndVerifyClientCert },
		func(c *dtls.Config) { c.CipherSuites = append(c.CipherSuites, certificateSuite) },
		func(c *dtls.Config) { c.ExtendedMasterSecret = dtls.RequireExtendedMasterSecret },
		func(c *dtls.Config) { c.Certificates = make([]tls.Certificate, 1) },
		func(c *dtls.Config) { c.Certificates, c.PSK = make([]tls.Certificate, 1), nil },
	} {
		config := dtlstest.PSKConfig("key")
		change(config)
		id := (&handshaker{config: *config}).PolicyID()
		assert.NotContains(t, seen, id, "%d and %d", n, seen[id])
		seen[id] = n
	}
	config := dtlstest.PSKConfig("another key")
	config.MTU = 1000
	assert.Contains(t, seen, (&handshaker{config: *config}).PolicyID(), "a key is not the policy's")
}

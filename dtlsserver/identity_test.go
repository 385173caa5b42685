// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"bytes"
	"crypto/tls"
	"testing"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What a caller does with an Identity changes neither the session's nor what is stored of
// it.
func TestIdentityIsCopy(t *testing.T) {
	t.Parallel()
	withResumption(t, func(t *testing.T, r *resumption) {
		cert := dtlstest.SelfSigned(t, dtlstest.ECDSA)
		der := bytes.Clone(cert.Leaf.Raw)
		r.server = &dtls.Config{Certificates: []tls.Certificate{cert.Certificate}, ClientAuth: dtls.RequireAnyClientCert}
		r.client = &dtls.Config{Certificates: []tls.Certificate{cert.Certificate}, InsecureSkipVerify: true, SessionStore: r.kept}
		l, sessions, s := r.begin(t)
		s.Identity().Certificates[0][0] ^= 1
		require.NoError(t, s.SetSessionData([]byte("x")))
		assert.Equal(t, [][]byte{der}, s.Identity().Certificates)
		resumed := r.visit(t, l, sessions)
		assert.True(t, resumed.Resumed())
		assert.Equal(t, [][]byte{der}, resumed.Identity().Certificates)
	})
	withResumption(t, func(t *testing.T, r *resumption) {
		l, sessions, s := r.begin(t)
		s.Identity().PSKIdentity[0] ^= 1
		require.NoError(t, s.SetSessionData([]byte("x")))
		assert.Equal(t, dtlstest.Identity, string(s.Identity().PSKIdentity))
		assert.Equal(t, dtlstest.Identity, string(r.visit(t, l, sessions).Identity().PSKIdentity))
	})
}

// TestCertificatesAreKeptOnce: the session's identity and what is stored of the session
// share them, after a full handshake and after one that resumes the session.
func TestCertificatesAreKeptOnce(t *testing.T) {
	t.Parallel()
	withResumption(t, func(t *testing.T, r *resumption) {
		cert := dtlstest.SelfSigned(t, dtlstest.ECDSA)
		r.server = &dtls.Config{Certificates: []tls.Certificate{cert.Certificate}, ClientAuth: dtls.RequireAnyClientCert}
		r.client = &dtls.Config{Certificates: []tls.Certificate{cert.Certificate}, InsecureSkipVerify: true, SessionStore: r.kept}
		l, sessions, s := r.begin(t)
		check := func(s *dtlsserver.Conn) {
			t.Helper()
			identity, stored := s.KeptCertificates()
			require.Equal(t, [][]byte{cert.Leaf.Raw}, identity)
			require.Len(t, stored, 1)
			assert.Same(t, &identity[0][0], &stored[0][0])
			assert.NotSame(t, &identity[0][0], &s.Identity().Certificates[0][0], "a caller gets a copy")
		}
		check(s)
		require.NoError(t, s.SetSessionData([]byte("x")))
		check(s)
		resumed := r.visit(t, l, sessions)
		require.True(t, resumed.Resumed())
		check(resumed)
	})
}

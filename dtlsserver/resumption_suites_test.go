// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"crypto/tls"
	"testing"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/handshake"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
)

// A session is resumed with its own suite (RFC 5246 section 7.4.1.2), whichever the client
// and the server prefer by now.
func TestResumptionKeepsSuite(t *testing.T) {
	t.Parallel()
	withResumption(t, func(t *testing.T, r *resumption) {
		r.server.CipherSuites = []dtls.CipherSuiteID{dtls.TLS_PSK_WITH_AES_128_CCM, dtls.TLS_PSK_WITH_AES_128_GCM_SHA256}
		r.client.CipherSuites = r.server.CipherSuites[1:]
		l, sessions, _ := r.begin(t)
		r.client.CipherSuites = r.server.CipherSuites
		s := r.visit(t, l, sessions)
		assert.True(t, s.Resumed())
		var state handshake.State
		s.Export(&state)
		assert.EqualValues(t, dtls.TLS_PSK_WITH_AES_128_GCM_SHA256, state.Secrets.Suite)
	})
}

// A listener with keys and certificates resumes the sessions of both. One with keys alone
// does not resume those of clients without a key.
func TestResumptionWithKeysAndCertificates(t *testing.T) {
	t.Parallel()
	suites := []dtls.CipherSuiteID{dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, dtls.TLS_PSK_WITH_AES_128_GCM_SHA256}
	for _, with := range []string{"key", "certificate"} {
		t.Run(with, func(t *testing.T) {
			t.Parallel()
			withResumption(t, func(t *testing.T, r *resumption) {
				r.server = dtlstest.PSKConfig("key", suites...)
				r.server.Certificates = []tls.Certificate{dtlstest.SelfSigned(t, dtlstest.ECDSA).Certificate}
				if with == "certificate" {
					r.client = dtlstest.WithTimeout(&dtls.Config{InsecureSkipVerify: true, SessionStore: r.kept}, dtlstest.Patience)
				}
				l, sessions, _ := r.begin(t)
				assert.True(t, r.visit(t, l, sessions).Resumed())
				if with == "certificate" {
					r.server = dtlstest.PSKConfig("key", suites...)
					keysOnly, _ := r.listen(t)
					_, err := r.tryDial(keysOnly, nil)
					assert.Error(t, err)
					assert.EqualValues(t, 1, keysOnly.Stats().NotResumed)
					assert.Zero(t, keysOnly.Stats().Completed)
				}
			})
		})
	}
}

// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// large returns a client's certificate that is some bytes longer than others.
func large(t *testing.T, size int) *dtlstest.Certificate {
	t.Helper()
	return dtlstest.SelfSigned(t, dtlstest.ECDSA, func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, Value: make([]byte, size)}}
	})
}

// chainOf returns a certificate with a chain of n, which nobody verifies: the same one
// again and again.
func chainOf(c *dtlstest.Certificate, n int) *dtlstest.Certificate {
	chain := *c
	chain.Certificate.Certificate = nil
	for range n {
		chain.Certificate.Certificate = append(chain.Certificate.Certificate, c.Leaf.Raw)
	}
	return &chain
}

// certificateHandshake has a client of a listener that requires a certificate send its
// messages in fragments of at most size bytes, and reports whether it gets in.
func certificateHandshake(t *testing.T, v *victim, size int) bool {
	t.Helper()
	c := v.helloed(t)
	messages, err := c.KeyMessages()
	require.NoError(t, err)
	for _, m := range messages {
		for _, r := range c.Handshakes(dtlstest.Fragments(m, size)...) {
			c.Send(r)
		}
	}
	c.Send(finished(c)...)
	return c.Await(10*roundTrip, func() bool { return c.Server.Finished })
}

// TestLongCertificateMessageGetsIn: an honest client's certificates are several kB, in one
// record or in fragments. Pion v2 reads 8192 bytes at a time.
func TestLongCertificateMessageGetsIn(t *testing.T) {
	t.Parallel()
	server := dtlstest.SelfSigned(t, dtlstest.ECDSA)
	for name, certificate := range map[string]*dtlstest.Certificate{
		"one":   large(t, 9<<10),
		"seven": chainOf(large(t, 1200), 7),
		"ten":   chainOf(large(t, 1200), 10),
	} {
		for kind, size := range map[string]int{"in one record": 1 << 14, "in fragments": 1000} {
			t.Run(name+" "+kind, func(t *testing.T) {
				t.Parallel()
				attack(t, withCertificates(server, dtls.RequireAnyClientCert), dtlsserver.Config{}, func(t *testing.T, v *victim) {
					v.certificate = certificate
					require.True(t, certificateHandshake(t, v, size))
					assert.Equal(t, certificate.Certificate.Certificate, (<-v.sessions).Identity().Certificates)
					v.certificate = server
				})
			})
		}
	}
}

// TestTooManyCertificatesMakeNoSession: what a listener keeps of a client, and verifies, is
// bounded, in number and in bytes.
func TestTooManyCertificatesMakeNoSession(t *testing.T) {
	t.Parallel()
	server := dtlstest.SelfSigned(t, dtlstest.ECDSA)
	for name, certificate := range map[string]*dtlstest.Certificate{
		"11":                 chainOf(server, 11),
		"one of 17 kB":       large(t, 17<<10),
		"10 of 2 kB":         chainOf(large(t, 2<<10), 10),
		"1000":               chainOf(server, 1000),
		"one of a megabyte":  large(t, 1<<20),
		"empty certificates": emptyCertificates(server, 9),
		"an empty chain":     chainOf(server, 0),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			attack(t, withCertificates(server, dtls.RequireAnyClientCert), dtlsserver.Config{}, func(t *testing.T, v *victim) {
				v.certificate = certificate
				assert.False(t, certificateHandshake(t, v, 1000))
				assert.Zero(t, v.Stats().Completed)
				assert.Positive(t, refusals(v.Stats()))
				v.certificate = server
			})
		})
	}
}

// emptyCertificates returns a certificate with a chain that goes on with n empty ones.
func emptyCertificates(c *dtlstest.Certificate, n int) *dtlstest.Certificate {
	chain := chainOf(c, 1)
	for range n {
		chain.Certificate.Certificate = append(chain.Certificate.Certificate, nil)
	}
	return chain
}

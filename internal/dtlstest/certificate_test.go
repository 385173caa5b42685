// SPDX-License-Identifier: MIT

package dtlstest

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// verify verifies what a peer would be shown.
func verify(t *testing.T, c *Certificate) error {
	t.Helper()
	intermediates := x509.NewCertPool()
	for _, der := range c.Certificate.Certificate[1:] {
		intermediates.AddCert(parse(t, der))
	}
	_, err := c.Leaf.Verify(x509.VerifyOptions{
		Roots: c.Pool, Intermediates: intermediates, DNSName: ServerName, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return err
}

func TestCertificatesVerify(t *testing.T) {
	for _, kind := range []KeyKind{ECDSA, RSA} {
		self, other := SelfSigned(t, kind), SelfSigned(t, ECDSA)
		assert.NoError(t, verify(t, self))
		self.Pool = other.Pool
		assert.Error(t, verify(t, self))

		root := NewCA(t, kind)
		issued := root.Issue(t, kind)
		assert.NoError(t, verify(t, issued))
		assert.Len(t, issued.Certificate.Certificate, 1)
		chained := root.NewIntermediate(t).Issue(t, kind)
		assert.NoError(t, verify(t, chained))
		assert.Len(t, chained.Certificate.Certificate, 2)
		expired := root.Issue(t, kind, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
		assert.ErrorContains(t, verify(t, expired), "expired")
	}
	assert.Same(t, NewKey(t, RSA), NewKey(t, RSA))
	assert.NotEqual(t, NewKey(t, ECDSA), NewKey(t, ECDSA))
}

func TestCertificateFiles(t *testing.T) {
	ca := NewCA(t, ECDSA)
	c := ca.NewIntermediate(t).Issue(t, RSA)
	certFile, keyFile := c.Files(t)
	loaded, err := tls.LoadX509KeyPair(certFile, keyFile)
	require.NoError(t, err)
	assert.Equal(t, c.Certificate.Certificate, loaded.Certificate)
	data, err := os.ReadFile(ca.File(t))
	require.NoError(t, err)
	block, _ := pem.Decode(data)
	require.NotNil(t, block)
	assert.Equal(t, ca.Root.Raw, block.Bytes)
}

// In a bubble the clock begins in the year 2000, and certificates made there are valid.
func TestCertificatesInABubble(t *testing.T) {
	for _, kind := range []KeyKind{ECDSA, RSA} {
		synctest.Test(t, func(t *testing.T) {
			c := NewCA(t, kind).NewIntermediate(t).Issue(t, kind)
			n := NewNetwork(1)
			n.SetRoundTrip(rtt)
			conns := pionServer(t, n, clientAddr, &dtls.Config{
				Certificates: []tls.Certificate{c.Certificate}, ClientAuth: dtls.RequireAndVerifyClientCert, ClientCAs: c.Pool,
			})
			client := n.DialClient(t, clientAddr, serverAddr, &dtls.Config{
				Certificates: []tls.Certificate{c.Certificate}, RootCAs: c.Pool, ServerName: ServerName,
			})
			Echo(t, client, "hello")
			server := Receive(t, conns)
			assert.Equal(t, c.Certificate.Certificate, server.ConnectionState().PeerCertificates)
			client.Kill()
			_ = server.Close()
			require.NoError(t, n.Close())
		})
	}
}

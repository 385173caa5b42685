// SPDX-License-Identifier: MIT

package dtlstest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// KeyKind is the kind of a certificate's key.
type KeyKind string

// The kinds of keys.
const (
	ECDSA KeyKind = "ecdsa" // P-256
	RSA   KeyKind = "rsa"   // 2048 bits
)

// RSA keys take long to make, so one process makes three of them at most: for all leaf
// certificates, for all roots and for all intermediates.
var (
	rsaKey             = sync.OnceValues(newRSAKey)
	rsaRootKey         = sync.OnceValues(newRSAKey)
	rsaIntermediateKey = sync.OnceValues(newRSAKey)
)

func newRSAKey() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) }

// NewKey returns a private key: a new one for ECDSA, that of all leaf certificates for
// RSA.
func NewKey(t testing.TB, kind KeyKind) crypto.Signer {
	t.Helper()
	return newKey(t, kind, rsaKey)
}

func newKey(t testing.TB, kind KeyKind, rsaKey func() (crypto.Signer, error)) crypto.Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch kind {
	case ECDSA:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case RSA:
		key, err = rsaKey()
	default:
		err = fmt.Errorf("no kind of key: %q", kind)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// ServerName is the DNS name in all certificates.
const ServerName = "localhost"

// Certificate is a certificate with its key, and those that issued it.
type Certificate struct {
	tls.Certificate // DER, leaf first; without the root of a chain
	Leaf            *x509.Certificate
	Pool            *x509.CertPool // holds only the root: the certificate itself or its CA
}

// SelfSigned returns a certificate that has signed itself, for servers and clients. It
// is valid for an hour before and after the time of the call. edit changes what is to
// be signed.
func SelfSigned(t testing.TB, kind KeyKind, edit ...func(*x509.Certificate)) *Certificate {
	t.Helper()
	key := NewKey(t, kind)
	template := leafTemplate(edit)
	return newCertificate(t, key, sign(t, template, template, key.Public(), key), nil)
}

// CA is a certification authority: a root, or an intermediate that a root has issued.
// Pion accepts a leaf with an RSA key only from a CA with one.
type CA struct {
	Root         *x509.Certificate
	Intermediate *x509.Certificate // nil: the root issues by itself
	kind         KeyKind
	key          crypto.Signer
}

// NewCA returns a root that issues certificates by itself.
func NewCA(t testing.TB, kind KeyKind) *CA {
	t.Helper()
	key := newKey(t, kind, rsaRootKey)
	template := caTemplate("dsm test root")
	return &CA{Root: parse(t, sign(t, template, template, key.Public(), key)), kind: kind, key: key}
}

// NewIntermediate returns an intermediate of a root, with the same kind of key. Its
// certificates have a chain of two, leaf and intermediate.
func (ca *CA) NewIntermediate(t testing.TB) *CA {
	t.Helper()
	key := newKey(t, ca.kind, rsaIntermediateKey)
	der := sign(t, caTemplate("dsm test intermediate"), ca.Root, key.Public(), ca.key)
	return &CA{Root: ca.Root, Intermediate: parse(t, der), kind: ca.kind, key: key}
}

// Issue returns a certificate of the CA, otherwise like SelfSigned.
func (ca *CA) Issue(t testing.TB, kind KeyKind, edit ...func(*x509.Certificate)) *Certificate {
	t.Helper()
	key := NewKey(t, kind)
	return newCertificate(t, key, sign(t, leafTemplate(edit), ca.issuer(), key.Public(), ca.key), ca)
}

// Files writes the chain and the key into PEM files of a directory that is removed when
// the test ends.
func (c *Certificate) Files(t testing.TB) (certFile, keyFile string) {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	return writeFile(t, dir, "cert.pem", pemOf(c.Certificate.Certificate...)),
		writeFile(t, dir, "key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
}

// issuer returns the certificate that the CA issues with.
func (ca *CA) issuer() *x509.Certificate {
	if ca.Intermediate != nil {
		return ca.Intermediate
	}
	return ca.Root
}

// File writes the root into a PEM file of a directory that is removed when the test
// ends.
func (ca *CA) File(t testing.TB) string {
	t.Helper()
	return writeFile(t, t.TempDir(), "ca.pem", pemOf(ca.Root.Raw))
}

func writeFile(t testing.TB, dir, name string, data []byte) string {
	t.Helper()
	name = filepath.Join(dir, name)
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// serials counts the certificates: NSS refuses two that have the same issuer's name and the
// same number.
var serials atomic.Int64

func newSerial() *big.Int { return big.NewInt(serials.Add(1)) }

func leafTemplate(edit []func(*x509.Certificate)) *x509.Certificate {
	template := &x509.Certificate{
		SerialNumber: newSerial(), Subject: pkix.Name{CommonName: "dsm test"}, DNSNames: []string{ServerName},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, f := range edit {
		f(template)
	}
	return template
}

func caTemplate(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: newSerial(), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, BasicConstraintsValid: true, IsCA: true,
	}
}

func sign(t testing.TB, template, parent *x509.Certificate, key crypto.PublicKey, by crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, by)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func parse(t testing.TB, der []byte) *x509.Certificate {
	t.Helper()
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func newCertificate(t testing.TB, key crypto.Signer, der []byte, ca *CA) *Certificate {
	t.Helper()
	leaf := parse(t, der)
	chain, root := [][]byte{der}, leaf
	if ca != nil {
		root = ca.Root
		if ca.Intermediate != nil {
			chain = append(chain, ca.Intermediate.Raw)
		}
	}
	pool := x509.NewCertPool()
	pool.AddCert(root)
	return &Certificate{tls.Certificate{Certificate: chain, PrivateKey: key}, leaf, pool}
}

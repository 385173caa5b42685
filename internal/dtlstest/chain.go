// SPDX-License-Identifier: MIT

package dtlstest

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"testing"
)

// IssueChain returns a leaf certificate of the root with intermediates: length certificates
// in all, at least 1, without the root. Each of their subjects has some organizational
// unit names of 64 bytes. They make the certificates longer: each has its own and those of
// its issuer.
func (ca *CA) IssueChain(t testing.TB, length, unitNames int) *Certificate {
	t.Helper()
	units := func(c *x509.Certificate) {
		for n := range unitNames {
			c.Subject.OrganizationalUnit = append(c.Subject.OrganizationalUnit, fmt.Sprintf("%064d", n))
		}
	}
	issuer := &CA{Root: ca.Root, kind: ca.kind, key: ca.key}
	var intermediates [][]byte
	for n := range length - 1 {
		template := caTemplate(fmt.Sprint("dsm test intermediate ", n+1))
		units(template)
		key := newKey(t, ca.kind, rsaIntermediateKey)
		cert := parse(t, sign(t, template, issuer.issuer(), key.Public(), issuer.key))
		issuer = &CA{Root: ca.Root, Intermediate: cert, kind: ca.kind, key: key}
		intermediates = append([][]byte{cert.Raw}, intermediates...)
	}
	leaf := issuer.Issue(t, ca.kind, units)
	leaf.Certificate.Certificate = append(leaf.Certificate.Certificate[:1], intermediates...)
	return leaf
}

// IntermediatesFile writes the chain without the leaf into a PEM file of a directory that
// is removed when the test ends. OpenSSL's client wants it apart.
func (c *Certificate) IntermediatesFile(t testing.TB) string {
	t.Helper()
	return writeFile(t, t.TempDir(), "intermediates.pem", pemOf(c.Certificate.Certificate[1:]...))
}

// pemOf returns certificates as the text of a PEM file.
func pemOf(certificates ...[]byte) []byte {
	var text []byte
	for _, der := range certificates {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return text
}

// SPDX-License-Identifier: MIT

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"time"
)

// newChain returns a client's certificate with that of the intermediate that has issued it,
// with keys of P-256, and the root.
func newChain() (chain tls.Certificate, root *x509.CertPool) {
	rootCert, rootKey := issue("root of the benchmark", nil, nil)
	intermediate, intermediateKey := issue("intermediate of the benchmark", rootCert, rootKey)
	leaf, leafKey := issue("device 0123456789abcdef", intermediate, intermediateKey)
	root = x509.NewCertPool()
	root.AddCert(rootCert)
	return tls.Certificate{Certificate: [][]byte{leaf.Raw, intermediate.Raw}, PrivateKey: leafKey}, root
}

// issue returns a certificate, which signs itself if there is no issuer.
func issue(name string, issuer *x509.Certificate, by *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true, IsCA: true,
	}
	if issuer == nil {
		issuer, by = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), by)
	check(err)
	cert, err := x509.ParseCertificate(der)
	check(err)
	return cert, key
}

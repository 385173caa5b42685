// SPDX-License-Identifier: MIT

package handshake

import (
	"crypto/tls"
	"crypto/x509"
	"slices"
)

// WithLeaves returns a copy of a server's certificates, each with its parsed leaf. Pion parses a
// leaf that is missing in each handshake, to know the names in it.
func WithLeaves(certificates []tls.Certificate) []tls.Certificate {
	certificates = slices.Clone(certificates)
	for i := range certificates {
		c := &certificates[i]
		if c.Leaf != nil || len(c.Certificate) == 0 {
			continue
		}
		if leaf, err := x509.ParseCertificate(c.Certificate[0]); err == nil { // otherwise pion does without its names
			c.Leaf = leaf
		}
	}
	return certificates
}

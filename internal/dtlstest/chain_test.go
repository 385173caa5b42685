// SPDX-License-Identifier: MIT

package dtlstest

import (
	"bytes"
	"encoding/pem"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestIssueChain(t *testing.T) {
	for _, kind := range []KeyKind{ECDSA, RSA} {
		ca := NewCA(t, kind)
		chain := ca.IssueChain(t, 7, 6)
		assert.NoError(t, verify(t, chain))
		require.Len(t, chain.Certificate.Certificate, 7)
		total := 0
		for n, der := range chain.Certificate.Certificate {
			total += len(der)
			cert := parse(t, der)
			assert.Len(t, cert.Subject.OrganizationalUnit, 6)
			issuer := ca.Root
			if n < 6 {
				issuer = parse(t, chain.Certificate.Certificate[n+1])
			}
			assert.NoError(t, cert.CheckSignatureFrom(issuer))
		}
		assert.Greater(t, total, 8192)

		text, err := os.ReadFile(chain.IntermediatesFile(t))
		require.NoError(t, err)
		var intermediates [][]byte
		for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
			intermediates = append(intermediates, block.Bytes)
		}
		assert.Equal(t, chain.Certificate.Certificate[1:], intermediates)

		alone := ca.IssueChain(t, 1, 0)
		assert.NoError(t, verify(t, alone))
		assert.Len(t, alone.Certificate.Certificate, 1)
		assert.True(t, bytes.Equal(ca.Root.RawSubject, alone.Leaf.RawIssuer))
	}
}

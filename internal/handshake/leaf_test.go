// SPDX-License-Identifier: MIT

package handshake

import (
	"crypto/tls"
	"testing"

	"github.com/pion/dtls/v2/pkg/crypto/selfsign"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestWithLeavesParsesMissingLeavesOfACopy(t *testing.T) {
	t.Parallel()
	whole, err := selfsign.GenerateSelfSignedWithDNS("example.org")
	require.NoError(t, err)
	bare := whole
	bare.Leaf = nil
	mine := []tls.Certificate{bare, whole, {}, {Certificate: [][]byte{{1}}}}
	got := WithLeaves(mine)
	require.NotNil(t, got[0].Leaf)
	assert.Equal(t, whole.Leaf.Raw, got[0].Leaf.Raw)
	assert.Same(t, whole.Leaf, got[1].Leaf)
	assert.Nil(t, got[2].Leaf)
	assert.Nil(t, got[3].Leaf)
	assert.Nil(t, mine[0].Leaf)
	assert.Nil(t, WithLeaves(nil))
}

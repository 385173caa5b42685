// SPDX-License-Identifier: MIT

package record

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNextHandshakeReturnsRestOfPayload(t *testing.T) {
	message := parseOne(t, pionClientHello(t, 3, nil)).Fragment()
	two := append(bytes.Clone(message), message...)
	h, rest, ok := NextHandshake(two)
	require.True(t, ok)
	assert.Equal(t, message, rest)
	assert.True(t, h.Complete())
	assert.Equal(t, uint16(3), h.MessageSeq)
	assert.EqualValues(t, MessageClientHello, h.Type)
	_, _, ok = NextHandshake(two[:HandshakeHeaderSize-1])
	assert.False(t, ok)
}

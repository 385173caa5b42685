// SPDX-License-Identifier: MIT

package handshake

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestAmplificationLimit(t *testing.T) {
	t.Parallel()
	var a amplification
	assert.False(t, a.allow(1), "nothing was received")

	a.received = 100
	assert.True(t, a.allow(200))
	assert.False(t, a.allow(101))
	assert.True(t, a.allow(100), "a datagram that is not sent does not count")
	assert.False(t, a.allow(1))
	assert.Equal(t, 300, a.sent)

	a.received += 10
	assert.True(t, a.allow(30), "each byte received allows three more")
	assert.False(t, a.allow(1))

	a.validated.Store(true)
	assert.True(t, a.allow(1<<20))
	assert.Equal(t, 330+1<<20, a.sent)
}

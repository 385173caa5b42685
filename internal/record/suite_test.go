// SPDX-License-Identifier: MIT

package record

import (
	"strings"
	"testing"

	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
)

func TestKeyExchangeOfSuiteIsInItsName(t *testing.T) {
	for _, s := range suites {
		assert.True(t, s.id.Supported())
		name := dtls.CipherSuiteID(s.id).String()
		assert.Equal(t, strings.Contains(name, "PSK"), s.id.PSK(), name)
		assert.Equal(t, strings.Contains(name, "ECDHE"), s.id.ECDHE(), name)
	}
	assert.False(t, SuiteID(0x1301).Supported())
	assert.False(t, SuiteID(0x1301).PSK())
	assert.False(t, SuiteID(0x1301).ECDHE())
}

// SPDX-License-Identifier: MIT

package record

import (
	"strings"
	"testing"

	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
)

func TestPSKSuitesAreThoseNamedPSK(t *testing.T) {
	for _, s := range suites {
		assert.True(t, s.id.Supported())
		assert.Equal(t, strings.Contains(dtls.CipherSuiteID(s.id).String(), "PSK"), s.id.PSK(), "%#04x", s.id)
	}
	assert.False(t, SuiteID(0x1301).Supported())
	assert.False(t, SuiteID(0x1301).PSK())
}

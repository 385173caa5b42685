// SPDX-License-Identifier: MIT

package dsmprom_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestPackageDependsOnNoRedisAndNoAdapter: a server links only the adapter that it uses, and a
// client of Redis only with redisprom.
func TestPackageDependsOnNoRedisAndNoAdapter(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	require.NoError(t, err)
	deps := strings.Fields(string(out))
	assert.Contains(t, deps, "github.com/go-dsm/dsm/dtlsserver", "the list is of this package")
	for _, path := range deps {
		assert.NotContains(t, path, "redis")
		assert.NotContains(t, path, "/dsm/pionv", "an adapter")
	}
}

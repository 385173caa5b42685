// SPDX-License-Identifier: MIT

package main

import (
	"bytes"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDemo(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), []string{"-demo"}, &out, io.Discard))
	assert.Regexp(t, `slot +peer +state +last use`, out.String())
	assert.Contains(t, out.String(), "5 clients, 3 slots: 3 sessions, 2 evicted, none of them the one that kept talking.")
	assert.NotContains(t, out.String(), "\x1b", "control sequences without a terminal")
}

// SPDX-License-Identifier: MIT

package main

import (
	"bufio"
	"context"
	"io"
	"strings"
	"testing"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestBadFlags(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ args, want string }{
		{"-psk=", "empty"},
		{"-slots 0", "at least 1"},
		{"-listen nowhere", "nowhere"},
		{"stray", `"stray"`},
		{"-unknown", "not defined"},
	} {
		err := run(t.Context(), strings.Fields(c.args), io.Discard)
		assert.ErrorContains(t, err, c.want, c.args)
	}
}

func TestServesUntilCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, in := io.Pipe()
	served := make(chan error, 1)
	go func() {
		served <- run(ctx, []string{"-listen", "127.0.0.1:0"}, in)
		_ = in.Close()
	}()
	lines := bufio.NewScanner(out)
	require.True(t, lines.Scan())
	assert.Contains(t, lines.Text(), "listening")
	cancel()
	for lines.Scan() {
	}
	assert.NoError(t, dtlstest.Receive(t, served))

	// The context may have ended before.
	assert.NoError(t, run(ctx, []string{"-listen", "127.0.0.1:0"}, io.Discard))
}

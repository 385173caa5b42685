// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/handshake"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// keyLogLine is the line of a session in a key log. It has the client's random, by which
// readers of the log find the session.
func keyLogLine(c *dtlsserver.Conn) string {
	var state handshake.State
	c.Export(&state)
	return fmt.Sprintf("CLIENT_RANDOM %x %x\n", state.Secrets.ClientRandom, state.Secrets.MasterSecret)
}

// TestKeyLogHasEachSession: one that has begun with a full handshake, and one that is
// resumed.
func TestKeyLogHasEachSession(t *testing.T) {
	t.Parallel()
	withResumption(t, func(t *testing.T, r *resumption) {
		var log dtlstest.LogBuffer
		r.server.KeyLogWriter = &log
		l, sessions, first := r.begin(t)
		assert.Regexp(t, `^CLIENT_RANDOM [0-9a-f]{64} [0-9a-f]{96}\n$`, log.String())
		assert.Equal(t, keyLogLine(first), log.String())
		second := r.visit(t, l, sessions)
		require.True(t, second.Resumed())
		assert.Equal(t, keyLogLine(second), strings.TrimPrefix(log.String(), keyLogLine(first)))
		assert.NotEqual(t, keyLogLine(first), keyLogLine(second))
	})
}

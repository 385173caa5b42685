// SPDX-License-Identifier: MIT

package pionv2

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/handshake"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The line of a resumed session in the key log has the client's random, by which readers
// of the log find it.
func TestKeyLogOfResumedSession(t *testing.T) {
	t.Parallel()
	var lines dtlstest.LogBuffer
	server := dtlstest.PSKConfig("key")
	server.KeyLogWriter = &lines
	client, _ := resumingClient()
	l := listen(t, server, Config{Resumption: newStore(t)})
	sessions := dtlstest.ServeEcho[*Conn](t, l)
	visit(t, sessions, dtlstest.Dial(t, l.Addr(), nil, client))
	s := visit(t, sessions, dtlstest.Dial(t, l.Addr(), nil, client))
	require.True(t, s.Resumed())
	var state handshake.State
	s.Export(&state)
	want := fmt.Sprintf("CLIENT_RANDOM %x %x\n", state.Secrets.ClientRandom, state.Secrets.MasterSecret)
	all := bytes.SplitAfter([]byte(lines.String()), []byte("\n"))
	require.Len(t, all, 3)
	assert.Equal(t, want, string(all[1]))
	assert.NotEqual(t, want, string(all[0]))
}

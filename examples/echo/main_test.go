// SPDX-License-Identifier: MIT

package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"strings"
	"testing"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { dtlstest.Main(m) }

func TestBadFlags(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ args, want string }{
		{"-psk xyz", "not a key in hex"},
		{"-psk=", "not a key in hex"},
		{"-slots -1", "-1"},
		{"-slots 0", "at least 1"},
		{"-listen nowhere", "nowhere"},
		{"stray", `"stray"`},
		{"-unknown", "not defined"},
	} {
		err := run(t.Context(), strings.Fields(c.args), io.Discard, io.Discard)
		assert.ErrorContains(t, err, c.want, c.args)
	}
}

func TestServesUntilCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	served := make(chan error, 1)
	go func() {
		served <- run(ctx, []string{"-listen", "127.0.0.1:0"}, io.Discard, in)
		_ = in.Close()
	}()
	lines := bufio.NewScanner(out)
	require.True(t, lines.Scan())
	assert.Contains(t, lines.Text(), "listening")
	cancel()
	for lines.Scan() {
	}
	assert.NoError(t, dtlstest.Receive(t, served))
}

// Six clients connect to a server with four slots. Each of them gets its echoes in turn.
// The two least recently used sessions are closed, and never the one that keeps talking.
func TestOpenSSL(t *testing.T) {
	t.Parallel()
	openssl := dtlstest.NeedCommand(t, "openssl")
	key := []byte("a key of sixteen")
	var log dtlstest.LogBuffer
	o := options{listen: "127.0.0.1:0", slots: 4, psk: key, identity: dtlstest.Identity}
	s, err := start(o, slog.New(slog.NewTextHandler(&log, nil)))
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- s.serve() }()
	t.Cleanup(s.close)

	echo := func(client *dtlstest.Process, line string) {
		t.Helper()
		client.Line(line)
		assert.Equal(t, line, client.Expect(line))
	}
	var clients []*dtlstest.Process
	for i := range 6 {
		c := dtlstest.StartProcess(t, openssl, "s_client", "-dtls1_2", "-quiet", "-connect", s.listener.Addr().String(),
			"-psk_identity", dtlstest.Identity, "-psk", hex.EncodeToString(key))
		clients = append(clients, c)
		echo(c, fmt.Sprintf("client %d is here", i))
		echo(c, fmt.Sprintf("client %d once more", i))
		echo(clients[0], fmt.Sprintf("client 0 keeps talking, %d", i))
		assert.Equal(t, min(i+1, 4), s.listener.Stats().Established)
	}
	for _, i := range []int{3, 4, 5, 0} {
		echo(clients[i], fmt.Sprintf("client %d has stayed", i))
	}
	// Client 1 was the least recently used one when client 4 came, and client 2 when
	// client 5 came. Both were told.
	clients[1].Ends()
	clients[2].Ends()
	stats := s.listener.Stats()
	assert.EqualValues(t, 6, stats.Completed)
	assert.EqualValues(t, 2, stats.Evicted)
	assert.Equal(t, 4, stats.Established)

	s.close()
	assert.NoError(t, dtlstest.Receive(t, served))
	assert.Len(t, regexp.MustCompile(`session ends.*evicted`).FindAllString(log.String(), -1), 2)
}

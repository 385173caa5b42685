// SPDX-License-Identifier: MIT

package pionv4

import (
	"context"
	"log/slog"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/pion/dtls/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestPionTakesCookie: the place where pion has the cookie is there in the version of pion that
// this module requires.
func TestPionTakesCookie(t *testing.T) {
	t.Parallel()
	config := pskConfig()
	m, _, err := newHandshaker(config, cfgOf(t))
	require.NoError(t, err)
	assert.True(t, m.StatelessCookie(), "pion %s: the cookie has another place", pionVersion(t))

	conn, err := dtls.DetachedServer(anyAddr, append(m.base, m.credentials(noPSK)...)...)
	require.NoError(t, err)
	require.NoError(t, conn.Start(context.Background()))
	defer conn.Close()
	at := cookieOf(conn)
	require.NotNil(t, at)
	assert.Len(t, *at, 20, "pion's own")
}

// TestPionDrawsCookie where it takes none of the server's: full and abbreviated handshakes.
func TestPionDrawsCookie(t *testing.T) {
	t.Parallel()
	m, cfg, err := newHandshaker(pskConfig(), cfgOf(t))
	require.NoError(t, err)
	m.statelessCookie = false
	l, err := dtlsserver.Listen("udp", "127.0.0.1:0", m, cfg)
	require.NoError(t, err)
	defer l.Close()
	sessions := dtlstest.ServeEcho[*dtlsserver.Conn](t, l)
	client := dtlstest.PSKConfig("key")
	client.SessionStore = &dtlstest.ClientStore{}
	assert.False(t, visit(t, sessions, dtlstest.Dial(t, l.Addr(), nil, client)).Resumed())
	assert.True(t, visit(t, sessions, dtlstest.Dial(t, l.Addr(), nil, client)).Resumed())
	s := l.Stats()
	assert.EqualValues(t, 2, s.Started)
	assert.Zero(t, s.HelloVerifyRequests)
}

// TestListenerSaysThatPionDrawsCookie once.
func TestListenerSaysThatPionDrawsCookie(t *testing.T) {
	t.Parallel()
	var log dtlstest.LogBuffer
	warnNoCookie(slog.New(slog.NewTextHandler(&log, nil)), true)
	assert.Empty(t, log.String())
	warnNoCookie(slog.New(slog.NewTextHandler(&log, nil)), false)
	assert.Equal(t, 1, strings.Count(log.String(), "Config.Handshakes"))
}

// pionVersion returns the version of pion that the test is built with.
func pionVersion(t *testing.T) string {
	t.Helper()
	info, ok := debug.ReadBuildInfo()
	require.True(t, ok)
	for _, m := range info.Deps {
		if m.Path == "github.com/pion/dtls/v4" {
			return m.Version
		}
	}
	return "unknown"
}

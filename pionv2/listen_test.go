// SPDX-License-Identifier: MIT

package pionv2

import (
	"net"
	"strings"
	"testing"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/handshake"
	"github.com/pion/dtls/v2"
	"github.com/pion/logging"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestUnsupportedDTLSConfigIsRefused by Listen and by NewListener. The error names what
// is not supported.
func TestUnsupportedDTLSConfigIsRefused(t *testing.T) {
	t.Parallel()
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer socket.Close()
	with := func(change func(c *dtls.Config)) *dtls.Config {
		config := dtlstest.PSKConfig("key")
		change(config)
		return config
	}
	for _, c := range []struct {
		config *dtls.Config
		want   string
	}{
		{nil, "no dtls.Config"},
		{&dtls.Config{}, "neither a certificate nor a PSK"},
		{with(func(c *dtls.Config) { c.CustomCipherSuites = func() []dtls.CipherSuite { return nil } }), "CustomCipherSuites"},
		{with(func(c *dtls.Config) { c.SessionStore = struct{ dtls.SessionStore }{} }), "SessionStore"},
		{with(func(c *dtls.Config) { c.InsecureSkipVerifyHello = true }), "InsecureSkipVerifyHello"},
		{with(func(c *dtls.Config) { c.SRTPProtectionProfiles = []dtls.SRTPProtectionProfile{1} }), "SRTPProtectionProfiles"},
		{with(func(c *dtls.Config) { c.MTU = handshake.MinMTU - 1 }), "MTU is 255"},
		{with(func(c *dtls.Config) { c.MTU = -1 }), "MTU is -1"},
		{with(func(c *dtls.Config) { c.ReplayProtectionWindow = handshake.MaxReplayWindow + 1 }), "ReplayProtectionWindow is 65537"},
		{with(func(c *dtls.Config) { c.ReplayProtectionWindow = -1 }), "ReplayProtectionWindow is -1"},
		{with(func(c *dtls.Config) { c.CipherSuites = []dtls.CipherSuiteID{1} }), "CipherSuite"}, // pion's own check
	} {
		_, err := Listen("udp", "127.0.0.1:0", c.config, Config{})
		if assert.ErrorContains(t, err, c.want) {
			assert.True(t, strings.HasPrefix(err.Error(), "pionv2: "), "%v", err)
		}
		_, again := NewListener([]net.PacketConn{socket}, c.config, Config{})
		assert.Equal(t, err, again)
	}
}

// TestDTLSConfigBounds has what is just allowed.
func TestDTLSConfigBounds(t *testing.T) {
	t.Parallel()
	config := dtlstest.PSKConfig("key")
	config.MTU, config.ReplayProtectionWindow = handshake.MinMTU, handshake.MaxReplayWindow
	l := listen(t, config, Config{})
	dtlstest.ServeEcho[*Conn](t, l)
	dtlstest.Echo(t, dtlstest.Dial(t, l.Addr(), nil, dtlstest.PSKConfig("key")), "works")
}

// TestDTLSConfigIsCopied: the caller may change its own and use it again.
func TestDTLSConfigIsCopied(t *testing.T) {
	t.Parallel()
	config := dtlstest.PSKConfig("key")
	l := listen(t, config, Config{})
	dtlstest.ServeEcho[*Conn](t, l)
	config.PSK = nil
	config.CipherSuites = nil
	dtlstest.Echo(t, dtlstest.Dial(t, l.Addr(), nil, dtlstest.PSKConfig("key")), "works")
}

// A listener has one logger of pion's, also for all of its handshakes, unless the caller says
// who makes them.
func TestLoggerIsMadeOnce(t *testing.T) {
	t.Parallel()
	m, _, err := newHandshaker(dtlstest.PSKConfig("key"), Config{})
	require.NoError(t, err)
	factory := m.config.LoggerFactory
	assert.Same(t, factory.NewLogger("dtls"), factory.NewLogger("dtls"))

	config := dtlstest.PSKConfig("key")
	mine := logging.NewDefaultLoggerFactory()
	config.LoggerFactory = mine
	m, _, err = newHandshaker(config, Config{})
	require.NoError(t, err)
	assert.Same(t, mine, m.config.LoggerFactory)
}

// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"net"
	"testing"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestAnswersLeaveFromTheAddressThatTheClientUsed: a socket that is bound to no address
// has several, and a connected client drops what comes from another one.
func TestAnswersLeaveFromTheAddressThatTheClientUsed(t *testing.T) {
	t.Parallel()
	l, err := openListener("udp", ":0", psk(), dtlsserver.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	conns := echoServer(t, l)
	port := l.Addr().(*net.UDPAddr).Port
	reached := 0
	for _, to := range []string{"127.0.0.1", "127.0.0.2", "::1"} {
		socket, err := net.DialUDP("udp", nil, &net.UDPAddr{IP: net.ParseIP(to), Port: port})
		if err != nil {
			t.Log("no ", to, " here: ", err)
			continue
		}
		client, err := dtlstest.Handshake(socket, psk())
		require.NoError(t, err, to)
		dtlstest.Echo(t, client, "to "+to)
		assert.False(t, dtlstest.Receive(t, conns).Peer().Addr().Is4In6(), "IPv4 peers of a dual-stack socket are IPv4")
		require.NoError(t, client.Close())
		reached++
	}
	assert.Positive(t, reached)
}

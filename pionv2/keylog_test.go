// SPDX-License-Identifier: MIT

package pionv2

import (
	"net"
	"testing"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/stretchr/testify/assert"
)

// TestKeyLogIsPassedOn: the user's key log gets what pion writes.
func TestKeyLogIsPassedOn(t *testing.T) {
	t.Parallel()
	var log dtlstest.LogBuffer
	config := dtlstest.PSKConfig("key")
	config.KeyLogWriter = &log
	inBubble(t, config, Config{}, func(t *testing.T, l memory) {
		dtlstest.ServeEcho[*Conn](t, l)
		client := *l.config
		client.KeyLogWriter = nil
		l.config = &client
		dtlstest.Echo(t, l.dial(t, func(socket net.Conn) net.Conn { return socket }), "x")
	})
	assert.Regexp(t, `^CLIENT_RANDOM [0-9a-f]{64} [0-9a-f]{96}\n$`, log.String())
}

// SPDX-License-Identifier: MIT

package interop

import (
	"testing"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// slowClients are the foreign clients that the tests of slow networks run many of.
var slowClients = []foreign{openSSL, mbedTLS, gnuTLS}

// slowPatience is how long a client may take, or a user who starts it again.
const slowPatience = 30 * time.Second

// listen opens a listener that differs from its defaults in nothing but cfg, and echoes.
func listen(t *testing.T, on adapter, cfg dtlsserver.Config) *dtlsserver.Listener {
	t.Helper()
	l, err := on.listen("127.0.0.1:0", pskServer(gcm), cfg)
	require.NoError(t, err)
	dtlstest.ServeEcho[*dtlsserver.Conn](t, l)
	return l
}

// guest is a foreign client on its visit.
type guest struct {
	foreign
	*dtlstest.Process
}

// requireAllIn waits for all guests and fails the test if some are not in.
func requireAllIn(t *testing.T, l *dtlsserver.Listener, guests []guest) {
	t.Helper()
	begin := time.Now()
	in, failed := 0, ""
	for _, g := range guests {
		if g.isIn(g.Process, begin.Add(slowPatience)) {
			in++
		} else {
			failed = g.Output()
		}
	}
	t.Logf("%d of %d clients are in after %v; %+v", in, len(guests), time.Since(begin).Round(time.Millisecond), l.Stats())
	require.Equal(t, len(guests), in, "a client that is not in said:\n%s", failed)
	for _, g := range guests {
		g.Ends()
	}
}

// Sixty clients of one network, each 200 ms away, come at once to a listener with default
// limits.
func TestHerdOverSlowNetwork(t *testing.T) { withEachAdapter(t, testHerdOverSlowNetwork) }

func testHerdOverSlowNetwork(t *testing.T, on adapter) {
	const clients, delay = 60, 200 * time.Millisecond
	for _, with := range slowClients {
		t.Run(with.name, func(t *testing.T) {
			t.Parallel()
			with := with.installed(t)
			l := listen(t, on, dtlsserver.Config{})
			var guests []guest
			for range clients {
				relay := dtlstest.StartSlowRelay(t, l.Addr(), delay)
				guests = append(guests, guest{with, with.start(t, relay.Addr(), visit{psk: true})})
			}
			requireAllIn(t, l, guests)
			assert.EqualValues(t, clients, l.Stats().Completed)
		})
	}
}

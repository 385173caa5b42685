// SPDX-License-Identifier: MIT

package interop

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// hasCookie reports whether a datagram has a ClientHello with a cookie, or its first
// fragment.
func hasCookie(datagram []byte) bool {
	for _, r := range dtlstest.Records(datagram) {
		if r.Type != record.TypeHandshake || r.Epoch > 0 {
			continue
		}
		f, _, ok := record.NextHandshake(r.Fragment())
		if !ok {
			continue
		}
		if hello, ok := record.ClientHelloStart(f); ok && len(hello.Cookie) > 0 {
			return true
		}
	}
	return false
}

// A server is restarted while a client is about to return its cookie. The client is told to
// begin anew when it repeats its cookie, which they do after a second or less, and is in at
// its second start. It would repeat its cookie for half a minute or longer otherwise.
func TestClientOfRestartedServer(t *testing.T) { withEachAdapter(t, testClientOfRestartedServer) }

func testClientOfRestartedServer(t *testing.T, on adapter) {
	p := newParties(t)
	type returning struct {
		foreign
		by way
	}
	// The ClientHello of the first one comes in fragments.
	fragments := returning{openSSL, p.wayFor(openSSL)}
	fragments.name, fragments.by.visit.mtu = openSSL.name+", short datagrams", shortMTUs[0]
	clients := []returning{fragments}
	for _, with := range foreigners {
		clients = append(clients, returning{with, p.wayFor(with)})
	}
	for _, client := range clients {
		t.Run(client.name, func(t *testing.T) {
			t.Parallel()
			with, by := client.installed(t), client.by
			listen := func() *dtlsserver.Listener {
				l, err := on.listen("127.0.0.1:0", by.config, dtlsserver.Config{})
				require.NoError(t, err)
				dtlstest.ServeEcho[*dtlsserver.Conn](t, l)
				return l
			}
			l := listen()
			relay := dtlstest.StartRelay(t, l.Addr())
			returns := make(chan struct{}, 1)
			var restarted atomic.Bool
			relay.SetIn(func(datagram []byte) bool {
				if restarted.Load() || !hasCookie(datagram) {
					return true
				}
				select {
				case returns <- struct{}{}:
				default:
				}
				return false
			})
			first := with.start(t, relay.Addr(), by.visit)
			dtlstest.Receive(t, returns)
			require.NoError(t, l.Close())
			l = listen() // at another port: somebody can have the old one by now
			relay.Redirect(t, l.Addr())
			restarted.Store(true)

			begin := time.Now()
			ended := first.EndsBy(begin.Add(dtlstest.Patience / 2))
			t.Logf("ended: %t, %v after the restart", ended, time.Since(begin).Round(time.Millisecond))
			require.True(t, ended, "the client goes on; %+v", l.Stats())
			with.echo(t, relay.Addr(), by.visit)
			assert.EqualValues(t, 1, l.Stats().Completed)
		})
	}
}

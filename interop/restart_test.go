// SPDX-License-Identifier: MIT

package interop

import (
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/pionv2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// hasCookie reports whether a datagram has a ClientHello with a cookie.
func hasCookie(datagram []byte) bool {
	for _, r := range dtlstest.Records(datagram) {
		if hello, ok := record.ParseClientHello(r); ok && len(hello.Cookie) > 0 {
			return true
		}
	}
	return false
}

// A server is restarted while a client is about to return its cookie. The client is told to
// begin anew when it repeats its cookie, which all of them do after a second, and is in at
// its second start. It would repeat its cookie for half a minute or longer otherwise.
func TestClientOfRestartedServer(t *testing.T) {
	t.Parallel()
	for _, with := range foreigners {
		t.Run(with.name, func(t *testing.T) {
			t.Parallel()
			with := with.installed(t)
			listen := func(address string) *pionv2.Listener {
				config := pskServer(gcm)
				config.CipherSuites = append(config.CipherSuites, ecdhe) // for wolfSSL
				l, err := pionv2.Listen("udp", address, config, pionv2.Config{})
				require.NoError(t, err)
				dtlstest.ServeEcho[*pionv2.Conn](t, l)
				return l
			}
			l := listen("127.0.0.1:0")
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
			first := with.start(t, relay.Addr(), visit{psk: true})
			dtlstest.Receive(t, returns)
			require.NoError(t, l.Close())
			l = listen(l.Addr().(*net.UDPAddr).String())
			restarted.Store(true)

			begin := time.Now()
			ended := first.EndsBy(begin.Add(dtlstest.Patience / 2))
			t.Logf("ended: %t, %v after the restart", ended, time.Since(begin).Round(time.Millisecond))
			require.True(t, ended, "the client goes on; %+v", l.Stats())
			with.echo(t, relay.Addr(), visit{psk: true})
			assert.EqualValues(t, 1, l.Stats().Completed)
		})
	}
}

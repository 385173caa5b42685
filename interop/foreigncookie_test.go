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
)

// A client takes the repeated answer to a forged ClientHello for the answer to its own, and
// returns that cookie. It is told to begin anew by an alert that it does not take for a
// replay of the HelloVerifyRequest, whose sequence number is not 0 any more.
func TestClientWithCookieOfForgedClientHello(t *testing.T) {
	withEachAdapter(t, testClientWithCookieOfForgedClientHello)
}

func testClientWithCookieOfForgedClientHello(t *testing.T, on adapter) {
	for _, client := range []struct {
		foreign
		cookies int // that it returns until it ends
		told    int // how often it is told; see TestClientEndsAtAlertForItsCookie
	}{{openSSL, 1, 1}, {mbedTLS, 1, 1}, {gnuTLS, 3, 2}} { // GnuTLS's second one comes too soon after the first
		t.Run(client.name, func(t *testing.T) {
			t.Parallel()
			with := client.installed(t)
			l := listen(t, on, dtlsserver.Config{})
			relay := dtlstest.StartSlowRelay(t, l.Addr(), 5*time.Millisecond) // the server tells times apart by milliseconds
			var hellos, cookies atomic.Int32
			relay.SetIn(func(datagram []byte) bool {
				hellos.Add(1)
				if hasCookie(datagram) {
					cookies.Add(1)
				}
				return true
			})
			var repeated atomic.Bool
			passed := make(chan struct{}, 1)
			relay.SetOut(func(datagram []byte) bool {
				if repeated.Load() {
					return true
				}
				for _, r := range dtlstest.Records(datagram) {
					if r.Type == record.TypeHandshake && r.Sequence == 1 {
						repeated.Store(true)
						passed <- struct{}{}
						return true
					}
				}
				return false // the client's own cookie among them
			})
			first := with.start(t, relay.Addr(), visit{psk: true})
			dtlstest.Eventually(t, func() bool { return hellos.Load() > 0 }, "the client has begun")
			forged := dtlstest.ClientHello{Random: randomHello(0)}
			if on.statelessCookie {
				forged.Sequence = 1 // the answer has the same (RFC 6347 section 4.2.1)
				relay.Forge(forged.Datagram())
				dtlstest.Receive(t, passed)
			} else {
				stop := regularly(t, 100, func(int) { relay.Forge(forged.Datagram()) })
				dtlstest.Receive(t, passed)
				stop()
			}
			first.Ends()
			assert.EqualValues(t, client.cookies, cookies.Load())
			assert.EqualValues(t, client.told, l.Stats().ToldToRestart)
			with.echo(t, relay.Addr(), visit{psk: true})
		})
	}
}

// SPDX-License-Identifier: MIT

package interop

import (
	"sync/atomic"
	"testing"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/pionv2"
	"github.com/stretchr/testify/assert"
)

// A client takes the repeated answer to a forged ClientHello for the answer to its own, and
// returns that cookie. It is told to begin anew by an alert that it does not take for a
// replay of the HelloVerifyRequest, whose sequence number is not 0 any more.
func TestClientWithCookieOfForgedClientHello(t *testing.T) {
	t.Parallel()
	for _, client := range []struct {
		foreign
		cookies int // that it returns until it ends
		told    int // how often it is told; see TestClientEndsAtAlertForItsCookie
	}{{openSSL, 1, 1}, {mbedTLS, 1, 1}, {gnuTLS, 3, 2}} { // GnuTLS's second one comes too soon after the first
		t.Run(client.name, func(t *testing.T) {
			t.Parallel()
			with := client.installed(t)
			l := listen(t, pionv2.Config{})
			relay := dtlstest.StartRelay(t, l.Addr())
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
			stop := regularly(t, 100, func(int) {
				relay.Forge(dtlstest.ClientHello{Random: randomHello(0)}.Datagram())
			})
			dtlstest.Receive(t, passed)
			stop()
			first.Ends()
			assert.EqualValues(t, client.cookies, cookies.Load())
			assert.EqualValues(t, client.told, l.Stats().ToldToRestart)
			with.echo(t, relay.Addr(), visit{psk: true})
		})
	}
}

// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
)

// TestLostFinalFlightIsSentAgain: the server's last flight is lost. The client repeats
// its Finished, and gets the flight again (RFC 6347 section 4.2.4).
func TestLostFinalFlightIsSentAgain(t *testing.T) {
	t.Parallel()
	for _, suite := range []dtls.CipherSuiteID{dtls.TLS_PSK_WITH_AES_128_GCM_SHA256, dtls.TLS_PSK_WITH_AES_128_CCM_8, dtls.TLS_PSK_WITH_AES_128_CBC_SHA256} {
		for _, roundTrip := range []time.Duration{0, 300 * time.Millisecond} {
			t.Run(suite.String()+" "+roundTrip.String(), func(t *testing.T) {
				t.Parallel()
				config := dtlstest.PSKConfig("key", suite)
				inBubbleWith(t, config, dtlsserver.Config{}, func(t *testing.T, l memory) {
					const lose = 3
					l.network.SetRoundTrip(roundTrip)
					var flights atomic.Int32
					unique := dtlstest.UniqueNumbers(t)
					l.network.SetHook(dtlstest.ToClient, func(datagram []byte) bool {
						if suite != dtls.TLS_PSK_WITH_AES_128_CBC_SHA256 { // which has random IVs
							unique(datagram)
						}
						return !dtlstest.Has(datagram, record.TypeChangeCipherSpec, false) || flights.Add(1) > lose
					})
					echoServer(t, l.Listener)
					client := l.network.DialClient(t, netip.AddrPort{}, l.addr(), config)
					dtlstest.Echo(t, client, "after all")
					synctest.Wait()
					assert.GreaterOrEqual(t, flights.Load(), int32(lose+1))
					assert.EqualValues(t, 1, l.Stats().Completed)
					if roundTrip == 0 {
						assert.EqualValues(t, lose+1, flights.Load(), "one for each Finished")
					}
				})
			})
		}
	}
}

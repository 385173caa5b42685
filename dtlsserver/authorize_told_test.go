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
	"github.com/stretchr/testify/require"
)

// unhurried is a client that repeats its flight after a second, as RFC 6347 section 4.2.4.1 asks.
func unhurried(config *dtls.Config) *dtls.Config {
	config.FlightInterval = time.Second
	return config
}

// TestRefusedClientIsToldAgain when it repeats its last flight, for the alert was lost: the
// same, with a new sequence number. So is a client whose earlier session lives on, which has
// lost its state.
func TestRefusedClientIsToldAgain(t *testing.T) {
	t.Parallel()
	for name, hasSession := range map[string]bool{"a newcomer": false, "a client with a session": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for identity, alert := range map[string]string{denied: "AccessDenied", obeys: "InternalError"} {
				withAuthorize(t, dtlsserver.Config{AuthorizeTimeout: 100 * time.Millisecond}, func(t *testing.T, l memory, _ *atomic.Int32) {
					from := dtlstest.NthAddr(10, 1, 5684)
					if hasSession {
						l.dial(t, from).Kill()
					}
					var alerts []record.Record
					sent := l.plaintextTo(func(r record.Record) bool {
						if r.Type != record.TypeAlert {
							return false
						}
						alerts = append(alerts, r.Clone())
						return len(alerts) == 1
					})
					_, err := dtlstest.Handshake(l.network.Dial(from, l.addr()), unhurried(device(identity, "", "key")))
					require.ErrorContains(t, err, alert)
					sent()
					require.Len(t, alerts, 2)
					assert.Equal(t, alerts[0].Fragment(), alerts[1].Fragment())
					assert.Greater(t, alerts[1].Sequence, alerts[0].Sequence)
					s := requireSums(t, l.Listener)
					assert.EqualValues(t, 1, s.Denied+s.AuthorizeTimedOut, "it is counted once")
					assert.Zero(t, s.ToldToRestart)
					if hasSession {
						assert.Equal(t, 1, s.Established)
						assert.Zero(t, s.Replaced)
					}
				})
			}
		})
	}
}

// repeatLastFlight sends what seems to be the last flight of a client, n times.
func (l memory) repeatLastFlight(from netip.AddrPort, n int) {
	for i := range n {
		message := dtlstest.Message(record.MessageClientKeyExchange, 2, 0, 0)
		l.network.Inject(from, l.addr(), dtlstest.Plaintext(record.TypeHandshake, uint64(i+100), message...))
		time.Sleep(time.Second)
	}
	synctest.Wait()
}

// TestLastFlightOfAnotherIsNotAnswered: anybody can send one in the name of a client. One that
// was refused is told twice in half a minute. One that was admitted after that gets nothing: an
// alert in plaintext ends the session of many a client.
func TestLastFlightOfAnotherIsNotAnswered(t *testing.T) {
	t.Parallel()
	withAuthorize(t, dtlsserver.Config{}, func(t *testing.T, l memory, _ *atomic.Int32) {
		from := dtlstest.NthAddr(10, 1, 5684)
		first := l.dial(t, from)
		first.Kill()
		alerts := 0
		l.plaintextTo(func(r record.Record) bool {
			if r.Type == record.TypeAlert {
				alerts++
			}
			return false
		})
		l.repeatLastFlight(from, 10)
		require.Zero(t, alerts, "it was never refused")
		_, err := dtlstest.Handshake(l.network.Dial(from, l.addr()), unhurried(device(denied, "", "key")))
		require.Error(t, err)
		alerts = 0
		l.repeatLastFlight(from, 20)
		assert.Equal(t, 2, alerts)
		client := l.dial(t, from)
		time.Sleep(time.Minute)
		alerts = 0
		before := l.Stats().Plaintext
		l.repeatLastFlight(from, 20)
		assert.Zero(t, alerts)
		assert.EqualValues(t, before+20, l.Stats().Plaintext)
		assert.Equal(t, 1, requireSums(t, l.Listener).Established)
		client.Kill()
	})
}

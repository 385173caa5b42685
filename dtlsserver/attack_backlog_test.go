// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestFlightOfTheBacklogDoesNotDisturbASession: a client's first flight waits in the
// backlog, and the client begins anew and gets in by another one. Nobody answers the first
// one any more, which could end the client's session. The flight of a client that had the
// session before is answered: it has lost its state.
func TestFlightOfTheBacklogDoesNotDisturbASession(t *testing.T) {
	t.Parallel()
	for _, before := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			v := newVictim(t, pskWith(), dtlsserver.Config{Handshakes: 1})
			from := dtlstest.NthAddr(10, 1, 5684)
			get := func() *dtlstest.Client {
				client := v.network.DialClient(t, from, v.addr(), v.config)
				dtlstest.Echo(t, client, "x")
				return client
			}
			if before {
				get().Kill()
			}
			v.occupyFrom(t, dtlstest.NthAddr(20, 1, 5684), numbered(1)) // takes the place
			synctest.Wait()
			v.occupyFrom(t, from, numbered(2))
			synctest.Wait()
			require.Equal(t, 1, v.Stats().Backlog)
			var client *dtlstest.Client
			if !before {
				time.Sleep(dtlsserver.LongPatience)
				client = get() // displaces the stranger
			} else {
				time.Sleep(dtlsserver.DefaultHandshakeTimeout) // that of the stranger
			}
			synctest.Wait()
			asked := 0
			v.network.SetHook(dtlstest.ToClient, func(datagram []byte) bool {
				if r, _, _ := record.Next(datagram); r.Type == record.TypeHandshake && r.Epoch == 0 {
					asked++
				}
				return true
			})
			time.Sleep(time.Second)
			s := v.Stats()
			assert.Zero(t, s.Backlog)
			if before {
				assert.Equal(t, 1, s.HalfOpen, "%+v", s)
				return
			}
			assert.Zero(t, s.HalfOpen, "%+v", s)
			assert.Zero(t, asked)
			dtlstest.Echo(t, client, "still here")
		})
	}
}

// TestClientOfTheBacklogGetsIn: a client's first flight waits in the backlog, or the second one
// if that has the cookie, while others send theirs. The client repeats nothing.
func TestClientOfTheBacklogGetsIn(t *testing.T) {
	t.Parallel()
	attack(t, pskWith(), dtlsserver.Config{Handshakes: 1}, func(t *testing.T, v *victim) {
		v.occupyFrom(t, dtlstest.NthAddr(20, 1, 5684), numbered(1))
		c := v.client(t)
		if statelessCookie {
			asks(t, c)
		}
		c.SendHello()
		time.Sleep(roundTrip)
		require.Equal(t, 1, v.Stats().Backlog)
		for n := range 10 {
			v.network.Inject(dtlstest.NthAddr(30, n, 5684), v.addr(), forgedCookie(byte(n)))
		}
		if !statelessCookie {
			require.True(t, c.Await(2*dtlsserver.DefaultHandshakeTimeout, func() bool { return c.Heard(record.MessageHelloVerifyRequest) }))
			c.SendHello()
		}
		require.True(t, c.Await(2*dtlsserver.DefaultHandshakeTimeout, func() bool { return c.Heard(record.MessageServerHelloDone) }), "%+v", v.Stats())
		finishes(t, c)
	})
}

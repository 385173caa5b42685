// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// dialThrough has the client connect, with rewrite in its way to the server.
func (r *resumption) dialThrough(t *testing.T, l *dtlsserver.Listener, rewrite func(datagram []byte, send func([]byte) error) error) *dtlstest.Client {
	t.Helper()
	c, err := dtlstest.Handshake(dtlstest.Rewrite(r.socket(l, nil), rewrite), r.client)
	require.NoError(t, err)
	t.Cleanup(c.Kill)
	return c
}

// Nothing that anybody can forge, sent between the client's ClientHello and its last
// flight, keeps it from resuming its session, or removes that.
func TestForgeriesDoNotKeepFromResuming(t *testing.T) {
	t.Parallel()
	another := dtlstest.RandomOf(9)
	forgedHello := func(messageSeq uint16, random record.Random) []byte {
		return dtlstest.ClientHello{Sequence: 9, MessageSeq: messageSeq, Random: random, Cookie: make([]byte, 20)}.Datagram()
	}
	// own is the random of the client's ClientHello, which an eavesdropper knows.
	for name, forge := range map[string]func(send func([]byte), own record.Random, flight []byte){
		"a ClientHello": func(send func([]byte), _ record.Random, _ []byte) {
			send(dtlstest.Hello(9))
		},
		"a second ClientHello": func(send func([]byte), own record.Random, _ []byte) {
			send(forgedHello(1, another))
			send(forgedHello(1, own))
		},
		"a third ClientHello": func(send func([]byte), own record.Random, _ []byte) {
			send(forgedHello(2, another))
			send(forgedHello(2, own))
		},
		"a handshake message": func(send func([]byte), _ record.Random, _ []byte) {
			header := dtlstest.FragmentHeader(record.MessageClientHello, 1, 1, 0, 1)
			send(dtlstest.Plaintext(record.TypeHandshake, 9, append(header, 0)...))
		},
		"application data": func(send func([]byte), _ record.Random, _ []byte) {
			send(dtlstest.Plaintext(record.TypeApplicationData, 9, 'x'))
		},
		"unauthentic records": func(send func([]byte), _ record.Random, _ []byte) {
			for n := range 3 * dtlsserver.MaxHeldRecords {
				send(dtlstest.Unauthentic(record.TypeApplicationData, uint64(n+100), 40))
			}
		},
		"an alert after its Finished": func(send func([]byte), _ record.Random, flight []byte) {
			send(dtlstest.Records(flight)[1].Raw)
			time.Sleep(time.Millisecond) // until the server has taken it
			send(dtlstest.Plaintext(record.TypeAlert, 9, record.LevelFatal, 40))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			withResumption(t, func(t *testing.T, r *resumption) {
				l, sessions, _ := r.begin(t)
				forged := false
				var own record.Random
				c := r.dialThrough(t, l, func(datagram []byte, send func([]byte) error) error {
					if hello, ok := record.ParseClientHello(dtlstest.Records(datagram)[0]); ok {
						own = hello.Random
					}
					if dtlstest.Has(datagram, record.TypeChangeCipherSpec, false) {
						forge(func(b []byte) { assert.NoError(t, send(b)) }, own, datagram)
						forged = true
						time.Sleep(time.Millisecond) // until the server has taken it
					}
					return send(datagram)
				})
				require.True(t, forged)
				dtlstest.Echo(t, c, "established")
				assert.True(t, dtlstest.Receive(t, sessions).Resumed())
				stats := l.Stats()
				assert.Zero(t, stats.Failed)
				assert.Zero(t, stats.Displaced)
				assert.Zero(t, r.cfg.Resumption.Stats().Deletes)
			})
		})
	}
}

// While the client's Finished is missing, a record that only the client can have sealed
// validates its address: the server's flight is repeated without a limit.
func TestDataInPlaceOfFinishedValidatesAddress(t *testing.T) {
	t.Parallel()
	if cookieInResumption {
		t.Skip("the cookie has validated the address")
	}
	withResumption(t, func(t *testing.T, r *resumption) {
		r.cfg.HandshakeTimeout = time.Hour
		l, _, _ := r.begin(t)
		r.network.SetHook(dtlstest.ToServer, func(b []byte) bool { return !dtlstest.Has(b, record.TypeHandshake, true) })
		var flights atomic.Int32
		r.network.SetHook(dtlstest.ToClient, func(b []byte) bool {
			if dtlstest.Has(b, record.TypeChangeCipherSpec, false) {
				flights.Add(1)
			}
			return true
		})
		c, err := r.tryDial(l, nil)
		require.NoError(t, err)
		t.Cleanup(c.Kill)
		time.Sleep(10 * time.Minute)
		assert.Zero(t, l.ValidatedHandshakes())
		before := flights.Load()
		assert.Positive(t, before)
		assert.Less(t, before, int32(5), "the limit of amplification applies")

		_, err = c.Write([]byte("am I heard?"))
		require.NoError(t, err)
		time.Sleep(10 * time.Minute)
		assert.Equal(t, 1, l.ValidatedHandshakes())
		assert.GreaterOrEqual(t, flights.Load(), before+10, "once a minute")
	})
}

// An abbreviated handshake is completed whichever of its datagrams is lost: a ClientHello, a
// flight of the server's, or one of the first application data. Pion's client never repeats
// its last flight, which is number 2, or number 4 after a cookie.
func TestResumedDespiteLoss(t *testing.T) {
	t.Parallel()
	numbers := []int{0, 1, 3, 4}
	if cookieInResumption {
		numbers = []int{0, 1, 2, 3, 5, 6}
	}
	for _, roundTrip := range []time.Duration{0, 300 * time.Millisecond} {
		for _, lost := range numbers {
			t.Run(fmt.Sprintf("round trip %v, datagram %d", roundTrip, lost), func(t *testing.T) {
				t.Parallel()
				withResumption(t, func(t *testing.T, r *resumption) {
					r.network.SetRoundTrip(roundTrip)
					r.server.FlightInterval, r.client.FlightInterval = time.Second, time.Second
					l, sessions, _ := r.begin(t)
					time.Sleep(roundTrip)
					synctest.Wait() // until nothing of the first visit is under way
					lose := dtlstest.LoseNth(lost)
					r.network.SetHook(dtlstest.ToServer, lose)
					r.network.SetHook(dtlstest.ToClient, dtlstest.All(dtlstest.UniqueNumbers(t), lose))

					c, err := r.tryDial(l, nil)
					require.NoError(t, err)
					t.Cleanup(c.Kill)
					s := dtlstest.Receive(t, sessions)
					require.True(t, s.Resumed())
					// Application data that is lost is not repeated.
					dtlstest.Eventually(t, func() bool {
						_, err := c.Write([]byte("x"))
						require.NoError(t, err)
						require.NoError(t, c.SetReadDeadline(time.Now().Add(2*time.Second)))
						n, err := c.Read(make([]byte, 10))
						return err == nil && n == 1
					}, "an echo")
					assert.EqualValues(t, 1, l.Stats().Resumed)
				})
			})
		}
	}
}

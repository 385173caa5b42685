// SPDX-License-Identifier: MIT

package dtlstest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/internal/record"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTimer(t *testing.T) {
	seconds := func(times ...int) []time.Duration {
		var all []time.Duration
		for _, s := range times {
			all = append(all, time.Duration(s)*time.Second)
		}
		return all
	}
	assert.Equal(t, seconds(0, 1, 3, 7, 15, 31, 63, 123, 183), OpenSSLTimer.Sendings(200*time.Second))
	assert.Equal(t, seconds(0, 1, 3, 7, 15, 31, 63), MbedTLSTimer.Sendings(time.Hour))
	assert.Equal(t, seconds(0, 9, 27, 63, 123), DeviceTimer.Sendings(150*time.Second))
	assert.Len(t, OpenSSLTimer.Sendings(time.Hour), 13)
	assert.Equal(t, time.Minute, DeviceTimer.Wait(1000))
}

// persistent returns a client that nobody answers yet.
func persistent(n *Network, timer Timer) Persistent {
	return Persistent{Network: n, From: clientAddr, Server: serverAddr, Config: PSKConfig("key"), Timer: timer}
}

// watch notes when the datagrams of a direction were sent.
func watch(n *Network, d Direction) (times func() []time.Duration, datagrams func() [][]byte) {
	var mu sync.Mutex
	var at []time.Duration
	var all [][]byte
	begin := time.Now()
	n.SetFilter(d, func(d Datagram, forward func([]byte)) {
		mu.Lock()
		at, all = append(at, time.Since(begin)), append(all, d.Payload)
		mu.Unlock()
		forward(d.Payload)
	})
	times = func() []time.Duration { mu.Lock(); defer mu.Unlock(); return at }
	return times, func() [][]byte { mu.Lock(); defer mu.Unlock(); return all }
}

func TestBackoffRepeatsFirstHello(t *testing.T) {
	for name, timer := range Timers {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const during = 120 * time.Second
				n := NewNetwork(1)
				n.Listen(serverAddr)
				times, datagrams := watch(n, ToServer)
				ctx, cancel := context.WithTimeout(t.Context(), during)
				defer cancel()
				_, done, err := persistent(n, timer).Connect(ctx)
				assert.ErrorIs(t, err, context.DeadlineExceeded)
				assert.Equal(t, timer.Sendings(during-time.Nanosecond), times())
				assert.Equal(t, Attempts{Handshakes: 1, Repetitions: len(times()) - 1}, done)
				for number, d := range datagrams() {
					r := Records(d)
					require.Len(t, r, 1)
					assert.EqualValues(t, number, r[0].Sequence)
					hello, ok := record.ParseClientHello(r[0])
					assert.True(t, ok && len(hello.Cookie) == 0)
				}
			})
		})
	}
}

func TestMbedTLSClientGivesUpAndBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork(1)
		n.Listen(serverAddr)
		times, _ := watch(n, ToServer)
		p := persistent(n, MbedTLSTimer)
		p.Attempts = 2
		begin := time.Now()
		_, done, err := p.Connect(t.Context())
		assert.ErrorIs(t, err, errAttempts)
		assert.Equal(t, Attempts{Handshakes: 2, GivenUp: 2, Repetitions: 12}, done)
		assert.Equal(t, 2*123*time.Second, time.Since(begin))
		assert.Equal(t, 123*time.Second, times()[7])
	})
}

// serveOne is pionServer, which ends with the test.
func serveOne(t *testing.T, n *Network, config *dtls.Config) {
	t.Helper()
	conns := pionServer(t, n, clientAddr, config)
	t.Cleanup(func() {
		if c, ok := <-conns; ok {
			_ = c.Close()
		}
	})
}

// serverStore is the dtls.SessionStore of a server.
type serverStore struct{ ClientStore }

func (s *serverStore) Get(id []byte) (dtls.Session, error) {
	if session := s.Session(); string(session.ID) == string(id) {
		return session, nil
	}
	return dtls.Session{}, nil
}

// A datagram is lost, each in turn, of full and of abbreviated handshakes. The client
// gets in within the time of a timer or two, and its data arrive.
func TestBackoffOvercomesLostDatagram(t *testing.T) {
	for _, resumed := range []bool{false, true} {
		datagrams := 6
		if resumed {
			datagrams = 3 // pion asks for no cookie then
		}
		for lost := range datagrams {
			t.Run(fmt.Sprintf("resumed=%t/lost=%d", resumed, lost), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					n := NewNetwork(1)
					n.SetRoundTrip(300 * time.Millisecond)
					server := slowPSK()
					server.SessionStore = &serverStore{}
					serveOne(t, n, server)
					p := persistent(n, OpenSSLTimer)
					p.Config.SessionStore = &ClientStore{}
					connect := func() (*Client, Attempts) {
						client, done, err := p.Connect(t.Context())
						require.NoError(t, err)
						return client, done
					}
					if resumed {
						client, _ := connect()
						require.NoError(t, client.Close())
						time.Sleep(5 * time.Second)
						serveOne(t, n, server)
					}
					lose, unique := LoseNth(lost), UniqueNumbers(t)
					n.SetHook(ToServer, All(unique, lose))
					n.SetHook(ToClient, lose)
					begin := time.Now()
					client, done := connect()
					t.Cleanup(client.Kill)
					assert.LessOrEqual(t, time.Since(begin), 2500*time.Millisecond)
					time.Sleep(5 * time.Second) // the server is done, too
					Echo(t, client, "in")
					Echo(t, client, "and again")
					assert.Equal(t, 1, done.Handshakes)
				})
			})
		}
	}
}

// Every datagram comes twice, and all come late: neither the client nor its timer is
// confused.
func TestBackoffWithDuplicates(t *testing.T) {
	for name, timer := range Timers {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := NewNetwork(1)
				for d := range directions {
					n.SetConditions(d, Conditions{Delay: 3 * time.Second, Jitter: 2 * time.Second, Duplication: 1})
				}
				server := slowPSK()
				serveOne(t, n, server)
				n.SetHook(ToServer, UniqueNumbers(t))
				client, done, err := persistent(n, timer).Connect(t.Context())
				require.NoError(t, err)
				t.Cleanup(client.Kill)
				time.Sleep(20 * time.Second)
				Echo(t, client, "in")
				assert.Equal(t, 1, done.Handshakes)
				repetitions := client.Transport.Conn.(*Backoff).Repetitions()
				time.Sleep(10 * time.Minute)
				assert.Equal(t, repetitions, client.Transport.Conn.(*Backoff).Repetitions(), "an established client repeats nothing")
			})
		})
	}
}

// A fatal alert in plaintext ends a handshake. The client begins a new one at once, with
// another random, and does not name its session again.
func TestPersistentClientBeginsAnewAfterFatalAlert(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork(1)
		serveOne(t, n, slowPSK())
		var mu sync.Mutex
		randoms, named := map[record.Random]bool{}, []int{}
		n.SetFilter(ToServer, func(d Datagram, forward func([]byte)) {
			mu.Lock()
			defer mu.Unlock()
			hello, ok := record.ParseClientHello(Records(d.Payload)[0])
			if ok && len(hello.Cookie) == 0 {
				randoms[hello.Random] = true
				named = append(named, len(hello.SessionID))
			}
			if len(randoms) <= 3 {
				n.Inject(d.To, d.From, Plaintext(record.TypeAlert, 7, record.LevelFatal, 40))
				return
			}
			forward(d.Payload)
		})
		p := persistent(n, OpenSSLTimer)
		p.Config.SessionStore = &ClientStore{session: dtls.Session{ID: make([]byte, 32), Secret: make([]byte, 48)}}
		begin := time.Now()
		client, done, err := p.Connect(t.Context())
		require.NoError(t, err)
		t.Cleanup(client.Kill)
		Echo(t, client, "in")
		assert.Equal(t, Attempts{Handshakes: 4, Refused: 3}, done)
		assert.Equal(t, []int{32, 0, 0, 0}, named)
		assert.Zero(t, time.Since(begin))
	})
}

func TestPersistentClientMakesSoManyAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork(1)
		n.Listen(serverAddr)
		n.SetFilter(ToServer, func(d Datagram, _ func([]byte)) {
			n.Inject(d.To, d.From, Plaintext(record.TypeAlert, 7, record.LevelFatal, 40))
		})
		p := persistent(n, OpenSSLTimer)
		_, done, err := p.Connect(t.Context())
		assert.ErrorIs(t, err, errAttempts)
		assert.Equal(t, Attempts{Handshakes: defaultAttempts, Refused: defaultAttempts}, done)
	})
}

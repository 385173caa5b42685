// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/resume"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// slowStore is a store whose Puts take as long as take says, and that waits for them.
func slowStore(t *testing.T, take func(ctx context.Context) error) (*resume.Store, *faultyBackend) {
	t.Helper()
	backend := newFaultyBackend(t)
	fault := putFault(take)
	backend.put.Store(&fault)
	return newStore(t, resume.Config{Backend: backend, LookupTimeout: time.Minute}), backend
}

// untilTimeout is a Put that hangs until its time is over.
func untilTimeout(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

// finalFlights counts the server's last flights of full handshakes on their way to clients.
type finalFlights struct{ atomic.Int32 }

func (f *finalFlights) count(datagram []byte) bool {
	if dtlstest.Has(datagram, record.TypeChangeCipherSpec, false) {
		f.Add(1)
	}
	return true
}

// TestSessionCanBeResumedAtOnce: a client that comes back as soon as it is connected, from
// another port, resumes its session, however long the store takes.
func TestSessionCanBeResumedAtOnce(t *testing.T) {
	t.Parallel()
	withResumption(t, func(t *testing.T, r *resumption) {
		const clients = 40
		r.network.SetRoundTrip(300 * time.Millisecond)
		r.network.SetFilter(dtlstest.ToClient, uniqueForEach(t))
		var takes atomic.Int64 // 0, 20, … 780 ms
		store, backend := slowStore(t, func(context.Context) error {
			time.Sleep(time.Duration(takes.Load()))
			return nil
		})
		r.cfg.Resumption = store
		l, sessions := r.listen(t)
		resumed, stored := 0, 0
		for n := range clients {
			takes.Store(int64(n) * int64(20*time.Millisecond))
			r.kept = &dtlstest.ClientStore{}
			r.client.SessionStore = r.kept
			c, err := r.tryDial(l, nil)
			require.NoError(t, err)
			if _, ok, _ := backend.Memory.Get(t.Context(), r.kept.Session().ID); ok {
				stored++
			}
			c.Kill()
			c, err = r.tryDial(l, nil)
			require.NoError(t, err)
			dtlstest.Echo(t, c, "again")
			assert.False(t, dtlstest.Receive(t, sessions).Resumed())
			if dtlstest.Receive(t, sessions).Resumed() {
				resumed++
			}
			c.Kill()
			time.Sleep(time.Second) // what is stored late does not count for the next client
		}
		assert.Equal(t, clients, stored, "when the client's handshake returns")
		assert.Equal(t, clients, resumed)
	})
}

// uniqueForEach returns a filter that passes everything and fails the test if a sequence
// number is used twice for the same client.
func uniqueForEach(t *testing.T) dtlstest.Filter {
	var mu sync.Mutex
	hooks := map[netip.AddrPort]dtlstest.Hook{}
	return func(d dtlstest.Datagram, forward func([]byte)) {
		mu.Lock()
		unique := hooks[d.To]
		if unique == nil {
			unique = dtlstest.UniqueNumbers(t)
			hooks[d.To] = unique
		}
		mu.Unlock()
		unique(d.Payload)
		forward(d.Payload)
	}
}

// TestFinalFlightWaitsForStore: a client repeats its flight while its session is being
// stored. It gets the server's last flight once, after that, and again if it was lost.
func TestFinalFlightWaitsForStore(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		roundTrip time.Duration
		lose      int32
	}{
		"no round trip": {}, "round trip": {roundTrip: 50 * time.Millisecond}, "lost": {lose: 1}, "lost often": {lose: 5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			withResumption(t, func(t *testing.T, r *resumption) {
				const takes = 950 * time.Millisecond
				var flights, repeats finalFlights
				var early atomic.Int32
				store, _ := slowStore(t, func(context.Context) error {
					time.Sleep(takes)
					early.Store(flights.Load())
					return nil
				})
				r.cfg.Resumption = store
				r.client.FlightInterval = 100 * time.Millisecond
				r.network.SetRoundTrip(test.roundTrip)
				r.network.SetHook(dtlstest.ToServer, repeats.count)
				r.network.SetHook(dtlstest.ToClient, dtlstest.All(dtlstest.UniqueNumbers(t), flights.count, func(datagram []byte) bool {
					return !dtlstest.Has(datagram, record.TypeChangeCipherSpec, false) || flights.Load() > test.lose
				}))
				l, sessions := r.listen(t)
				begin := time.Now()
				c, s := r.dial(t, l, sessions, nil)
				assert.GreaterOrEqual(t, time.Since(begin), takes)
				assert.GreaterOrEqual(t, repeats.Load(), int32(9), "the client has repeated its flight")
				assert.Zero(t, early.Load())
				if test.roundTrip == 0 {
					assert.Equal(t, test.lose+1, flights.Load())
				}
				dtlstest.Echo(t, c, "later")
				assert.False(t, s.Resumed())
				stats := l.Stats()
				assert.EqualValues(t, 1, stats.Completed)
				assert.EqualValues(t, 1, stats.Started)
				assert.Zero(t, stats.Failed+stats.Displaced+stats.QueueFull+stats.Forged)
				r.requireStored(t, 1)
			})
		})
	}
}

// TestFailingStoreStopsNoHandshake: the client gets in all the same, after a second if the
// store does not answer. Once the store works again it takes the session with its data.
func TestFailingStoreStopsNoHandshake(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		put  putFault
		cost time.Duration
	}{
		"an error":              {func(context.Context) error { return errors.New("down") }, 0},
		"no answer":             {untilTimeout, time.Second},
		"no answer, no context": {func(context.Context) error { time.Sleep(time.Hour); return nil }, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			withResumption(t, func(t *testing.T, r *resumption) {
				store, backend := slowStore(t, test.put)
				r.cfg.Resumption = store
				r.server.FlightInterval, r.client.FlightInterval = time.Hour, time.Hour
				l, sessions := r.listen(t)
				begin := time.Now()
				c, s := r.dial(t, l, sessions, nil)
				assert.Equal(t, test.cost, time.Since(begin))
				r.requireStored(t, 0)

				backend.put.Store(nil)
				require.NoError(t, s.SetSessionData([]byte("mine")))
				r.requireStored(t, 1)
				c.Kill()
				_, s = r.dial(t, l, sessions, nil)
				assert.True(t, s.Resumed())
				assert.Equal(t, "mine", string(s.SessionData()))
				assert.EqualValues(t, 2, l.Stats().Completed)
				require.NoError(t, l.Close())
				time.Sleep(2 * time.Hour) // until the Put has returned
			})
		})
	}
}

// TestNothingIsSentAfterDisplacement: a handshake ends while its session is being stored,
// because the listener is closed or shut down, or another one takes its place. Its client
// does not learn that it was done.
func TestNothingIsSentAfterDisplacement(t *testing.T) {
	t.Parallel()
	for name, displace := range map[string]func(t *testing.T, r *resumption, l *dtlsserver.Listener){
		"Close":    func(t *testing.T, _ *resumption, l *dtlsserver.Listener) { assert.NoError(t, l.Close()) },
		"Shutdown": func(t *testing.T, _ *resumption, l *dtlsserver.Listener) { assert.NoError(t, l.Shutdown(t.Context())) },
		"a newcomer": func(t *testing.T, r *resumption, l *dtlsserver.Listener) {
			memory{l, r.network}.occupy(t, 1)
			synctest.Wait()
			assert.EqualValues(t, 1, l.Stats().Displaced)
		},
	} {
		for way, put := range map[string]putFault{
			" heeds the context": untilTimeout, " does not": func(context.Context) error { time.Sleep(time.Minute); return nil },
		} {
			t.Run(name+", store"+way, func(t *testing.T) {
				t.Parallel()
				withResumption(t, func(t *testing.T, r *resumption) {
					stores := make(chan struct{})
					store, _ := slowStore(t, func(ctx context.Context) error { close(stores); return put(ctx) })
					r.cfg.Resumption = store
					r.cfg.Handshakes = 1
					r.cfg.HandshakeTimeout = 10 * time.Second
					var flights finalFlights
					r.network.SetHook(dtlstest.ToClient, flights.count)
					// The handshake is old enough to be displaced.
					r.network.SetFilter(dtlstest.ToServer, func(d dtlstest.Datagram, forward func([]byte)) {
						if dtlstest.Has(d.Payload, record.TypeChangeCipherSpec, false) {
							time.Sleep(6 * time.Second)
						}
						forward(d.Payload)
					})
					l, _ := r.listen(t)
					dtlstest.WithTimeout(r.client, 20*time.Second)
					r.client.FlightInterval = time.Hour
					dialed := make(chan error)
					go func() { _, err := r.tryDial(l, nil); dialed <- err }()
					<-stores
					require.Equal(t, 1, l.Stats().HalfOpen)
					begin := time.Now()
					displace(t, r, l)
					assert.Zero(t, time.Since(begin), "nobody waits for the store")
					assert.Error(t, <-dialed)
					assert.Zero(t, flights.Load())
					stats := l.Stats()
					assert.Zero(t, stats.Completed)
					assert.Zero(t, stats.Established)
					time.Sleep(2 * time.Minute)
					assert.Zero(t, flights.Load())
				})
			})
		}
	}
}

// TestFinalFlightComesBeforeCloseNotify: a session is ended before the server's last flight
// is on its way.
func TestFinalFlightComesBeforeCloseNotify(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(t *testing.T, l memory){
		"Close":    func(t *testing.T, l memory) { assert.NoError(t, l.Close()) },
		"eviction": func(t *testing.T, l memory) { l.dial(t, netip.AddrPort{}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, dtlsserver.Config{Sessions: 1}, func(t *testing.T, l memory) {
				var mu sync.Mutex
				var sent []byte // the type of each record
				from := dtlstest.NthAddr(198, 1, 5000)
				sending := make(chan struct{})
				l.network.SetFilter(dtlstest.ToClient, func(d dtlstest.Datagram, forward func([]byte)) {
					if d.To == from {
						if dtlstest.Has(d.Payload, record.TypeChangeCipherSpec, false) {
							close(sending)
							time.Sleep(100 * time.Millisecond)
						}
						mu.Lock()
						for _, r := range dtlstest.Records(d.Payload) {
							sent = append(sent, byte(r.Type))
						}
						mu.Unlock()
					}
					forward(d.Payload)
				})
				go func() {
					if c, err := dtlstest.Handshake(l.network.Dial(from, l.addr()), psk()); err == nil {
						c.Kill()
					}
				}()
				<-sending
				for range l.Sessions() {
					assert.Fail(t, "a session on which a Write would come first")
				}
				end(t, l)
				time.Sleep(time.Second)
				mu.Lock()
				defer mu.Unlock()
				want := []byte{byte(record.TypeChangeCipherSpec), byte(record.TypeHandshake), byte(record.TypeAlert)}
				require.GreaterOrEqual(t, len(sent), len(want))
				assert.Equal(t, want, sent[len(sent)-len(want):])
			})
		})
	}
}

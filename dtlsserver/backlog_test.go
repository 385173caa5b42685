// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func newBacklog(handshakes int) *backlog {
	b := new(backlog)
	b.init(handshakes)
	return b
}

// flightOf returns a flight with a key of its own.
func flightOf(key uint64, size int, arrived time.Time) firstFlight {
	return firstFlight{key: key, datagram: make([]byte, size), arrived: arrived}
}

// taken takes a flight, and returns its key, or 0 if there is none.
func (b *backlog) taken(t *testing.T, now time.Time) uint64 {
	t.Helper()
	f, ok := b.take(now)
	assert.Equal(t, ok, f.key != 0)
	return f.key
}

// check checks the invariants.
func (b *backlog) check(t *testing.T) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	assert.LessOrEqual(t, len(b.flights), b.maxFlights)
	assert.LessOrEqual(t, b.bytes, b.maxBytes)
	assert.Equal(t, len(b.flights), b.noRoom.Len()+b.shareTaken.Len())
	bytes := 0
	for _, cause := range []refusal{noRoom, shareTaken} {
		for e := b.listOf(cause).Front(); e != nil; e = e.Next() {
			w := e.Value.(*waitingFlight)
			assert.Same(t, e, b.flights[w.key])
			assert.Equal(t, cause, w.cause)
			bytes += w.size()
		}
	}
	assert.Equal(t, b.bytes, bytes)
}

func TestBacklogGivesNewestFirst(t *testing.T) {
	t.Parallel()
	b, now := newBacklog(10), time.Now()
	assert.Zero(t, b.taken(t, now))
	for key := range uint64(5) {
		b.put(flightOf(key+1, 100, now), noRoom)
		b.check(t)
	}
	assert.Equal(t, 5, b.len())
	b.put(flightOf(2, 100, now), noRoom) // is repeated
	assert.Equal(t, 5, b.len())
	for _, want := range []uint64{2, 5, 4, 3, 1, 0, 0} {
		assert.Equal(t, want, b.taken(t, now))
		b.check(t)
	}
	assert.Zero(t, b.bytes)
}

// TestBacklogGivesThoseWithShareTakenLast: a repeated flight may have another cause.
func TestBacklogGivesThoseWithShareTakenLast(t *testing.T) {
	t.Parallel()
	b, now := newBacklog(10), time.Now()
	for key := range uint64(6) {
		cause := noRoom
		if key >= 3 {
			cause = shareTaken
		}
		b.put(flightOf(key+1, 100, now), cause)
	}
	b.put(flightOf(1, 100, now), shareTaken)
	b.put(flightOf(5, 100, now), noRoom)
	b.check(t)
	for _, want := range []uint64{5, 3, 2, 1, 6, 4} {
		assert.Equal(t, want, b.taken(t, now))
		b.check(t)
	}
}

// TestBacklogIsBounded in flights and in bytes: the oldest ones go, of the cause that has
// more.
func TestBacklogIsBounded(t *testing.T) {
	t.Parallel()
	b, now := newBacklog(1), time.Now()
	for key := range uint64(4) {
		b.put(flightOf(1000+key, 10, now), shareTaken)
	}
	for key := range uint64(100) {
		b.put(flightOf(1+key, 10, now), noRoom)
		b.check(t)
	}
	assert.Equal(t, backlogFactor, b.len())
	assert.Equal(t, 4, b.shareTaken.Len(), "a flood of strangers displaces none of these")
	for key := range uint64(12) {
		assert.Equal(t, 100-key, b.taken(t, now))
	}
	assert.EqualValues(t, 1003, b.taken(t, now))

	b = newBacklog(1 << 20)
	const size = 10_000
	fit := backlogBytes / (size + flightOverhead)
	for key := range uint64(2 * fit) {
		b.put(flightOf(1+key, size, now), noRoom)
	}
	b.check(t)
	assert.Equal(t, fit, b.len())
	assert.EqualValues(t, 2*fit, b.taken(t, now))
	b.put(flightOf(1, backlogBytes, now), noRoom) // can never fit
	b.check(t)
	assert.Equal(t, fit-1, b.len())
}

// TestBacklogDropsOldFlights: their clients have given up.
func TestBacklogDropsOldFlights(t *testing.T) {
	t.Parallel()
	b, now := newBacklog(10), time.Now()
	b.put(flightOf(1, 10, now), noRoom)
	b.put(flightOf(2, 10, now), shareTaken)
	b.put(flightOf(3, 10, now.Add(time.Second)), noRoom)
	b.put(flightOf(4, 10, now), noRoom)
	assert.EqualValues(t, 3, b.taken(t, now.Add(maxFlightAge)))
	assert.Zero(t, b.taken(t, now.Add(maxFlightAge)))
	b.check(t)
	assert.Zero(t, b.len())
	b.put(flightOf(1, 10, now), noRoom)
	assert.EqualValues(t, 1, b.taken(t, now.Add(maxFlightAge-1)))
}

// TestBacklogPutDropsOldFlights of both causes, also while no place gets free.
func TestBacklogPutDropsOldFlights(t *testing.T) {
	t.Parallel()
	b, now := newBacklog(10), time.Now()
	for key, cause := range []refusal{noRoom, shareTaken, noRoom, shareTaken} {
		b.put(flightOf(1+uint64(key), 10, now.Add(time.Duration(key))), cause)
	}
	b.put(flightOf(5, 10, now.Add(maxFlightAge-1)), noRoom)
	assert.Equal(t, 5, b.len())
	b.put(flightOf(6, 10, now.Add(maxFlightAge)), shareTaken)
	assert.Equal(t, 5, b.len(), "without the first one")
	b.put(flightOf(7, 10, now.Add(maxFlightAge+2)), noRoom)
	b.check(t)
	for _, want := range []uint64{7, 5, 6, 4, 0} {
		assert.Equal(t, want, b.taken(t, now.Add(maxFlightAge+2)))
	}
}

func TestBacklogForgets(t *testing.T) {
	t.Parallel()
	b, now := newBacklog(10), time.Now()
	b.remove(1)
	b.put(flightOf(1, 10, now), noRoom)
	b.put(flightOf(2, 10, now), shareTaken)
	b.remove(1)
	b.remove(1)
	b.check(t)
	assert.EqualValues(t, 2, b.taken(t, now))
	b.remove(2)
	b.check(t)
	assert.Zero(t, b.bytes)
	assert.Empty(t, b.flights)
}

// TestBacklogIsCrowded from a quarter of Handshakes on.
func TestBacklogIsCrowded(t *testing.T) {
	t.Parallel()
	b, now := newBacklog(16), time.Now()
	for key := range uint64(4) {
		assert.False(t, b.isCrowded())
		b.put(flightOf(1+key, 10, now), []refusal{noRoom, shareTaken}[key%2])
	}
	assert.True(t, b.isCrowded())
	b.remove(1)
	assert.False(t, b.isCrowded())
}

// TestBacklogAgainstModel does random operations on a backlog and on a slice.
func TestBacklogAgainstModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(dtlstest.Scaled(20, 100)) {
		r := rand.New(rand.NewPCG(seed, 1))
		b, now := newBacklog(1), time.Now()
		b.maxBytes = 16 * (flightOverhead + 60)
		var model []waitingFlight // oldest first
		remove := func(key uint64) {
			for i, w := range model {
				if w.key == key {
					model = append(model[:i:i], model[i+1:]...)
					return
				}
			}
		}
		newest := func(cause refusal) int {
			for i := len(model) - 1; i >= 0; i-- {
				if model[i].cause == cause {
					return i
				}
			}
			return -1
		}
		for range 2000 {
			now = now.Add(time.Duration(r.IntN(5000)) * time.Millisecond)
			key := 1 + r.Uint64N(40)
			switch r.IntN(8) {
			case 0:
				b.remove(key)
				remove(key)
			case 1, 2:
				got := b.taken(t, now)
				var want uint64
				for want == 0 && len(model) > 0 {
					i := newest(noRoom)
					if i < 0 {
						i = newest(shareTaken)
					}
					if now.Sub(model[i].arrived) < maxFlightAge {
						want = model[i].key
					}
					remove(model[i].key)
				}
				require.Equal(t, want, got)
			default:
				f := flightOf(key, r.IntN(120), now)
				cause := []refusal{noRoom, shareTaken}[r.IntN(2)]
				b.put(f, cause)
				remove(key)
				model = append(model, waitingFlight{f, cause})
				model = slices.DeleteFunc(model, func(w waitingFlight) bool { return now.Sub(w.arrived) >= maxFlightAge })
				for {
					bytes, of := 0, map[refusal]int{}
					for _, w := range model {
						bytes += w.size()
						of[w.cause]++
					}
					if len(model) <= b.maxFlights && bytes <= b.maxBytes {
						break
					}
					longer := noRoom
					if of[shareTaken] > of[noRoom] {
						longer = shareTaken
					}
					for _, w := range model {
						if w.cause == longer {
							remove(w.key)
							break
						}
					}
				}
			}
			b.check(t)
			require.Equal(t, len(model), b.len())
			for _, w := range model {
				require.Contains(t, b.flights, w.key)
			}
		}
	}
}

// TestBacklogWithConcurrentCalls has goroutines put, take and remove flights.
func TestBacklogWithConcurrentCalls(t *testing.T) {
	t.Parallel()
	b, now := newBacklog(2), time.Now()
	var wg sync.WaitGroup
	for me := range uint64(8) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(me, 1))
			for range dtlstest.Scaled(2000, 20_000) {
				switch key := 1 + r.Uint64N(60); r.IntN(4) {
				case 0:
					b.remove(key)
				case 1:
					b.take(now)
				default:
					b.put(flightOf(key, r.IntN(200), now), []refusal{noRoom, shareTaken}[r.IntN(2)])
				}
				if r.IntN(64) == 0 {
					b.check(t)
				}
			}
		})
	}
	wg.Wait()
	b.check(t)
	for b.taken(t, now) != 0 {
	}
	b.check(t)
	assert.Zero(t, b.bytes)
}

// TestFlightKey: the key is of the address, the port and the ClientHello, not of the
// record that it came in.
func TestFlightKey(t *testing.T) {
	t.Parallel()
	now := time.Now()
	keyOf := func(addr string, h dtlstest.ClientHello) uint64 {
		return newFirstFlight(route{peer: netip.MustParseAddrPort(addr)}, h.Datagram(), now).key
	}
	hello := dtlstest.ClientHello{Random: dtlstest.RandomOf(1)}
	key := keyOf("192.0.2.1:5684", hello)
	repeated := hello
	repeated.Sequence = 7
	assert.Equal(t, key, keyOf("192.0.2.1:5684", repeated), "a client repeats it in a new record")
	seen := map[uint64]string{key: "first"}
	for what, k := range map[string]uint64{
		"another random":         keyOf("192.0.2.1:5684", dtlstest.ClientHello{Random: dtlstest.RandomOf(2)}),
		"another session":        keyOf("192.0.2.1:5684", dtlstest.ClientHello{Random: dtlstest.RandomOf(1), SessionID: []byte{1}}),
		"another port":           keyOf("192.0.2.1:5685", hello),
		"another port, by 256":   keyOf(fmt.Sprintf("192.0.2.1:%d", 5684+256), hello),
		"another address":        keyOf("192.0.2.2:5684", hello),
		"an address of IPv6":     keyOf("[2001:db8::1]:5684", hello),
		"the next address of it": keyOf("[2001:db8::2]:5684", hello),
	} {
		assert.Empty(t, seen[k], what)
		seen[k] = what
	}
	f := newFirstFlight(route{}, hello.Datagram(), now)
	assert.Equal(t, now, f.arrived)
	assert.Equal(t, flightOverhead+len(f.datagram), f.size())
	assert.GreaterOrEqual(t, len(f.datagram), record.HeaderSize)
}

// SPDX-License-Identifier: MIT

package dsm

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestConcurrentCallsNeitherLoseNorDuplicateSessions runs goroutines with named roles on
// few sessions, so that they often use the same session at the same time.
func TestConcurrentCallsNeitherLoseNorDuplicateSessions(t *testing.T) {
	for name, usesWait := range map[string]bool{"small table": false, "uses wait": true} {
		t.Run(name, func(t *testing.T) { testConcurrentCalls(t, usesWait) })
	}
}

func testConcurrentCalls(t *testing.T, usesWait bool) {
	const slots, peers, rounds = 16, 24, 4000
	table, err := New[*atomic.Int32](slots)
	require.NoError(t, err)
	table.slots.usesWait = usesWait
	socks := []Sock{{}, NewSock()}
	// Each value counts how often it was evicted.
	var mu sync.Mutex
	var values []*atomic.Int32
	store := func(i int, state State) (Handle[*atomic.Int32], State) {
		value := new(atomic.Int32)
		h, previous := table.Hold(socks[i%2], &Session[*atomic.Int32]{peerNo(i % peers), value}, state, false)
		if previous == StateNone && state != StateNone {
			mu.Lock()
			values = append(values, value)
			mu.Unlock()
		}
		return h, previous
	}
	handles := make(chan Handle[*atomic.Int32], 64)
	offer := func(h Handle[*atomic.Int32]) {
		select {
		case handles <- h:
		default:
		}
	}
	roles := map[string]func(i int){
		"storer": func(i int) {
			h, _ := store(i*7, State(1+i%2))
			offer(h)
		},
		"user": func(i int) {
			select {
			case h := <-handles:
				h.Use()
				offer(h)
			default:
			}
		},
		"freer": func(i int) {
			select {
			case h := <-handles:
				h.Free()
			default:
			}
		},
		"rebinder": func(i int) {
			select {
			case h := <-handles:
				h.Rebind(peerNo(i * 13 % peers))
				offer(h)
			default:
			}
		},
		"returner": func(i int) {
			value := new(atomic.Int32)
			generation := uint32(i / 8) // often too low, and sometimes ahead
			h, ok := table.HoldAt(socks[i%2], &Session[*atomic.Int32]{peerNo(i * 17 % peers), value}, State(1+i%2), i%slots, generation)
			if ok {
				mu.Lock()
				values = append(values, value)
				mu.Unlock()
				assert.Equal(t, generation, h.Generation())
				offer(h)
			}
		},
		"resolver": func(i int) {
			select {
			case h := <-handles:
				at := table.At(h.Slot(), h.Generation())
				if session, state := at.Get(); state != StateNone {
					assert.NotNil(t, session.Value)
				}
				assert.Equal(t, h, at)
				offer(h)
			default:
			}
		},
		"admitter": func(i int) {
			value := new(atomic.Int32)
			h, previous, evicted := table.Admit(socks[i%2], &Session[*atomic.Int32]{peerNo(i * 11 % peers), value}, StateEstablished, false)
			if previous == StateNone || previous == NoSpace && h != (Handle[*atomic.Int32]{}) {
				mu.Lock()
				values = append(values, value)
				mu.Unlock()
			}
			if evicted.Value != nil {
				evicted.Value.Add(1)
			}
			offer(h)
		},
		"evicter": func(i int) {
			if evicted, ok := table.Evict(socks[i%2]); ok {
				evicted.Value.Add(1)
			}
		},
		"remover": func(i int) {
			table.Remove(socks[i%2], &Session[*atomic.Int32]{Peer: peerNo(i * 5 % peers)})
		},
		"aborter": func(i int) {
			table.Store(socks[i%2], &Session[*atomic.Int32]{Peer: peerNo(i * 3 % peers)}, StateNone, true)
		},
		"reader": func(i int) {
			seen := map[*atomic.Int32]bool{} // not by endpoint, which the rebinder changes
			for session, state := range table.All() {
				assert.False(t, seen[session.Value], "All yielded a session twice")
				seen[session.Value] = true
				assert.Contains(t, []State{StateHandshake, StateEstablished}, state)
			}
		},
		"watcher": func(i int) {
			free := table.AvailableSlots()
			assert.True(t, 0 <= free && free <= slots, "%d free slots", free)
			s := table.Stats()
			assert.Equal(t, s.Stored, s.Removed+s.Evicted+uint64(s.Established+s.Handshakes))
			if oldest, ok := table.LRU(socks[i%2]); ok {
				assert.NotNil(t, oldest.Value)
			}
			_, state := table.Get(socks[i%2], peerNo(i%peers))
			assert.Contains(t, []State{StateNone, StateHandshake, StateEstablished}, state)
		},
	}
	var wg sync.WaitGroup
	for _, role := range roles {
		for range 2 {
			wg.Go(func() {
				for i := range rounds {
					role(i)
				}
			})
		}
	}
	wg.Wait()
	require.NoError(t, table.check())
	for _, sock := range socks {
		for {
			evicted, ok := table.Evict(sock)
			if !ok {
				break
			}
			evicted.Value.Add(1)
		}
	}
	s := table.Stats()
	assert.EqualValues(t, len(values), s.Stored)
	var evictions uint64
	for _, value := range values {
		assert.LessOrEqual(t, value.Load(), int32(1), "a value was evicted twice")
		evictions += uint64(value.Load())
	}
	assert.Equal(t, s.Evicted, evictions)
}

// SPDX-License-Identifier: MIT

package resume

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var background = context.Background()

func newMemory(t testing.TB, entries int) *Memory {
	m, err := NewMemory(entries)
	require.NoError(t, err)
	return m
}

// testID returns the id with a number. Ids differ in their first and their last bytes.
func testID(n uint32) []byte {
	id := make([]byte, sessionIDLen)
	binary.BigEndian.PutUint32(id, n*2654435761)
	binary.BigEndian.PutUint32(id[sessionIDLen-4:], n)
	return id
}

func TestNewMemoryRefusesInvalidSizes(t *testing.T) {
	for _, entries := range []int{-1, 0, 1<<26 + 1} {
		m, err := NewMemory(entries)
		assert.ErrorContains(t, err, fmt.Sprintf("a memory of %d entries", entries))
		assert.Nil(t, m)
	}
}

func TestMemoryEvictsLeastRecentlyUsed(t *testing.T) {
	m := newMemory(t, 3)
	put := func(n uint32) { require.NoError(t, m.Put(background, testID(n), []byte{byte(n)}, time.Hour)) }
	has := func(n uint32) bool { // without using the entry
		m.mu.Lock()
		defer m.mu.Unlock()
		key, _ := tableKey(testID(n))
		_, _, ok := m.findLocked(key, testID(n))
		return ok
	}
	put(1)
	put(2)
	put(3)
	put(1) // a use
	_, ok, err := m.Get(background, testID(2))
	require.True(t, ok)
	require.NoError(t, err)
	_, ok, _ = m.Get(background, testID(9)) // no use of any entry
	require.False(t, ok)
	_, err = m.Delete(background, testID(3), []byte("another")) // no use either
	require.NoError(t, err)
	put(4)
	assert.Equal(t, []bool{true, true, false, true}, []bool{has(1), has(2), has(3), has(4)})
	put(5)
	assert.Equal(t, []bool{false, true, true, true}, []bool{has(1), has(2), has(4), has(5)})
	assert.Equal(t, 3, m.Len())
}

func TestMemoryTakesIDsOf18To32Bytes(t *testing.T) {
	m := newMemory(t, 10)
	long := bytes.Repeat([]byte{7}, 40)
	for n := range long {
		id := long[:n]
		valid := n >= 18 && n <= 32
		err := m.Put(background, id, []byte("value"), time.Hour)
		_, found, getErr := m.Get(background, id)
		deleted, deleteErr := m.Delete(background, id, []byte("value"))
		assert.Equal(t, []bool{valid, valid, valid}, []bool{err == nil, found, deleted}, "%d bytes", n)
		assert.NoError(t, getErr)
		assert.NoError(t, deleteErr)
		if !valid {
			assert.ErrorContains(t, err, fmt.Sprintf("an id of %d bytes: want 18 to 32", n))
		}
	}
	assert.Zero(t, m.Len())
}

func TestMemoryKeepsSimilarIDsApart(t *testing.T) {
	m := newMemory(t, 10)
	// The table takes the first id for an IPv4 address. The others differ in one bit.
	mapped := append(make([]byte, 10), 0xff, 0xff, 192, 0, 2, 1, 0, 80)
	var ids [][]byte
	for _, change := range []int{-1, 0, 9, 10, 11, 12, 15, 16, 17} {
		id := bytes.Clone(mapped)
		if change >= 0 {
			id[change] ^= 1
		}
		ids = append(ids, id)
	}
	for i, id := range ids {
		require.NoError(t, m.Put(background, id, []byte{byte(i)}, time.Hour))
	}
	for i, id := range ids {
		value, ok, err := m.Get(background, id)
		require.NoError(t, err)
		assert.True(t, ok)
		assert.Equal(t, []byte{byte(i)}, value)
	}

	// Of two ids with the same first 18 bytes, the later one is kept.
	later := append(bytes.Clone(mapped), 1)
	require.NoError(t, m.Put(background, later, []byte("later"), time.Hour))
	_, ok, _ := m.Get(background, mapped)
	assert.False(t, ok)
	deleted, _ := m.Delete(background, mapped, []byte("later"))
	assert.False(t, deleted)
	value, ok, _ := m.Get(background, later)
	assert.True(t, ok)
	assert.Equal(t, []byte("later"), value)
	assert.Equal(t, len(ids), m.Len())
}

func TestMemoryPutRefusesInvalidArguments(t *testing.T) {
	m := newMemory(t, 1)
	assert.ErrorContains(t, m.Put(background, testID(1), make([]byte, MaxEncoded+1), time.Hour), "want at most 65536")
	assert.ErrorContains(t, m.Put(background, testID(1), nil, 0), "not positive")
	assert.ErrorContains(t, m.Put(background, testID(1), nil, -time.Second), "not positive")
	assert.Zero(t, m.Len())
}

func TestMemoryRemovesExpiredEntriesThatItFinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t, 4)
		time.Sleep(time.Minute)
		has := func(n uint32) bool {
			_, ok, err := m.Get(background, testID(n))
			require.NoError(t, err)
			return ok
		}
		require.NoError(t, m.Put(background, testID(1), nil, time.Second))
		require.NoError(t, m.Put(background, testID(2), nil, 2*time.Second))
		require.NoError(t, m.Put(background, testID(3), nil, math.MaxInt64)) // 292 years; the time of expiry must not overflow
		time.Sleep(time.Second - 1)
		assert.True(t, has(1))
		time.Sleep(time.Nanosecond)
		assert.Equal(t, 3, m.Len(), "not found yet")
		assert.False(t, has(1))
		assert.Equal(t, 2, m.Len(), "found by Get")
		assert.True(t, has(2))
		time.Sleep(time.Second)
		deleted, err := m.Delete(background, testID(2), nil)
		require.NoError(t, err)
		assert.False(t, deleted, "expired")
		assert.Equal(t, 1, m.Len())
		time.Sleep(100 * 365 * 24 * time.Hour)
		assert.True(t, has(3))
	})
}

// Put allocates the id and the value together, and Get allocates the value that it
// returns. There is no other allocation.
func TestMemoryAllocatesOncePerPutAndHit(t *testing.T) {
	m := newMemory(t, 2)
	ids, value := [][]byte{testID(1), testID(2), testID(3)}, make([]byte, 120)
	n := 0
	assert.Equal(t, 1.0, testing.AllocsPerRun(100, func() {
		n++
		m.Put(background, ids[n%3], value, time.Hour)
	}), "Put, evicting")
	assert.Equal(t, 1.0, testing.AllocsPerRun(100, func() { m.Put(background, ids[0], value, time.Hour) }), "Put, replacing")
	assert.Equal(t, 1.0, testing.AllocsPerRun(100, func() { m.Get(background, ids[0]) }), "Get")
	absent := testID(9)
	assert.Zero(t, testing.AllocsPerRun(100, func() { m.Get(background, absent) }), "a miss")
	assert.Zero(t, testing.AllocsPerRun(100, func() { m.Delete(background, ids[0], nil) }), "Delete, with the wrong value")
}

// modelMemory is a simple model of Memory: a slice, least recently used entry first.
type modelMemory struct {
	capacity int
	entries  []modelEntry
}

type modelEntry struct {
	id, value string
	expires   time.Time
}

// find returns the index of the entry with an id, or -1. It removes an expired entry with
// the same key, as Memory does.
func (m *modelMemory) find(id string) int {
	m.entries = slices.DeleteFunc(m.entries, func(e modelEntry) bool {
		return e.id[:keyLen] == id[:keyLen] && !time.Now().Before(e.expires)
	})
	return slices.IndexFunc(m.entries, func(e modelEntry) bool { return e.id == id })
}

func (m *modelMemory) get(id string) (string, bool) {
	i := m.find(id)
	if i < 0 {
		return "", false
	}
	e := m.entries[i]
	m.entries = append(slices.Delete(m.entries, i, i+1), e)
	return e.value, true
}

func (m *modelMemory) put(id, value string, ttl time.Duration) {
	m.entries = slices.DeleteFunc(m.entries, func(e modelEntry) bool { return e.id[:keyLen] == id[:keyLen] })
	if len(m.entries) == m.capacity {
		m.entries = m.entries[1:]
	}
	m.entries = append(m.entries, modelEntry{id, value, time.Now().Add(ttl)})
}

func (m *modelMemory) remove(id, value string) bool {
	i := m.find(id)
	if i < 0 || m.entries[i].value != value {
		return false
	}
	m.entries = slices.Delete(m.entries, i, i+1)
	return true
}

// FuzzMemory compares Memory with the model. The first byte of the input gives the number
// of entries, and each three bytes after it give an operation.
func FuzzMemory(f *testing.F) {
	f.Add([]byte("\x02 some operations of every kind, to mix up, with ids that come again"))
	for _, entries := range []byte{0, 4, 15} { // enough operations to fill the Memory several times
		data := []byte{entries}
		for i := range 300 {
			data = append(data, byte(i*5), byte(i*7), byte(i*13))
		}
		f.Add(data)
	}
	var ids [][]byte // 24 ids: 12 pairs that share their first 20 bytes
	for n := range uint32(12) {
		id := testID(n)
		ids = append(ids, id, append(id[:20:20], 1))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) == 0 {
			return
		}
		synctest.Test(t, func(t *testing.T) {
			model := modelMemory{capacity: 1 + int(data[0]%16)}
			m := newMemory(t, model.capacity)
			for n := 1; n+2 < len(data); n += 3 {
				id, value := ids[int(data[n+1])%len(ids)], string(rune(data[n+2]%4))
				switch data[n] % 8 {
				case 0, 1, 2:
					ttl := time.Duration(1+data[n+2]%8) * time.Second
					require.NoError(t, m.Put(background, id, []byte(value), ttl))
					model.put(string(id), value, ttl)
				case 3, 4, 5:
					want, wantOK := model.get(string(id))
					got, ok, err := m.Get(background, id)
					require.NoError(t, err)
					require.Equal(t, wantOK, ok)
					require.Equal(t, want, string(got))
				case 6:
					deleted, err := m.Delete(background, id, []byte(value))
					require.NoError(t, err)
					require.Equal(t, model.remove(string(id), value), deleted)
				case 7:
					time.Sleep(time.Duration(data[n+2]%8) * time.Second / 2)
				}
				require.Equal(t, len(model.entries), m.Len())
			}
			var order []string
			for session := range m.table.All() {
				order = append(order, session.Value.data)
			}
			require.Len(t, order, len(model.entries))
			for i, e := range model.entries {
				require.Equal(t, e.id+e.value, order[i])
			}
		})
	})
}

// There are more ids than entries, so that every kind of call meets evictions. Get must
// return only values that were put under its id.
func TestMemoryStress(t *testing.T) {
	const entries, ids, rounds = 16, 24, 3000
	m := newMemory(t, entries)
	var roles sync.WaitGroup
	role := func(f func(n uint32, id []byte)) {
		for range 2 {
			roles.Go(func() {
				for i := range uint32(rounds) {
					n := (i*i + i/3) % ids
					f(n, testID(n))
					if length := m.Len(); length < 0 || length > entries {
						t.Errorf("%d entries of %d", length, entries)
					}
				}
			})
		}
	}
	role(func(n uint32, id []byte) { assert.NoError(t, m.Put(background, id, id, time.Hour)) })
	role(func(n uint32, id []byte) { assert.NoError(t, m.Put(background, id, id[:8], time.Nanosecond)) })
	role(func(n uint32, id []byte) {
		value, ok, err := m.Get(background, id)
		assert.NoError(t, err)
		if ok {
			assert.True(t, bytes.HasPrefix(id, value) && len(value) >= 8)
			clear(value)
		}
	})
	role(func(n uint32, id []byte) {
		_, err := m.Delete(background, id, id)
		assert.NoError(t, err)
	})
	roles.Wait()
	stats := m.table.Stats()
	assert.Equal(t, stats.Stored, stats.Removed+stats.Evicted+uint64(m.Len()))
}

// fullMemory returns a Memory that is full of encoded sessions with a pre-shared key. The
// first half of ids is in it, the second half is not.
func fullMemory(b *testing.B, entries int) (m *Memory, ids [][]byte, value []byte) {
	value, err := (&Session{
		Secret: testSecret(1), Suite: 0xc0a8, PSKIdentity: []byte("device-17"), Scope: "devices", Created: testTime, Expires: testTime,
	}).Marshal()
	require.NoError(b, err)
	m = newMemory(b, entries)
	random := make([]byte, 2*entries*sessionIDLen)
	rand.Read(random)
	for id := range slices.Chunk(random, sessionIDLen) {
		ids = append(ids, id)
	}
	for _, id := range ids[:entries] {
		require.NoError(b, m.Put(background, id, value, time.Hour))
	}
	return m, ids, value
}

func BenchmarkMemory(b *testing.B) {
	const entries = 100000
	m, ids, value := fullMemory(b, entries)
	for _, bench := range []struct {
		name string
		call func(i int)
	}{
		{"Hit", func(i int) { m.Get(background, ids[i*7919%entries]) }},
		{"Miss", func(i int) { m.Get(background, ids[entries+i*7919%entries]) }},
		{"Replace", func(i int) { m.Put(background, ids[i*7919%entries], value, time.Hour) }},
		{"Evict", func(i int) { m.Put(background, ids[i%len(ids)], value, time.Hour) }},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				bench.call(i)
			}
		})
	}
}

// BenchmarkMemoryEntry fills a Memory and reports the heap that it takes for each entry.
func BenchmarkMemoryEntry(b *testing.B) {
	const entries = 100000
	heapAlloc := func() uint64 {
		runtime.GC()
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	for b.Loop() {
		before := heapAlloc()
		m, _, value := fullMemory(b, entries)
		b.ReportMetric(float64(heapAlloc()-before)/entries, "bytes/entry")
		b.ReportMetric(float64(len(value)+sessionIDLen), "id+value-bytes/entry")
		runtime.KeepAlive(m)
	}
}

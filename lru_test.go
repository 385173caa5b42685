// SPDX-License-Identifier: MIT

package dsm

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestLRUAndEvictReturnOldestEstablishedSessionOfSock(t *testing.T) {
	table := newTable(t, 8)
	one, two := NewSock(), Sock{}
	_, ok := table.LRU(one)
	assert.False(t, ok)
	_, ok = table.Evict(one)
	assert.False(t, ok)

	table.Store(one, &Session[string]{peerC, "half-open"}, StateHandshake, false)
	_, ok = table.LRU(one)
	assert.False(t, ok, "LRU returned a session in StateHandshake")

	table.Store(one, &Session[string]{peerA, "1A"}, StateEstablished, false)
	table.Store(two, &Session[string]{peerA, "2A"}, StateEstablished, false)
	table.Store(one, &Session[string]{peerB, "1B"}, StateEstablished, false)
	table.Store(one, &Session[string]{Peer: peerA}, StateHandshake, false) // marks 1A as used

	for range 2 { // LRU changes nothing
		oldest, ok := table.LRU(one)
		assert.True(t, ok)
		assert.Equal(t, Session[string]{peerB, "1B"}, oldest)
	}
	for _, want := range []string{"1B", "1A"} {
		evicted, ok := table.Evict(one)
		assert.True(t, ok)
		assert.Equal(t, want, evicted.Value)
	}
	_, ok = table.Evict(one)
	assert.False(t, ok)
	oldest, ok := table.LRU(two)
	assert.True(t, ok)
	assert.Equal(t, "2A", oldest.Value)
	assert.Equal(t, Stats{Established: 1, Handshakes: 1, Uses: 5, Stored: 4, Evicted: 2}, table.Stats())
}

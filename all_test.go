// SPDX-License-Identifier: MIT

package dsm

import (
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAllYieldsInOrderOfUseAndStopsOnBreak(t *testing.T) {
	const n = 5*walkBatch + 3
	table := newTable(t, n)
	socks := []Sock{{}, NewSock(), NewSock()}
	for i := range n {
		table.Store(socks[i%3], &Session[string]{peerNo(i), strconv.Itoa(i)}, State(1+i%2), false)
	}
	for i := range n / 2 { // the older half becomes the newer half
		table.Store(socks[i%3], &Session[string]{Peer: peerNo(i)}, StateHandshake, false)
	}
	next := n / 2
	count := 0
	for session, state := range table.All() {
		assert.Equal(t, strconv.Itoa(next), session.Value)
		assert.Equal(t, peerNo(next), session.Peer)
		assert.Equal(t, State(1+next%2), state)
		next = (next + 1) % n
		count++
	}
	assert.Equal(t, n, count)

	for range table.All() {
		count++
		break
	}
	assert.Equal(t, n+1, count)
	for range newTable(t, 1).All() {
		t.Fatal("All yielded a session of an empty table")
	}
}

// TestAllYieldsEachSessionOnceWhileBodyChangesTable has a loop body that changes
// sessions which were yielded already, or are being yielded.
func TestAllYieldsEachSessionOnceWhileBodyChangesTable(t *testing.T) {
	const n = 6 * walkBatch
	for name, body := range map[string]func(table *Table[string], i int){
		"removes each": func(table *Table[string], i int) {
			table.Remove(Sock{}, &Session[string]{Peer: peerNo(i)})
		},
		"uses each": func(table *Table[string], i int) {
			table.Store(Sock{}, &Session[string]{Peer: peerNo(i)}, StateEstablished, false)
		},
		"removes in the second half": func(table *Table[string], i int) {
			if i >= n/2 {
				table.Remove(Sock{}, &Session[string]{Peer: peerNo(i)})
			}
		},
		"removes all earlier ones": func(table *Table[string], i int) {
			for j := range i {
				table.Remove(Sock{}, &Session[string]{Peer: peerNo(j)})
			}
		},
		"replaces each": func(table *Table[string], i int) {
			table.Remove(Sock{}, &Session[string]{Peer: peerNo(i)})
			table.Store(Sock{}, &Session[string]{peerNo(i), "new"}, StateHandshake, false)
		},
		"rebinds each": func(table *Table[string], i int) {
			require.True(t, table.At(i, 0).Rebind(peerNo(n+i)))
		},
		"rebinds the next ones": func(table *Table[string], i int) {
			for j := i + 1; j < min(i+2*walkBatch, n); j++ {
				require.True(t, table.At(j, 0).Rebind(peerNo(n+i*n+j)))
			}
		},
		"gives each endpoint to the last one": func(table *Table[string], i int) {
			require.True(t, table.At(i, 0).Rebind(peerNo(n+i)))
			require.True(t, table.At(n-1, 0).Rebind(peerNo(i)))
		},
		"loops over all": func(table *Table[string], i int) {
			for range table.All() {
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			table := newTable(t, n)
			for i := range n {
				table.Store(Sock{}, &Session[string]{peerNo(i), strconv.Itoa(i)}, StateEstablished, false)
			}
			next := 0
			for session := range table.All() {
				require.Equal(t, strconv.Itoa(next), session.Value)
				body(table, next)
				next++
			}
			assert.Equal(t, n, next)
			require.NoError(t, table.check())
		})
	}
}

// TestAllMergesSessionsOfManySocks checks that All yields established and half-open
// sessions of many socks in one order, and that it yields each untouched session
// once while other sessions are used and removed between the batches.
func TestAllMergesSessionsOfManySocks(t *testing.T) {
	const numSocks, each = 3 * walkLists, 20
	table, err := New[int](numSocks * each)
	require.NoError(t, err)
	socks := make([]Sock, numSocks)
	for i := range socks {
		socks[i] = NewSock()
	}
	session := func(n int) *Session[int] { return &Session[int]{Peer: peerNo(n), Value: n} }
	store := func(n int, state State) { table.Store(socks[n%numSocks], session(n), state, false) }
	r := rand.New(rand.NewPCG(1, 1))
	for n := range numSocks * each {
		store(n, StateHandshake+State(n%3%2))
	}
	var order []int
	for _, n := range r.Perm(numSocks * each) {
		store(n, StateHandshake)
		order = append(order, n)
	}
	yielded := func() (values []int) {
		for s, state := range table.All() {
			require.Equal(t, StateHandshake+State(s.Value%3%2), state)
			values = append(values, s.Value)
		}
		return values
	}
	require.Equal(t, order, yielded())

	// Use and remove some sessions, yielded before or not, while the loop runs.
	touched := map[int]bool{}
	seen := map[int]bool{}
	for s := range table.All() {
		require.False(t, seen[s.Value], "%d was yielded twice", s.Value)
		seen[s.Value] = true
		if len(seen)%10 == 0 {
			used, removed := r.IntN(len(order)), r.IntN(len(order))
			store(order[used], StateHandshake)
			table.Remove(socks[order[removed]%numSocks], session(order[removed]))
			touched[order[used]], touched[order[removed]] = true, true
			require.NoError(t, table.check())
		}
	}
	for _, n := range order {
		require.True(t, seen[n] || touched[n], "%d was not yielded", n)
	}
}

func TestAllAllocatesOnceForManySocks(t *testing.T) {
	const n = 1000
	table := newTable(t, n)
	for i := range n {
		table.Store(Sock{uint64(i)}, &Session[string]{peerA, ""}, StateEstablished, false)
	}
	assert.EqualValues(t, 1, testing.AllocsPerRun(10, func() {
		for range table.All() {
		}
	}))
}

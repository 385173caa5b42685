// SPDX-License-Identifier: MIT

package dsm

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// newWaitingTable returns a full table with established sessions of one sock, in which
// uses wait as in a large one.
func newWaitingTable(t *testing.T, slots int) *Table[string] {
	table := newTable(t, slots)
	table.slots.usesWait = true
	for i := range slots {
		table.Store(Sock{}, &Session[string]{peerNo(i), strconv.Itoa(i)}, StateEstablished, false)
	}
	return table
}

func TestUsesWaitInLargeTablesOnly(t *testing.T) {
	for slots, want := range map[int]bool{1: false, maxSlotsWithoutWaiting: false, maxSlotsWithoutWaiting + 1: true} {
		s := newSlots(slots)
		assert.Equal(t, want, s.usesWait, "%d slots", slots)
	}
}

func TestWaitingUsesAreSettledWhenMany(t *testing.T) {
	table := newWaitingTable(t, 3)
	for n := range 3 * maxWaiting {
		require.Equal(t, n%maxWaiting, table.slots.numWaiting)
		require.EqualValues(t, 3+n, table.Stats().Uses, "a waiting use is not counted")
		require.True(t, table.At(n*7%3, 0).Use())
		require.NoError(t, table.check())
	}
}

// TestOrderIsExactWhileUsesWait has each call that reads or changes a list while uses of
// some sessions wait, and some sessions more than once.
func TestOrderIsExactWhileUsesWait(t *testing.T) {
	const n = 12
	evict := func(t *testing.T, table *Table[string]) string {
		evicted, ok := table.Evict(Sock{})
		require.True(t, ok)
		return evicted.Value
	}
	for name, call := range map[string]func(t *testing.T, table *Table[string], order []string) []string{
		"LRU": func(t *testing.T, table *Table[string], order []string) []string {
			oldest, _ := table.LRU(Sock{})
			require.Equal(t, order[0], oldest.Value)
			return order
		},
		"Evict": func(t *testing.T, table *Table[string], order []string) []string {
			require.Equal(t, order[0], evict(t, table))
			return order[1:]
		},
		"Admit": func(t *testing.T, table *Table[string], order []string) []string {
			_, _, evicted := table.Admit(Sock{}, &Session[string]{peerA, "new"}, StateEstablished, false)
			require.Equal(t, order[0], evicted.Value)
			return append(order[1:], "new")
		},
		"Admit in StateHandshake": func(t *testing.T, table *Table[string], order []string) []string {
			_, _, evicted := table.Admit(Sock{}, &Session[string]{peerA, "new"}, StateHandshake, false)
			require.Equal(t, order[0], evicted.Value)
			return append(order[1:], "new")
		},
		"Remove of the session used last": func(t *testing.T, table *Table[string], order []string) []string {
			last, _ := strconv.Atoi(order[n-1])
			table.Remove(Sock{}, &Session[string]{Peer: peerNo(last)})
			return order[:n-1]
		},
		"Free and Store": func(t *testing.T, table *Table[string], order []string) []string {
			middle, _ := strconv.Atoi(order[n/2])
			require.True(t, table.At(middle, 0).Free())
			table.Store(Sock{}, &Session[string]{peerA, "new"}, StateEstablished, false)
			return append(slices.Delete(order, n/2, n/2+1), "new")
		},
		"Demote": func(t *testing.T, table *Table[string], order []string) []string {
			first, _ := strconv.Atoi(order[0])
			require.True(t, table.At(first, 0).Demote())
			second, _ := strconv.Atoi(order[1])
			require.True(t, table.At(second, 0).Demote())
			return append(order[2:], order[:2]...)
		},
		"Demote and Store": func(t *testing.T, table *Table[string], order []string) []string {
			first, _ := strconv.Atoi(order[0])
			require.True(t, table.At(first, 0).Demote())
			require.Equal(t, StateHandshake, table.Store(Sock{}, &Session[string]{Peer: peerNo(first)}, StateEstablished, false))
			return append(order[1:], order[0])
		},
		"Rebind": func(t *testing.T, table *Table[string], order []string) []string {
			first, _ := strconv.Atoi(order[0])
			require.True(t, table.At(first, 0).Rebind(peerA))
			return order
		},
	} {
		t.Run(name, func(t *testing.T) {
			for range 50 {
				table := newWaitingTable(t, n)
				var order []string
				for i := range n {
					order = append(order, strconv.Itoa(i))
				}
				for range 1 + rand.IntN(maxWaiting-1) {
					i := rand.IntN(n)
					require.True(t, table.At(i, 0).Use())
					order = slices.DeleteFunc(order, func(s string) bool { return s == strconv.Itoa(i) })
					order = append(order, strconv.Itoa(i))
				}
				require.Positive(t, table.slots.numWaiting)
				order = call(t, table, order)
				require.NoError(t, table.check())
				var yielded []string
				for session := range table.All() {
					yielded = append(yielded, session.Value)
				}
				require.Equal(t, order, yielded)
				require.NoError(t, table.check())
			}
		})
	}
}

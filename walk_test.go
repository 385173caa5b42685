// SPDX-License-Identifier: MIT

package dsm

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// slowWalk is a walk of which a test does one step at a time, where All does several
// steps while it holds the lock. It checks what the walk returns against the slots that
// were taken at the start.
type slowWalk struct {
	walk
	table *Table[int]
	lists uint32            // the number of lists
	read  uint32            // the lists whose oldest slot was read
	start map[uint64]uint32 // by last use: the taken slots at the start
	seen  map[uint64]bool   // by last use: the slots that were returned
}

func newSlowWalk(table *Table[int]) *slowWalk {
	s := &table.slots
	s.settleUses()
	w := &slowWalk{walk: walk{end: s.uses}, table: table, lists: s.numSocks, start: map[uint64]uint32{}, seen: map[uint64]bool{}}
	for i, p := range s.array {
		if p.state != StateNone {
			w.start[s.nodes[i].lastUse] = uint32(i)
		}
	}
	return w
}

// step does one step. It returns false after the last one.
func (w *slowWalk) step(t testing.TB) bool {
	s := &w.table.slots
	switch {
	case w.read < w.lists:
		var cursors [segmentSocks]cursor
		n := s.readOldest(&cursors, w.read, w.end)
		w.cursors = append(w.cursors, cursors[:n]...)
		if w.read += segmentSocks; w.read >= w.lists {
			w.makeHeap()
		}
	case len(w.cursors) > 0:
		last := w.last
		i := w.next(s)
		if i == 0 {
			break
		}
		lastUse := s.nodes[i].lastUse
		if slot, ok := w.start[lastUse]; !ok || slot != i || w.seen[lastUse] {
			t.Fatalf("slot %d was returned, its last use is %d, the walk began at %d", i, lastUse, w.end)
		}
		if lastUse <= last {
			t.Fatalf("the last use %d was returned after %d", lastUse, last)
		}
		w.seen[lastUse] = true
	default:
		for lastUse, i := range w.start {
			if s.nodes[i].lastUse == lastUse && !w.seen[lastUse] {
				t.Fatalf("slot %d is unused since the start and was not returned", i)
			}
		}
		return false
	}
	return true
}

// FuzzWalk changes the table between the steps of a walk, as the input says: two bytes
// are one operation.
func FuzzWalk(f *testing.F) {
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(seed, 1))
		data := make([]byte, 4000)
		for i := range data {
			data[i] = byte(r.Uint32())
			if i%2 == 0 && seed%2 == 0 && i > 400 && data[i]%4 != 0 {
				data[i] = 7 // Most operations are steps.
			}
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, usesWait := range []bool{false, true} {
			walkWhileTableChanges(t, data, usesWait)
		}
	})
}

func walkWhileTableChanges(t *testing.T, data []byte, usesWait bool) {
	const slots, numSocks = 200, 2*segmentSocks + 10
	table, err := New[int](slots)
	require.NoError(t, err)
	table.slots.usesWait = usesWait
	table.slots.secret = [3]uint64{1, 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F}
	socks := make([]Sock, numSocks)
	for i := range socks {
		socks[i] = Sock{uint64(i)}
	}
	w := newSlowWalk(table)
	for n := 0; n+1 < len(data); n += 2 {
		op, i := data[n], int(data[n+1])
		sock := socks[0] // It has most of the sessions.
		if i%2 == 0 {
			sock = socks[i/2%numSocks]
		}
		session := Session[int]{peerNo(i), n}
		at := table.At(i%slots, table.slots.array[1+i%slots].gen)
		switch op % 8 {
		case 0:
			table.Admit(sock, &session, State(1+op>>3%2), false)
		case 1:
			table.Store(sock, &session, StateEstablished, false)
		case 2:
			at.Use()
		case 3:
			at.Free()
		case 4:
			at.Demote()
		case 5:
			if len(w.cursors) > 0 { // The next slot of a list is the one that hurts.
				c := w.cursors[i%len(w.cursors)]
				table.At(int(c.slot)-1, table.slots.array[c.slot].gen).Use()
			}
		case 6:
			table.Evict(sock)
		case 7:
			if !w.step(t) {
				w = newSlowWalk(table)
			}
		}
	}
	for w.step(t) {
	}
	require.NoError(t, table.check())
}

// TestLostPositionsCostFewSteps has a loop body that makes the walk lose its position
// after each batch.
func TestLostPositionsCostFewSteps(t *testing.T) {
	const n = 1 << 13
	use := func(s *slots, i uint32) {
		if i != 0 && s.array[i].state != StateNone {
			s.use(i)
		}
	}
	for name, body := range map[string]func(s *slots, w *walk, r *rand.Rand){
		"next one": func(s *slots, w *walk, _ *rand.Rand) { use(s, w.cursors[0].slot) },
		"next ones": func(s *slots, w *walk, _ *rand.Rand) {
			for _, c := range w.cursors {
				use(s, c.slot)
			}
		},
		"next one and those before": func(s *slots, w *walk, r *rand.Rand) {
			i := w.cursors[0].slot
			for range r.IntN(2 * walkBatch) {
				previous := s.nodes[i].prev
				use(s, i)
				i = previous
			}
		},
		"any": func(s *slots, w *walk, r *rand.Rand) {
			for range 4 * walkBatch {
				use(s, 1+r.Uint32N(n))
			}
			use(s, w.cursors[0].slot)
		},
	} {
		for _, numSocks := range []int{1, 2, 16} {
			r := rand.New(rand.NewPCG(1, 1))
			table, err := New[int](n)
			require.NoError(t, err)
			for i := range n {
				table.Store(Sock{uint64(i % numSocks)}, &Session[int]{peerNo(i), i}, StateEstablished, false)
			}
			w := table.newWalk(nil)
			var batch [walkBatch]visited[int]
			for unfinished := true; unfinished; {
				if _, unfinished = table.nextBatch(&w, &batch); unfinished && len(w.cursors) > 0 {
					body(&table.slots, &w, r)
				}
			}
			assert.Less(t, w.slots, uint64(8*n), "%s of %d socks: visited slots, of %d", name, numSocks, n)
		}
	}
}

// TestAllHoldsLockForBoundedNumberOfVisits counts what a walk visits in one batch, with
// one list and with many, and while it loses its positions.
func TestAllHoldsLockForBoundedNumberOfVisits(t *testing.T) {
	const n = 4096
	for _, numSocks := range []int{1, 64, n} {
		for _, lost := range []bool{false, true} {
			table, err := New[int](n)
			require.NoError(t, err)
			for i := range n {
				table.Store(Sock{uint64(i % numSocks)}, &Session[int]{peerNo(i), i}, StateEstablished, false)
			}
			w := table.newWalk(nil)
			var batch [walkBatch]visited[int]
			for yielded, unfinished := 0, true; unfinished; {
				before := w.slots
				yielded, unfinished = table.nextBatch(&w, &batch)
				require.LessOrEqual(t, w.visits, walkVisits*3/2)
				require.LessOrEqual(t, w.slots-before, uint64(w.visits))
				require.LessOrEqual(t, uint64(yielded), w.slots-before)
				if lost && unfinished {
					for _, c := range w.cursors {
						table.At(int(c.slot)-1, 0).Use()
					}
				}
			}
		}
	}
}

// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"slices"
	"sync"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestFifoIsInOrder, whatever is pushed and popped in turn.
func TestFifoIsInOrder(t *testing.T) {
	t.Parallel()
	var f fifo[int]
	var model []int
	pushed := 0
	for round := range 40 {
		for range (round * 37) % (3 * fifoChunk) {
			f.push(pushed)
			model = append(model, pushed)
			pushed++
		}
		require.Equal(t, len(model), f.len)
		require.True(t, slices.Equal(model, slices.Collect(f.all())))
		for range (round * 61) % (3 * fifoChunk) {
			got, ok := f.pop()
			require.Equal(t, len(model) > 0, ok)
			if ok {
				require.Equal(t, model[0], got)
				model = model[1:]
			}
		}
		if len(model) == 0 && pushed > 0 {
			require.Same(t, f.first, f.last, "an empty queue keeps a chunk, and one to spare")
			require.Equal(t, fifoPart[int]{}, *f.first)
		}
	}
}

// TestFifoInUseAllocatesNothing, as long as its length changes little.
func TestFifoInUseAllocatesNothing(t *testing.T) {
	var f fifo[int]
	for _, length := range []int{0, 1, fifoChunk / 2, 2*fifoChunk + 1} {
		for range length {
			f.push(0)
		}
		use := func() {
			for range fifoChunk/2 + 1 {
				f.push(0)
			}
			for range fifoChunk/2 + 1 {
				f.pop()
			}
		}
		use()
		use()
		assert.Zero(t, testing.AllocsPerRun(100, use), "beside %d elements", length)
		for range length {
			f.pop()
		}
	}
}

// TestFifoMovesNoElement: an element has its place, and each call makes one chunk at most, of a
// few kilobytes.
func TestFifoMovesNoElement(t *testing.T) {
	t.Parallel()
	var f fifo[int]
	var places []*int
	const elements = 100 * fifoChunk
	for n := range elements {
		f.push(n)
		places = append(places, &f.last.elements[f.pushed-1])
	}
	for n, place := range places {
		at := &f.first.elements[f.popped]
		if at != place || *place != n {
			t.Fatalf("element %d has moved", n)
		}
		f.pop()
	}
	assert.LessOrEqual(t, unsafe.Sizeof(fifoPart[unwritten]{}), uintptr(4<<10))
}

// TestFifoIsReadWhileOthersPush: all has what was there when it was called.
func TestFifoIsReadWhileOthersPush(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var f fifo[int]
	const elements = 3*fifoChunk + 5
	for n := range elements {
		f.push(n)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := range 10 * elements {
			mu.Lock()
			f.push(elements + n)
			mu.Unlock()
		}
	})
	for range 10 {
		mu.Lock()
		first, n, all := f.first.elements[f.popped], f.len, f.all()
		mu.Unlock()
		for element := range all {
			if element != first {
				t.Fatalf("%d, want %d", element, first)
			}
			first++
			n--
		}
		assert.Zero(t, n)
	}
	wg.Wait()
	for range f.all() {
		break
	}
}

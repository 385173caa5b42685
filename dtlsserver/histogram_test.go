// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestHistogramCountsUpToEachBound(t *testing.T) {
	t.Parallel()
	assert.Zero(t, new(histogram).load())
	limits := Histogram{}.Bounds()
	var h histogram
	var sum time.Duration
	for i, limit := range limits {
		if i > 0 {
			assert.Greater(t, limit, limits[i-1])
		}
		for _, took := range []time.Duration{limit, limit + 1} {
			h.observe(took)
			sum += took
		}
	}
	got := h.load()
	assert.Equal(t, sum, got.Sum)
	assert.EqualValues(t, 1, got.Counts[0])
	for i := 1; i < len(limits); i++ {
		assert.EqualValues(t, 2, got.Counts[i], "what is longer than the bound before, and its own bound")
	}
	assert.EqualValues(t, 1, got.Counts[len(limits)])

	h.observe(0)
	h.observe(time.Hour)
	got = h.load()
	assert.EqualValues(t, 2, got.Counts[0])
	assert.EqualValues(t, 2, got.Counts[len(limits)])
	assert.Equal(t, sum+time.Hour, got.Sum)
}

// TestHistogramBoundsAreCopies: nobody can change those of the counts.
func TestHistogramBoundsAreCopies(t *testing.T) {
	t.Parallel()
	limits := Histogram{}.Bounds()
	limits[0] = time.Hour
	assert.Equal(t, 50*time.Millisecond, Histogram{}.Bounds()[0])
}

func TestHistogramOfManyGoroutines(t *testing.T) {
	t.Parallel()
	var h histogram
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			for range 1000 {
				h.observe(time.Duration(n) * time.Second)
			}
		})
	}
	wg.Wait()
	got := h.load()
	var count uint64
	for _, n := range got.Counts {
		count += n
	}
	assert.EqualValues(t, 8000, count)
	assert.Equal(t, 28_000*time.Second, got.Sum)
}

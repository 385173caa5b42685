// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"sync/atomic"
	"time"
)

// numBounds is the number of a Histogram's bounds.
const numBounds = 9

var bounds = [numBounds]time.Duration{
	50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second,
	2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 25 * time.Second,
}

// Histogram counts times. Counts[i] is how many were at most Bounds()[i] and longer than
// the bound before. The last of Counts is how many were longer than all bounds.
type Histogram struct {
	Counts [numBounds + 1]uint64
	Sum    time.Duration // of all times
}

// Bounds returns the upper bounds of Counts, all but that of the last one, which has none.
func (Histogram) Bounds() [numBounds]time.Duration { return bounds }

// histogram is a Histogram that goroutines add to.
type histogram struct {
	counts [numBounds + 1]atomic.Uint64
	sum    atomic.Int64
}

func (h *histogram) observe(took time.Duration) {
	i := 0
	for i < numBounds && took > bounds[i] {
		i++
	}
	h.counts[i].Add(1)
	h.sum.Add(int64(took))
}

func (h *histogram) load() Histogram {
	out := Histogram{Sum: time.Duration(h.sum.Load())}
	for i := range h.counts {
		out.Counts[i] = h.counts[i].Load()
	}
	return out
}

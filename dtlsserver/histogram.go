// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"sync/atomic"
	"time"
)

// The bounds of histograms, of as many buckets: those of handshakes, and of the lives of
// sessions.
var (
	handshakeBounds = [numBounds]time.Duration{
		50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second,
		2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 25 * time.Second,
	}
	sessionBounds = [numBounds]time.Duration{
		time.Second, 10 * time.Second, time.Minute, 10 * time.Minute, time.Hour,
		6 * time.Hour, 24 * time.Hour, 7 * 24 * time.Hour, 30 * 24 * time.Hour,
	}
)

// numBounds is the number of a Histogram's bounds.
const numBounds = 9

// Histogram counts times. Counts[i] is how many were at most Bounds()[i] and longer than
// the bound before. The last of Counts is how many were longer than all bounds.
type Histogram struct {
	Counts [numBounds + 1]uint64
	Sum    time.Duration // of all times
	bounds *[numBounds]time.Duration
}

// Bounds returns the upper bounds of Counts, all but that of the last one, which has none.
func (h Histogram) Bounds() [numBounds]time.Duration {
	return *orHandshakes(h.bounds)
}

// orHandshakes returns the bounds of handshakes in place of nil.
func orHandshakes(bounds *[numBounds]time.Duration) *[numBounds]time.Duration {
	if bounds == nil {
		return &handshakeBounds
	}
	return bounds
}

// histogram is a Histogram that goroutines add to.
type histogram struct {
	bounds *[numBounds]time.Duration // set in counters.init, never changed; nil: those of handshakes

	counts [numBounds + 1]atomic.Uint64
	sum    atomic.Int64
}

func (h *histogram) observe(took time.Duration) {
	i, bounds := 0, orHandshakes(h.bounds)
	for i < numBounds && took > bounds[i] {
		i++
	}
	h.counts[i].Add(1)
	h.sum.Add(int64(took))
}

func (h *histogram) load() Histogram {
	out := Histogram{Sum: time.Duration(h.sum.Load()), bounds: h.bounds}
	for i := range h.counts {
		out.Counts[i] = h.counts[i].Load()
	}
	return out
}

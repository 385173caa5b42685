// SPDX-License-Identifier: MIT

package main

import (
	"math"
	"runtime/metrics"
	"slices"
)

// collectorUsage is what the garbage collector has taken.
type collectorUsage struct {
	Collections           int64
	CollectorCPU          int64   // ns since the start of the process, until the last collection
	PauseMedian, PauseMax float64 // µs, upper bounds, of the stops of the world since the previous usage
}

// previousPauses is used by one goroutine at a time. These are the counts of the pauses at the previous usage.
var previousPauses []uint64

func currentCollectorUsage() collectorUsage {
	samples := []metrics.Sample{{Name: "/gc/cycles/total:gc-cycles"}, {Name: "/cpu/classes/gc/total:cpu-seconds"}, {Name: "/sched/pauses/total/gc:seconds"}}
	metrics.Read(samples)
	u := collectorUsage{Collections: int64(samples[0].Value.Uint64()), CollectorCPU: int64(samples[1].Value.Float64() * 1e9)}
	pauses := samples[2].Value.Float64Histogram()
	if previousPauses == nil {
		previousPauses = make([]uint64, len(pauses.Counts))
	}
	u.PauseMedian, u.PauseMax = pausesBetween(previousPauses, pauses.Counts, pauses.Buckets)
	previousPauses = slices.Clone(pauses.Counts)
	return u
}

// pausesBetween returns the median and the maximum of the pauses between two histograms in seconds,
// whose buckets have edges: the upper edge of a bucket, in µs, or the lower one if there is no upper
// one.
func pausesBetween(before, after []uint64, edges []float64) (middle, most float64) {
	var total, seen uint64
	for i := range after {
		total += after[i] - before[i]
	}
	for i := range after {
		count := after[i] - before[i]
		if count == 0 {
			continue
		}
		most = edges[i+1] * 1e6
		if math.IsInf(most, 1) {
			most = edges[i] * 1e6
		}
		if 2*seen < total {
			middle = most
		}
		seen += count
	}
	return middle, most
}

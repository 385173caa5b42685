// SPDX-License-Identifier: MIT

package main

import (
	"math"
	"testing"
)

func TestPausesAreThoseSinceThePreviousUsage(t *testing.T) {
	edges := []float64{0, 1e-6, 2e-6, 4e-6, math.Inf(1)}
	for _, tc := range []struct {
		name          string
		before, after []uint64
		middle, most  float64
	}{
		{"three pauses", []uint64{9, 0, 0, 0}, []uint64{10, 1, 1, 0}, 2, 4},
		{"no pause", []uint64{10, 1, 1, 0}, []uint64{10, 1, 1, 0}, 0, 0},
		{"no upper edge", []uint64{0, 0, 0, 0}, []uint64{0, 0, 0, 1}, 4, 4},
	} {
		middle, most := pausesBetween(tc.before, tc.after, edges)
		if math.Abs(middle-tc.middle) > 1e-9 || math.Abs(most-tc.most) > 1e-9 {
			t.Errorf("%s: the median is %v and the maximum %v, want %v and %v", tc.name, middle, most, tc.middle, tc.most)
		}
	}
}

// SPDX-License-Identifier: MIT

package benchmarks

import (
	"fmt"
	"runtime"
	"testing"
	"time"
)

// BenchmarkMemory gives what a full table holds, in bytes of heap a slot, and how
// long a forced garbage collection takes with it, in milliseconds. All sessions
// share one value, so it is the table alone that is measured.
func BenchmarkMemory(b *testing.B) {
	for _, slots := range []int{1024, 65536, 1 << 20} {
		for _, contender := range contenders {
			if contender.name == "dsm-refused" {
				continue // as dsm
			}
			b.Run(fmt.Sprintf("slots=%d/impl=%s", slots, contender.name), func(b *testing.B) {
				before := heap()
				table := fill(contender.make(slots), slots)
				held := heap() - before
				var pause time.Duration
				for b.Loop() {
					begin := time.Now()
					runtime.GC()
					pause += time.Since(begin)
				}
				runtime.KeepAlive(table)
				b.ReportMetric(float64(held)/float64(slots), "B/slot")
				b.ReportMetric(float64(pause.Microseconds())/1000/float64(b.N), "ms/GC")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

func heap() int64 {
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// SPDX-License-Identifier: MIT

package benchmarks

import (
	"fmt"
	"runtime"
	"testing"
	"time"
)

// BenchmarkMemory measures the heap of a full table, in bytes per slot, and the time
// of a forced garbage collection while the table is in use, in milliseconds. All
// sessions have the same value, so that only the memory of the table counts.
func BenchmarkMemory(b *testing.B) {
	for _, slots := range []int{1024, 65536, 1 << 20} {
		for _, contender := range contenders {
			if contender.name == "dsm-refused" {
				continue // same table as dsm
			}
			b.Run(fmt.Sprintf("slots=%d/impl=%s", slots, contender.name), func(b *testing.B) {
				before := heapBytes()
				table := fill(contender.create(slots), slots)
				tableBytes := heapBytes() - before
				var collecting time.Duration
				for b.Loop() {
					begin := time.Now()
					runtime.GC()
					collecting += time.Since(begin)
				}
				runtime.KeepAlive(table)
				b.ReportMetric(float64(tableBytes)/float64(slots), "B/slot")
				b.ReportMetric(float64(collecting.Microseconds())/1000/float64(b.N), "ms/GC")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// heapBytes returns the size of the live heap.
func heapBytes() int64 {
	for range 3 { // finalizers and pools release memory one collection later
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

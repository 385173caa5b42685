// SPDX-License-Identifier: MIT

package redisstore

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// BenchmarkGet gets one entry of 200 bytes, the size of a session with a pre-shared key,
// from a server on the same machine.
func BenchmarkGet(b *testing.B) {
	backend, _ := onServer(b)
	id := bytes.Repeat([]byte{7}, 32)
	require.NoError(b, backend.Put(b.Context(), id, make([]byte, 200), time.Hour))
	for _, goroutines := range []int{1, 16} {
		b.Run(fmt.Sprintf("goroutines=%d", goroutines), func(b *testing.B) {
			b.ReportAllocs()
			var wg sync.WaitGroup
			for i := range goroutines {
				share := (b.N + i) / goroutines
				wg.Go(func() {
					for range share {
						ctx, cancel := context.WithTimeout(b.Context(), time.Second)
						if _, ok, err := backend.Get(ctx, id); err != nil || !ok {
							b.Errorf("no hit: %v", err)
						}
						cancel()
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "hits/s")
		})
	}
}

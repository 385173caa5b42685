// SPDX-License-Identifier: MIT

package sealed

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

var benchmarkSizes = []int{256, 4 << 10, 64 << 10, MaxChunk}

func BenchmarkWriter(b *testing.B) {
	for _, size := range benchmarkSizes {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			w, err := NewWriter(io.Discard, testRing(b, testKey(1)), Header{Kind: Journal})
			require.NoError(b, err)
			payload := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if err := w.WriteChunk(payload); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkReader(b *testing.B) {
	for _, size := range benchmarkSizes {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			ring := testRing(b, testKey(1))
			var stream bytes.Buffer
			w, err := NewWriter(&stream, ring, Header{Kind: Snapshot})
			require.NoError(b, err)
			payload := make([]byte, size)
			for range 8 * MaxChunk / size {
				require.NoError(b, w.WriteChunk(payload))
			}
			require.NoError(b, w.Close())
			b.SetBytes(int64(size))
			b.ReportAllocs()
			var s *Reader
			for b.Loop() {
				if s == nil {
					if s, err = NewReader(bytes.NewReader(stream.Bytes()), ring, Snapshot); err != nil {
						b.Fatal(err)
					}
				}
				if _, err := s.Next(); err == io.EOF {
					s = nil
				} else if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// SPDX-License-Identifier: MIT

package dsm

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestSockIsFoundInFewStepsForAnyPatternOfIDs adds socks whose ids follow a pattern, and
// looks at all buckets, also while they are being split.
func TestSockIsFoundInFewStepsForAnyPatternOfIDs(t *testing.T) {
	const n, longest = 20_000, 16
	for _, stride := range []uint64{1, 3, 64, 1024, 1 << 20, 1 << 32, 1 << 44, 1<<32 + 1, 0x9E3779B97F4A7C15} {
		t.Run(fmt.Sprint(stride), func(t *testing.T) {
			s := newSlots(n)
			s.secret = [3]uint64{0, 0x9E6C63D0676A9A99, 0xD1B54A32D192ED03}
			for i := range uint64(n) {
				s.acquireSock(Sock{i * stride})
				if i%3000 != 0 && i != n-1 {
					continue
				}
				for bucket := range s.numSocks {
					length := 0
					for at := s.sockEntry(bucket).bucket; at != 0; at = s.sockEntry(at).next {
						length++
					}
					if length > longest {
						t.Fatalf("bucket %d of %d has %d entries", bucket, s.numSocks, length)
					}
				}
			}
			for i := range uint64(n) {
				entry := s.findSock(Sock{i * stride})
				if entry == 0 {
					t.Fatalf("sock %d is not found", i)
				}
				s.releaseSock(entry)
				if s.findSock(Sock{i * stride}) != 0 {
					t.Fatalf("sock %d is found after its last session", i)
				}
			}
			assert.EqualValues(t, n+1, s.numSocks)
		})
	}
}

// TestSocksAllocateOneSegmentAtATime adds socks beyond the room that New reserves.
func TestSocksAllocateOneSegmentAtATime(t *testing.T) {
	const n = 100 * segmentSocks
	s := newSlots(n)
	id := uint64(0)
	add := func() {
		for range segmentSocks {
			s.acquireSock(Sock{id})
			id++
		}
	}
	for id < minSocks+n/slotsPerSock {
		add()
	}
	assert.EqualValues(t, 1, testing.AllocsPerRun(50, add))
	for n := range s.numSocks - 1 {
		s.releaseSock(n + 1)
	}
	id = 0
	assert.Zero(t, testing.AllocsPerRun(50, add), "free entries are reused")
}

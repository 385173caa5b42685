// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// TestRecentHellosKnowRepetitions: a client repeats its ClientHello by its timer, a
// duplicate of the network comes at once.
func TestRecentHellosKnowRepetitions(t *testing.T) {
	t.Parallel()
	var h recentHellos
	now := time.Now()
	assert.False(t, h.isRepeated(1, now), "it is the first one")
	assert.Len(t, h.seen, rememberedHellos)
	assert.False(t, h.isRepeated(1, now), "a duplicate")
	assert.False(t, h.isRepeated(1, now.Add(restartAfter-1)), "a moment too early")
	now = now.Add(restartAfter - 1)
	assert.False(t, h.isRepeated(1, now.Add(restartAfter-1)), "the last one counts")
	now = now.Add(restartAfter - 1)
	assert.True(t, h.isRepeated(1, now.Add(restartAfter)))
	assert.False(t, h.isRepeated(2, now), "another one has a memory of its own")
	assert.True(t, h.isRepeated(1, now.Add(time.Hour)))

	h.takeTurn(1)
	h.takeTurn(1 + rememberedHellos) // which is not remembered
	assert.False(t, h.isRepeated(1, now.Add(2*time.Hour)), "it has had its turn")
	assert.True(t, h.isRepeated(2, now.Add(2*time.Hour)))
}

// TestRecentHellosAreBounded: two flights with one place forget each other.
func TestRecentHellosAreBounded(t *testing.T) {
	t.Parallel()
	var h recentHellos
	now := time.Now()
	assert.False(t, h.isRepeated(1, now))
	assert.False(t, h.isRepeated(1+rememberedHellos, now.Add(time.Second)))
	assert.False(t, h.isRepeated(1, now.Add(2*time.Second)))
	assert.True(t, h.isRepeated(1, now.Add(3*time.Second)))
	for key := range uint64(10 * rememberedHellos) {
		h.isRepeated(key, now)
	}
	assert.Len(t, h.seen, rememberedHellos)
}

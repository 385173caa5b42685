// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"time"

	"github.com/go-dsm/dsm/internal/lockorder"
)

// recentHellos remembers first flights that were not answered because their address had
// its handshakes already. Each has one place in a fixed array, which a later one may take.
// Each has its turn once, so that few forged ones which are repeated do not take all turns.
type recentHellos struct {
	mu lockorder.Mutex[lockorder.Leaf]
	// mu guards the following.
	seen []recentHello // nil until there is one
}

type recentHello struct {
	key     uint64 // firstFlight.key
	last    time.Time
	hadTurn bool
}

// isRepeated notes a first flight, and reports whether a client repeats it by its timer,
// which is when it was noted last at least restartAfter ago, and has had no turn yet.
func (h *recentHellos) isRepeated(key uint64, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.seen == nil {
		h.seen = make([]recentHello, rememberedHellos)
	}
	e := &h.seen[key%rememberedHellos]
	if e.key != key {
		*e = recentHello{key: key, last: now}
	}
	pause := now.Sub(e.last)
	e.last = now
	return pause >= restartAfter && !e.hadTurn
}

// takeTurn notes that a first flight has its turn.
func (h *recentHellos) takeTurn(key uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e := &h.seen[key%rememberedHellos]; e.key == key {
		e.hadTurn = true
	}
}

// SPDX-License-Identifier: MIT

//go:build lockcheck

package lockorder

import (
	"bytes"
	"fmt"
	"runtime"
	"sync"
)

// Checked reports whether this is a build with the tag lockcheck.
const Checked = true

// Mutex is a mutex of rank R. The zero value is an unlocked mutex. It must not be
// copied after first use.
type Mutex[R Rank] struct{ mu sync.Mutex }

// Lock locks m. It panics if the goroutine holds a mutex of the same or a higher
// rank: also if the mutex is free, so that one run shows what could deadlock.
func (m *Mutex[R]) Lock() {
	var r R
	id := goroutine()
	held.Lock()
	for _, other := range held.ranks[id] {
		if other >= r.rank() {
			held.Unlock()
			panic(fmt.Sprintf("lockorder: %T (rank %d) locked while a mutex of rank %d is held", r, r.rank(), other))
		}
	}
	held.ranks[id] = append(held.ranks[id], r.rank())
	held.Unlock()
	m.mu.Lock()
}

// Unlock unlocks m. The goroutine that locked it must call Unlock.
func (m *Mutex[R]) Unlock() {
	var r R
	id := goroutine()
	held.Lock()
	ranks := held.ranks[id]
	at := -1
	for i, rank := range ranks {
		if rank == r.rank() {
			at = i
		}
	}
	if at < 0 {
		held.Unlock()
		panic(fmt.Sprintf("lockorder: %T unlocked by a goroutine that does not hold it", r))
	}
	if ranks = append(ranks[:at], ranks[at+1:]...); len(ranks) > 0 {
		held.ranks[id] = ranks
	} else {
		delete(held.ranks, id)
	}
	held.Unlock()
	m.mu.Unlock()
}

// AssertNone panics if the calling goroutine holds a ranked mutex.
func AssertNone(what string) {
	id := goroutine()
	held.Lock()
	ranks := held.ranks[id]
	held.Unlock()
	if len(ranks) > 0 {
		panic(fmt.Sprintf("lockorder: %s while mutexes of ranks %v are held", what, ranks))
	}
}

// held has the ranks of the mutexes that each goroutine holds or waits for.
var held = struct {
	sync.Mutex
	ranks map[string][]int
}{ranks: map[string][]int{}}

// goroutine returns the number of the calling goroutine. The runtime has no other
// way to tell it than the first line of a stack trace, "goroutine 7 [running]:".
func goroutine() string {
	var buf [64]byte
	fields := bytes.Fields(buf[:runtime.Stack(buf[:], false)])
	return string(fields[1])
}

// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/go-dsm/dsm/internal/lockorder"
)

// sweeper releases the memory that idle sessions do not need. S is *Conn. The data path adds
// sessions, and there can be millions of them. So no call holds mu for a time that grows with
// their number, and the clock sweeps them in parts.
type sweeper[S sweepable] struct {
	// sweeping is shared by the sweeps under way: the sessions that they look at are not in
	// sessions meanwhile.
	sweeping sync.RWMutex

	mu lockorder.Mutex[lockorder.Leaf]
	// mu guards the following.
	sessions fifo[S] // those that may have something to release

	// Of the clock's goroutine:
	left  int       // sessions of this round that were not swept yet
	round time.Time // when the next round begins
}

// sweepable is a session. sweep releases the memory that it does not need, if it is idle at
// a time, and reports whether it did. The session is added again when it has something to
// release.
type sweepable interface{ sweep(now time.Time) bool }

// add notes a session that has something to release.
func (s *sweeper[S]) add(session S) {
	s.mu.Lock()
	s.sessions.push(session)
	s.mu.Unlock()
}

func (s *sweeper[S]) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions.len
}

// all returns the sessions that may have something to release now. It waits for the sweeps under
// way, so no lock may be held.
func (s *sweeper[S]) all() iter.Seq[S] {
	s.sweeping.Lock()
	defer s.sweeping.Unlock() // only a sweep pops
	s.mu.Lock()
	sessions := s.sessions.all()
	s.mu.Unlock()
	return slices.Values(slices.Collect(sessions))
}

// noteEnd notes that a session which was added has ended. The sweeper keeps it in memory. So each
// end sweeps a few sessions, and no more sessions than are established have ended, apart from
// manySwept.
func (s *sweeper[S]) noteEnd() {
	if s.len() >= manySwept {
		s.sweep(sweptByEnd, time.Now())
	}
}

// step sweeps a part of the sessions, and returns the time until the next step. In each round it
// sweeps every session.
func (s *sweeper[S]) step(now time.Time) time.Duration {
	if s.left == 0 {
		s.left, s.round = s.len(), now.Add(sweepInterval)
	}
	n := min(s.left, sweepPart)
	s.sweep(n, now)
	if s.left -= n; s.left > 0 {
		return sweepPause
	}
	return max(s.round.Sub(now), sweepPause)
}

// sweep has the n sessions that were swept longest ago release the memory that they do not need.
func (s *sweeper[S]) sweep(n int, now time.Time) {
	s.sweeping.RLock()
	defer s.sweeping.RUnlock()
	for range n {
		s.mu.Lock()
		session, ok := s.sessions.pop()
		s.mu.Unlock()
		if !ok {
			return
		}
		if !session.sweep(now) {
			s.add(session)
		}
	}
}

// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"slices"
	"sync"
	"time"

	"github.com/go-dsm/dsm/internal/lockorder"
)

// sweeper releases the memory that idle sessions do not need. S is *Conn.
type sweeper[S sweepable] struct {
	// sweeping is shared by all sweeps under way: the sessions that they look at are not in
	// sessions meanwhile.
	sweeping sync.RWMutex

	mu lockorder.Mutex[lockorder.Leaf]
	// mu guards the following.
	sessions []S // those that may have something to release
	ended    int // of these, those that have ended
}

// sweepable is a session. sweep releases the memory that it does not need, if it is idle at
// a time, and reports whether it did. The session is added again when it has something to
// release.
type sweepable interface{ sweep(now time.Time) bool }

// add notes a session that has something to release.
func (s *sweeper[S]) add(session S) {
	s.mu.Lock()
	s.sessions = append(s.sessions, session)
	s.mu.Unlock()
}

// all returns the sessions that may have something to release. It waits for the sweeps under
// way, so no lock may be held.
func (s *sweeper[S]) all() []S {
	s.sweeping.Lock()
	defer s.sweeping.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.sessions)
}

// noteEnd notes that a session which was added has ended. The sweeper keeps it in
// memory, so it sweeps at once when there are many of them.
func (s *sweeper[S]) noteEnd() {
	s.mu.Lock()
	s.ended++
	many := s.ended >= manyEnded && 2*s.ended >= len(s.sessions)
	s.mu.Unlock()
	if many {
		s.sweep(time.Now())
	}
}

// sweep has each idle session release the memory that it does not need.
func (s *sweeper[S]) sweep(now time.Time) {
	s.sweeping.RLock()
	defer s.sweeping.RUnlock()
	s.mu.Lock()
	sessions := s.sessions
	s.sessions, s.ended = nil, 0
	s.mu.Unlock()
	kept := sessions[:0]
	for _, session := range sessions {
		if !session.sweep(now) {
			kept = append(kept, session)
		}
	}
	clear(sessions[len(kept):])
	s.mu.Lock()
	s.sessions = append(s.sessions, kept...)
	s.mu.Unlock()
}

// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/stretchr/testify/assert"
)

// fakeSweepable is a session as the sweeper sees it.
type fakeSweepable struct {
	sweeper *sweeper[*fakeSweepable]

	mu sync.Mutex
	// mu guards the following.
	added, idle, ended bool
	released           int
}

// use is Conn.touchLocked.
func (s *fakeSweepable) use() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.idle = false; !s.added && !s.ended {
		s.added = true
		s.sweeper.add(s)
	}
}

func (s *fakeSweepable) set(idle bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle = idle
}

// end ends the session, as endLocked and finishEnd do.
func (s *fakeSweepable) end() {
	s.mu.Lock()
	tell := s.added && !s.ended
	s.ended = true
	s.mu.Unlock()
	if tell {
		s.sweeper.noteEnd()
	}
}

func (s *fakeSweepable) sweep(time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.idle && !s.ended {
		return false
	}
	s.added = false
	s.released++
	return true
}

// newSweepables returns a sweeper, and sessions that were added to it.
func newSweepables(n int) (*sweeper[*fakeSweepable], []*fakeSweepable) {
	s := &sweeper[*fakeSweepable]{}
	var sessions []*fakeSweepable
	for range n {
		sessions = append(sessions, &fakeSweepable{sweeper: s})
		sessions[len(sessions)-1].use()
	}
	return s, sessions
}

// TestSweepKeepsSessionsInUse, in their order.
func TestSweepKeepsSessionsInUse(t *testing.T) {
	t.Parallel()
	s, sessions := newSweepables(4)
	sessions[0].set(true)
	sessions[2].set(true)
	before := s.sessions
	s.sweep(time.Now())
	assert.Equal(t, []*fakeSweepable{sessions[1], sessions[3]}, s.sessions)
	assert.Nil(t, before[2], "what was released is not kept in memory")
	assert.Nil(t, before[3])
	assert.Equal(t, []int{1, 0, 1, 0}, []int{sessions[0].released, sessions[1].released, sessions[2].released, sessions[3].released})
	sessions[0].use()
	sessions[0].use()
	assert.Len(t, s.sessions, 3)
	s.sweep(time.Now())
	assert.Len(t, s.sessions, 3)
	assert.Equal(t, 1, sessions[0].released)
}

// TestSweeperSweepsAtOnceWhenManyHaveEnded: at least manyEnded, and half of those that it
// has.
func TestSweeperSweepsAtOnceWhenManyHaveEnded(t *testing.T) {
	t.Parallel()
	s, sessions := newSweepables(manyEnded)
	for _, c := range sessions[:manyEnded-1] {
		c.end()
	}
	assert.Len(t, s.sessions, manyEnded, "not many yet")
	sessions[manyEnded-1].end()
	assert.Empty(t, s.sessions)
	assert.Zero(t, s.ended)

	s, sessions = newSweepables(4 * manyEnded)
	for _, c := range sessions[:2*manyEnded-1] {
		c.end()
	}
	assert.Len(t, s.sessions, 4*manyEnded, "not half of them yet")
	sessions[2*manyEnded-1].end()
	assert.Len(t, s.sessions, 2*manyEnded)
	assert.Zero(t, s.ended)
}

// TestSweeperWithConcurrentCalls uses, sweeps and ends sessions. The sweeper has a session
// once if it was used since it was swept, and not otherwise.
func TestSweeperWithConcurrentCalls(t *testing.T) {
	t.Parallel()
	s, sessions := newSweepables(300)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range dtlstest.Scaled(5000, 50_000) {
				c := sessions[rand.IntN(len(sessions))]
				switch rand.IntN(100) {
				case 0:
					s.sweep(time.Now())
				case 1:
					c.end()
				case 2, 3, 4, 5, 6, 7, 8, 9:
					c.set(true)
				default:
					c.use()
				}
			}
		})
	}
	wg.Wait()
	has := map[*fakeSweepable]int{}
	for _, c := range s.sessions {
		has[c]++
	}
	released := 0
	for _, c := range sessions {
		want := 0
		if c.added {
			want = 1
		}
		assert.Equal(t, want, has[c])
		released += c.released
	}
	assert.Positive(t, released)
	for _, c := range sessions {
		c.end()
	}
	s.sweep(time.Now())
	assert.Empty(t, s.sessions)
}

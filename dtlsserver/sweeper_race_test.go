// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
	"weak"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fakeSweepable is a session as the sweeper sees it.
type fakeSweepable struct {
	sweeper *sweeper[*fakeSweepable]

	mu sync.Mutex
	// mu guards the following.
	added, idle, ended bool
	looked, released   int // how often it was swept, and released something
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
	s.looked++
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

// conns returns the sessions that a sweeper has, oldest first.
func (s *sweeper[S]) conns() []S { return slices.Collect(s.all()) }

// TestSweepKeepsSessionsInUse, in their order.
func TestSweepKeepsSessionsInUse(t *testing.T) {
	t.Parallel()
	s, sessions := newSweepables(4)
	sessions[0].set(true)
	sessions[2].set(true)
	s.sweep(4, time.Now())
	assert.Equal(t, []*fakeSweepable{sessions[1], sessions[3]}, s.conns())
	assert.Equal(t, []int{1, 0, 1, 0}, []int{sessions[0].released, sessions[1].released, sessions[2].released, sessions[3].released})
	sessions[0].use()
	sessions[0].use()
	assert.Len(t, s.conns(), 3)
	s.sweep(10, time.Now())
	assert.Len(t, s.conns(), 3)
	assert.Equal(t, 1, sessions[0].released)
}

// TestClockSweepsInParts: a step looks at sweepPart sessions, and a round at all of them, once.
func TestClockSweepsInParts(t *testing.T) {
	t.Parallel()
	s, sessions := newSweepables(3*sweepPart + 1)
	looked := func() (n int) {
		for _, c := range sessions {
			n += c.looked
		}
		return n
	}
	began := time.Now()
	for range 2 {
		for step := range 3 {
			assert.Equal(t, sweepPause, s.step(began))
			assert.Equal(t, sweepPart*(step+1), looked())
		}
		later := began.Add(time.Second)
		assert.Equal(t, sweepInterval-time.Second, s.step(later))
		for _, c := range sessions {
			require.Equal(t, 1, c.looked)
			c.looked = 0
		}
		began = began.Add(sweepInterval)
	}
	for _, c := range sessions {
		c.set(true)
	}
	for range 4 {
		assert.Equal(t, sweepPause, s.step(began), "the last step comes late")
		began = began.Add(sweepInterval)
	}
	assert.Empty(t, s.conns())
	assert.Equal(t, sweepInterval, s.step(began))
}

// TestEndedSessionsAreFewInSweeper, in whatever order the sessions end, though no end looks at
// more than sweptByEnd of them.
func TestEndedSessionsAreFewInSweeper(t *testing.T) {
	t.Parallel()
	const n = 20 * manySwept
	for name, next := range map[string]func(live []*fakeSweepable, s *sweeper[*fakeSweepable]) int{
		"oldest first": func([]*fakeSweepable, *sweeper[*fakeSweepable]) int { return 0 },
		"newest first": func(live []*fakeSweepable, _ *sweeper[*fakeSweepable]) int { return len(live) - 1 },
		"any":          func(live []*fakeSweepable, _ *sweeper[*fakeSweepable]) int { return rand.IntN(len(live)) },
		"the one that the sweeper will look at last": func(live []*fakeSweepable, s *sweeper[*fakeSweepable]) int {
			conns := s.conns()
			for i := len(conns) - 1; ; i-- {
				if at := slices.Index(live, conns[i]); at >= 0 {
					return at
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, live := newSweepables(n)
			all, looked := slices.Clone(live), 0
			for len(live) > 0 {
				at := next(live, s)
				live[at].end()
				live = slices.Delete(live, at, at+1)
				require.LessOrEqual(t, s.len(), 2*len(live)+manySwept)
			}
			for _, c := range all {
				looked += c.looked
			}
			assert.LessOrEqual(t, looked, sweptByEnd*n)
		})
	}
}

// TestSweeperForgetsWhatItHasReleased: it does not wait for the sessions that are still in use.
func TestSweeperForgetsWhatItHasReleased(t *testing.T) {
	t.Parallel()
	s := &sweeper[*fakeSweepable]{}
	var ended []weak.Pointer[fakeSweepable]
	for range 50 {
		c := &fakeSweepable{sweeper: s}
		c.use()
		c.end()
		ended = append(ended, weak.Make(c))
	}
	live := []*fakeSweepable{{sweeper: s}, {sweeper: s}}
	for _, c := range live {
		c.use()
	}
	for range 10 {
		s.sweep(s.len(), time.Now())
	}
	require.Equal(t, live, s.conns())
	runtime.GC()
	for _, c := range ended {
		require.Nil(t, c.Value())
	}
	runtime.KeepAlive(s)
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
					s.sweep(s.len(), time.Now())
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
	for c := range s.all() {
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
	s.sweep(s.len(), time.Now())
	assert.Empty(t, s.conns())
}

// BenchmarkSweeperStep measures for how long a step of the clock keeps a core, with a million
// sessions in use.
func BenchmarkSweeperStep(b *testing.B) {
	s := &sweeper[*fakeSweepable]{}
	sessions := make([]fakeSweepable, 1_000_000)
	for i := range sessions {
		s.add(&sessions[i])
	}
	for b.Loop() {
		s.step(time.Now())
	}
}

// BenchmarkSweeperEnd measures what the sweeper adds to the end of a session.
func BenchmarkSweeperEnd(b *testing.B) {
	s := &sweeper[*fakeSweepable]{}
	sessions := make([]fakeSweepable, 1_000_000)
	for i := range sessions {
		s.add(&sessions[i])
	}
	for b.Loop() {
		s.noteEnd()
	}
}

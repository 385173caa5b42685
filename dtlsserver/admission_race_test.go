// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/stretchr/testify/assert"
)

// racingOwner is a handshake that a goroutine runs.
type racingOwner struct {
	ticket    ticket
	displaces *atomic.Int64
	once      atomic.Bool
}

func (o *racingOwner) displaced() {
	if o.once.Swap(true) {
		panic("displaced twice")
	}
	o.displaces.Add(1)
}

// TestAdmissionWithConcurrentCalls has many goroutines admit, validate, restart, end and
// complete handshakes of a few networks, while sessions end and, in the end, the
// admission is stopped. Each handshake ends in one way.
func TestAdmissionWithConcurrentCalls(t *testing.T) {
	t.Parallel()
	for _, cfg := range []Config{
		{Sessions: 4, Handshakes: 6, HandshakesPerSource: 3},
		{Sessions: 1, Handshakes: 1, HandshakesPerSource: 1},
		{Sessions: 2, Handshakes: 8, HandshakesPerSource: 8, WhenFull: RefuseNewcomer},
	} {
		// In a bubble handshakes reach the ages that restart and displacement need.
		synctest.Test(t, func(t *testing.T) { admitConcurrently(t, cfg) })
	}
}

func admitConcurrently(t *testing.T, cfg Config) {
	const goroutines = 12
	rounds := dtlstest.Scaled(1000, 10_000)
	x := newAdmissionTest(cfg)
	var starts, displaces, completed, ended, refusals, stops, sessions, restarted atomic.Int64
	stopAt := make(chan struct{})
	var latest [goroutines]atomic.Pointer[racingOwner] // for the other goroutines

	establish := func() {
		if x.full() {
			return // refused
		}
		if n := x.established.Add(1); n > int64(cfg.Sessions) {
			t.Errorf("%d sessions", n)
		}
		sessions.Add(1)
	}
	handshake := func(r *rand.Rand, me int) {
		o := &racingOwner{displaces: &displaces}
		o.ticket.owner = o
		old := latest[r.IntN(goroutines)].Load()
		restarts := old != nil && r.IntN(4) == 0
		start := func() *ticket {
			if r.IntN(16) == 0 {
				return nil
			}
			if restarts {
				old.displaced()
			}
			starts.Add(1)
			return &o.ticket
		}
		var cause refusal
		if restarts {
			cause = x.restart(&old.ticket, start)
		} else {
			addr := netip.AddrFrom4([4]byte{10, 0, byte(r.IntN(4)), byte(r.IntN(256))})
			cause = x.admit(addr, r.IntN(4) == 0, start)
		}
		switch cause {
		case admitted:
			if restarts {
				restarted.Add(1)
			}
		case stopped:
			stops.Add(1)
			return
		default:
			refusals.Add(1)
			time.Sleep(time.Duration(r.IntN(1000)) * time.Millisecond)
			return
		}
		defer x.finished()
		latest[me].Store(o)
		if r.IntN(3) == 0 {
			x.validate(&o.ticket)
		}
		if r.IntN(3) == 0 {
			time.Sleep(time.Duration(r.IntN(3)) * stallAfter / 2)
		}
		if r.IntN(3) > 0 && x.complete(&o.ticket, establish) {
			completed.Add(1)
			return
		}
		x.end(&o.ticket)
		x.mu.Lock()
		byOther := o.once.Load()
		x.mu.Unlock()
		if !byOther {
			ended.Add(1)
		}
	}

	var wg sync.WaitGroup
	for me := range goroutines {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(me), 1))
			for round := range rounds {
				handshake(r, me)
				if r.IntN(8) == 0 {
					time.Sleep(time.Duration(r.IntN(200)) * time.Millisecond)
				}
				if n := x.established.Load(); n > 0 && r.IntN(2) == 0 && x.established.CompareAndSwap(n, n-1) {
					x.sessionEnded()
				}
				if other := latest[r.IntN(goroutines)].Load(); other != nil && r.IntN(2) == 0 {
					x.validate(&other.ticket)
				}
				if r.IntN(16) == 0 {
					x.check(t)
				}
				if me == 0 && round == rounds*9/10 {
					close(stopAt)
				}
			}
		})
	}
	wg.Go(func() {
		<-stopAt
		x.stop()
		drained := x.waitDrained()
		x.check(t)
		for n := x.established.Load(); n > 0; n = x.established.Load() {
			if x.established.CompareAndSwap(n, n-1) {
				x.sessionEnded()
			}
		}
		<-drained
		assert.Zero(t, x.established.Load(), "none was established after stop")
	})
	wg.Wait()
	x.check(t)
	assert.Empty(t, x.sources)
	assert.Zero(t, x.running)
	assert.Equal(t, starts.Load(), displaces.Load()+completed.Load()+ended.Load())
	for what, n := range map[string]*atomic.Int64{
		"displaced": &displaces, "completed": &completed, "ended": &ended, "refused": &refusals, "sessions": &sessions,
	} {
		assert.Positive(t, n.Load(), what)
	}
	if cfg.Handshakes > 1 { // else it is rare that one is old enough
		assert.Positive(t, restarted.Load(), "restarted")
	}
	t.Logf("%d started, %d displaced, %d completed, %d ended, %d refused, %d restarted, %d after stop",
		starts.Load(), displaces.Load(), completed.Load(), ended.Load(), refusals.Load(), restarted.Load(), stops.Load())
}

// TestLateSessionEndDrainsNothing: a goroutine notes late that the last session has ended.
// Another session was established since, and Shutdown waits for its end.
func TestLateSessionEndDrainsNothing(t *testing.T) {
	t.Parallel()
	for range 200 {
		x := newAdmissionTest(Config{Sessions: 1, Handshakes: 1, HandshakesPerSource: 1})
		var begun, noted sync.WaitGroup
		begun.Add(1)
		x.mu.Lock()
		noted.Go(func() {
			begun.Done()
			x.sessionEnded()
		})
		begun.Wait()
		for range 100 {
			runtime.Gosched() // so that it waits for the lock
		}
		x.established.Add(1)
		x.drained = make(chan struct{})
		x.mu.Unlock()
		noted.Wait()
		select {
		case <-x.waitDrained():
			t.Fatal("drained, and there is a session")
		default:
		}
	}
}

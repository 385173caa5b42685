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
	if !o.ticket.ended { // the admission's lock is held
		panic("displaced before the end")
	}
	o.displaces.Add(1)
}

// TestAdmissionWithConcurrentCalls has many goroutines admit, classify, validate, restart,
// displace, end and complete handshakes of a few networks, while sessions end and, in the
// end, the admission is stopped. Each handshake ends in one way.
func TestAdmissionWithConcurrentCalls(t *testing.T) {
	t.Parallel()
	for _, cfg := range []Config{
		{Sessions: 4, Handshakes: 16, HandshakesPerSource: 3},
		{Sessions: 4, Handshakes: 8, HandshakesPerSource: 2},
		{Sessions: 1, Handshakes: 1, HandshakesPerSource: 1},
		{Sessions: 2, Handshakes: 8, HandshakesPerSource: -1, WhenFull: RefuseNewcomer},
	} {
		// In a bubble handshakes reach the ages that displacement needs.
		synctest.Test(t, func(t *testing.T) { admitConcurrently(t, cfg) })
	}
}

func admitConcurrently(t *testing.T, cfg Config) {
	const goroutines = 24
	rounds := dtlstest.Scaled(1000, 10_000)
	x := newAdmissionTest(t, cfg)
	var crowded atomic.Bool
	x.patience.isCrowded = crowded.Load
	var starts, displaces, completed, ended, putOff, refusals, stops, sessions, restarted atomic.Int64
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
		q := request{
			addr:   netip.AddrFrom4([4]byte{10, 0, byte(r.IntN(4)), byte(r.IntN(256))}),
			inSlot: r.IntN(4) == 0, class: clientClass(r.IntN(8) / 7), namesSession: r.IntN(2) == 0,
		}
		if old := latest[r.IntN(goroutines)].Load(); old != nil && r.IntN(4) == 0 {
			x.mu.Lock()
			q.addr, q.replaces, q.inSlot = old.ticket.prefix.Addr(), &old.ticket, true
			x.mu.Unlock()
		}
		q.start = func() *ticket {
			if r.IntN(16) == 0 {
				return nil
			}
			starts.Add(1)
			return &o.ticket
		}
		switch cause := x.admit(q); cause {
		case admitted:
			if q.replaces != nil {
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
		time.Sleep(time.Duration(r.IntN(2000)) * time.Millisecond) // the look-up
		if cause := x.classify(&o.ticket, r.IntN(4) == 0, func() {}); cause != admitted {
			if cause != stopped {
				putOff.Add(1)
			} else if !o.once.Load() {
				t.Error("the ticket has ended, and nobody has ended it")
			}
			return
		}
		if r.IntN(3) > 0 {
			time.Sleep(time.Duration(r.IntN(5000)) * time.Millisecond)
			x.validate(&o.ticket)
		}
		if r.IntN(8) == 0 {
			time.Sleep(time.Duration(r.IntN(3)) * longPatience)
		}
		if r.IntN(3) > 0 && x.complete(&o.ticket, establish) > 0 {
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
				if other := latest[r.IntN(goroutines)].Load(); other != nil {
					switch r.IntN(8) {
					case 0, 1:
						x.validate(&other.ticket)
					case 2:
						x.displace(&other.ticket)
					}
				}
				if r.IntN(16) == 0 {
					crowded.Store(r.IntN(2) == 0)
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
	assert.Zero(t, x.lookingUp)
	assert.Equal(t, starts.Load(), displaces.Load()+completed.Load()+ended.Load()+putOff.Load())
	for what, n := range map[string]*atomic.Int64{
		"displaced": &displaces, "completed": &completed, "ended": &ended, "refused": &refusals, "sessions": &sessions, "restarted": &restarted,
	} {
		assert.Positive(t, n.Load(), what)
	}
	if cfg.Handshakes >= 8 && cfg.WhenFull != RefuseNewcomer { // else hardly anybody is looked up while there is no room
		assert.Positive(t, putOff.Load(), "put off")
	}
	t.Logf("%d started, %d displaced, %d completed, %d ended, %d put off, %d refused, %d restarted, %d after stop",
		starts.Load(), displaces.Load(), completed.Load(), ended.Load(), putOff.Load(), refusals.Load(), restarted.Load(), stops.Load())
}

// TestLateSessionEndDrainsNothing: a goroutine notes late that the last session has ended.
// Another session was established since, and Shutdown waits for its end.
func TestLateSessionEndDrainsNothing(t *testing.T) {
	t.Parallel()
	for range 200 {
		x := newAdmissionTest(t, Config{Sessions: 1, Handshakes: 1})
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

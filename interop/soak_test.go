// SPDX-License-Identifier: MIT

package interop

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var soakFor = flag.Duration("soak", 10*time.Second, "how long TestSoakRoaming takes")

const (
	soakSessions, soakHandshakes = 512, 64
	roamersPerKind               = 4

	// Sessions of clients that have died expire after this time, and at the end of the test
	// after the other one.
	soakIdleTimeout, lastIdleTimeout = 10 * time.Second, time.Second
	soakJournalInterval              = 200 * time.Millisecond

	// The time between two restarts is between these.
	minUptime, maxUptime = 500 * time.Millisecond, 2500 * time.Millisecond

	// The time of one attempt to connect. A client that does not get in makes another one,
	// within dtlstest.Patience.
	connectTimeout = 3 * time.Second
	// The time after which a line is repeated, which is doubled each time, and at most.
	firstRepeat, maxRepeat = 250 * time.Millisecond, 2 * time.Second
	// How long a client waits whose session may have been too young for the journal.
	forgottenAfter = 2 * time.Second
	// The time between two rounds of lines, at most.
	maxPause = 100 * time.Millisecond

	strangersRate = 100 // datagrams a second
	// Datagrams of strangers during one restart. The kernel's buffers hold them, and what the
	// clients send.
	maxDuringRestart = 100
	keptRecords      = 256 // captured datagrams that strangers choose from
)

// soakCounts are what the clients and strangers of TestSoakRoaming have done, and what became of
// their sessions.
type soakCounts struct {
	connects, failedConnects atomic.Int64
	echoes, repeated, lost   atomic.Int64 // lines
	moves, stolen            atomic.Int64 // of the clients with a session; of their records
	closes, deaths, reboots  atomic.Int64
	closedByCrash, untold    atomic.Int64 // sessions, and those whose clients were not told
	forgotten                atomic.Int64 // sessions
	confirmed                atomic.Int64 // new addresses, by the application
	strangers                atomic.Int64 // datagrams
	savings, failedSavings   atomic.Int64
	crashes                  atomic.Int64
	restored, recovered      atomic.Int64 // sessions
}

func (c *soakCounts) String() string {
	return fmt.Sprintf("%d connects and %d that failed, %d echoes, %d lines repeated and %d lost on their way, %d moves, %d records stolen, "+
		"%d clients closed, %d died, %d came back on their port, %d restarts, %d failed ones, %d crashes, %d sessions restored, %d recovered, "+
		"%d closed after a crash, %d without a word, %d forgotten by one, %d addresses confirmed, %d datagrams of strangers",
		c.connects.Load(), c.failedConnects.Load(), c.echoes.Load(), c.repeated.Load(), c.lost.Load(), c.moves.Load(), c.stolen.Load(),
		c.closes.Load(), c.deaths.Load(), c.reboots.Load(), c.savings.Load(), c.failedSavings.Load(), c.crashes.Load(), c.restored.Load(), c.recovered.Load(),
		c.closedByCrash.Load(), c.untold.Load(), c.forgotten.Load(), c.confirmed.Load(), c.strangers.Load())
}

// soak is one run of TestSoakRoaming.
type soak struct {
	t       *testing.T
	done    soakCounts
	server  *soakServer
	roamers []*roamer

	// roaming is held by a crash, while no client may move and no stranger send, and shared by
	// those that do.
	roaming   sync.RWMutex
	lastCrash atomic.Pointer[soakCrash]

	mu sync.Mutex
	// mu guards the following.
	ports    map[uint16]*roamer // those that a session of a client has had, or can still have
	captured [][]byte           // datagrams of clients with a session
	stolen   [][]byte           // those that have not come to the server
}

// TestSoakRoaming has clients behind NATs connect, talk, move, close, die and come back, while
// the server restarts every few seconds, in order or by a crash, and strangers send what they
// can. A session outlives each move and each restart: its client gets all echoes, except those
// that were on their way at a move or a crash, which it gets when it repeats the line. Nothing
// leaks, and the counts agree. The test measures the heap, so it does not run in parallel with
// other tests.
func TestSoakRoaming(t *testing.T) {
	dtlstest.CheckLeaks(t)
	s := &soak{t: t, ports: map[uint16]*roamer{}}
	s.lastCrash.Store(&soakCrash{})
	s.server = startSoakServer(s)
	for _, kind := range roamerKinds {
		for n := range roamersPerKind {
			s.roamers = append(s.roamers, newRoamer(s, kind, n))
		}
	}
	ctx, stop := context.WithTimeout(t.Context(), *soakFor)
	defer stop()
	var clients, others sync.WaitGroup
	for _, r := range s.roamers {
		clients.Go(func() { r.run(ctx) })
	}
	var restarts sync.WaitGroup
	restarts.Go(func() { s.restart(ctx) })
	strangersCtx, stopStrangers := context.WithCancel(context.Background())
	defer stopStrangers()
	others.Go(func() { s.runStrangers(strangersCtx) })
	var heaps []uint64
	for ctx.Err() == nil && !t.Failed() {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		heaps = append(heaps, m.HeapAlloc)
		select {
		case <-ctx.Done():
		case <-time.After(max(*soakFor/20, 100*time.Millisecond)):
		}
	}
	stop()
	restarts.Wait()
	clients.Wait()
	stopStrangers()
	others.Wait()

	// What is left are the sessions of clients that have died.
	s.server.save(lastIdleTimeout)
	l := s.server.current()
	dtlstest.Eventually(t, func() bool {
		return s.server.table.AvailableSlots() == s.server.table.MaxSlots() && l.Stats().HalfOpen == 0
	}, "every slot is free")
	assert.Zero(t, l.Stats().Established)
	s.server.close()
	total := s.server.total
	assert.LessOrEqual(t, int64(total.Completed), s.done.connects.Load()+s.done.failedConnects.Load(), "nobody but clients without a session has made a handshake")
	assert.GreaterOrEqual(t, int64(total.Completed), s.done.connects.Load())
	for name, count := range map[string]uint64{
		"AddressChanges": total.AddressChanges, "RoutabilityChecks": total.RoutabilityChecks, "Resumed": total.Resumed,
		"Replayed": total.Replayed, "Forged": total.Forged, "Stray": total.Stray,
		"confirmed": uint64(s.done.confirmed.Load()), "stolen": uint64(s.done.stolen.Load()), "reboots": uint64(s.done.reboots.Load()),
	} {
		assert.NotZero(t, count, name)
	}
	if s.lastCrash.Load().closes > 0 { // a slow machine may not come to such a crash in a short test
		assert.NotZero(t, total.Interrupted)
	}
	if n := len(heaps); n >= 10 {
		// The first tenth warms up. In the last half no more is held than in the first.
		assert.Less(t, slices.Max(heaps[n/2:]), 2*slices.Max(heaps[n/10:n/2])+(8<<20))
	}
	t.Logf("%v; %d return-routability checks, %d address changes, %d refused, %d answers limited, %d resumptions", &s.done,
		total.RoutabilityChecks, total.AddressChanges, total.AddressChangesRefused, total.AddressLimited, total.Resumed)
	t.Logf("heap in MB: %d; %+v", megabytes(heaps), total)
}

func megabytes(heaps []uint64) []uint64 {
	var all []uint64
	for _, h := range heaps {
		all = append(all, h>>20)
	}
	return all
}

// restart restarts the server again and again, in each of the ways in turn.
func (s *soak) restart(ctx context.Context) {
	ways := []func(){
		func() { s.server.save(soakIdleTimeout) },
		func() { s.server.crash(ctx, dtlsserver.ContinueSessions) },
		s.server.failToSave,
		func() { s.server.save(soakIdleTimeout) },
		func() { s.server.crash(ctx, dtlsserver.CloseSessions) },
		func() { s.server.save(soakIdleTimeout) },
		func() { s.server.save(soakIdleTimeout) },
	}
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-time.After(minUptime + rand.N(maxUptime-minUptime)):
		}
		if s.t.Failed() && n > 0 { // the first failure says most
			return
		}
		ways[n%len(ways)]()
	}
}

func (s *soak) require(err error) { require.NoError(s.t, err) }

// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/lockorder"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestRunOfForgedRecordsDerivesKeysOnce: of a run of forged records at an idle session,
// each in a datagram of its own, only the first one allocates, as only the first one does
// that builds ciphers.
func TestRunOfForgedRecordsDerivesKeysOnce(t *testing.T) {
	if dtlstest.RaceEnabled || lockorder.Checked {
		t.Skip("the race detector and the check of the lock order allocate")
	}
	l := newBareListener(t, 1)
	datagram, now := unauthentic(), time.Now()
	assert.Zero(t, testing.AllocsPerRun(100, func() { l.forge(0, datagram, now) }))
	assert.EqualValues(t, 101, l.Stats().Forged)
	assert.True(t, l.conns[0].HasBuiltCiphers())
}

// TestForgedRecordIsNoUseOfWarmSession: neither the order of use nor the time of the last
// use changes.
func TestForgedRecordIsNoUseOfWarmSession(t *testing.T) {
	t.Parallel()
	l := newBareListener(t, 2)
	begin := time.Now()
	l.use(t, 0, begin)
	l.use(t, 1, begin)
	now := begin.Add(time.Hour)
	require.True(t, l.conns[0].Sweep(now))
	idle, uses := l.conns[0].idle(now), l.table.Stats().Uses
	for range 3 {
		l.forge(0, unauthentic(), now)
	}
	require.True(t, l.conns[0].HasBuiltCiphers())
	assert.False(t, l.conns[0].HasCiphers(), "the sweeper does not have it")
	assert.Equal(t, idle, l.conns[0].idle(now))
	assert.Equal(t, uses, l.table.Stats().Uses)
	assert.Same(t, l.conns[0], l.leastRecentlyUsed())
}

// TestAttackedIdleSessionsHoldFewCiphers: forged records at all of many idle sessions make
// few of them larger.
func TestAttackedIdleSessionsHoldFewCiphers(t *testing.T) {
	t.Parallel()
	l := newBareListener(t, 1000)
	for range 3 {
		for n := range l.conns {
			l.forge(n, unauthentic(), time.Now())
			require.True(t, l.conns[n].HasBuiltCiphers())
		}
		assert.Equal(t, maxWarm, l.withBuiltCiphers())
		assert.Equal(t, maxWarm, l.WarmConns())
	}
}

// TestRecordThatBuildsNoCiphersTakesNoPlace: it is too short, a replay, or of another
// epoch.
func TestRecordThatBuildsNoCiphersTakesNoPlace(t *testing.T) {
	t.Parallel()
	l := newBareListener(t, 1)
	short, later := unauthentic(), unauthentic()
	short = short[:13+3]
	short[12] = 3
	later[4] = 2
	l.forge(0, short, time.Now())
	l.forge(0, later, time.Now())
	assert.EqualValues(t, 1, l.Stats().Forged)
	assert.EqualValues(t, 1, l.Stats().Epoch)
	assert.Zero(t, l.WarmConns())
	assert.Zero(t, l.withBuiltCiphers())
}

// TestUsedSessionLeavesRing: from then on the sweeper has its ciphers, and those of a busy
// session stay whatever goes through the ring.
func TestUsedSessionLeavesRing(t *testing.T) {
	t.Parallel()
	l := newBareListener(t, 2*maxWarm)
	now := time.Now()
	l.forge(0, unauthentic(), now)
	require.Equal(t, 1, l.WarmConns())
	l.use(t, 0, now)
	assert.Zero(t, l.WarmConns())
	assert.True(t, l.conns[0].HasCiphers(), "the sweeper has it")
	assert.Equal(t, 1, l.SweeperConns())
	for n := range l.conns {
		l.forge(n, unauthentic(), now)
	}
	assert.True(t, l.conns[0].HasBuiltCiphers())
	assert.Equal(t, maxWarm+1, l.withBuiltCiphers())

	l.SweepAll(now.Add(time.Hour))
	require.False(t, l.conns[0].HasBuiltCiphers())
	l.forge(0, unauthentic(), now)
	assert.True(t, l.conns[0].HasBuiltCiphers())
	assert.Equal(t, maxWarm, l.withBuiltCiphers(), "it has a place in the ring again")
	l.use(t, 0, now)
	assert.Equal(t, maxWarm-1, l.WarmConns())
}

// TestRingReleasesCiphersAfterTime also of a session that is attacked all the time.
func TestRingReleasesCiphersAfterTime(t *testing.T) {
	t.Parallel()
	l := newBareListener(t, 3)
	begin := time.Now()
	l.forge(0, unauthentic(), begin)
	l.forge(1, unauthentic(), begin.Add(releaseAfter/2))
	l.warm.sweep(begin.Add(releaseAfter - 1))
	assert.Equal(t, 2, l.withBuiltCiphers())
	l.forge(0, unauthentic(), begin.Add(releaseAfter-1))
	l.warm.sweep(begin.Add(releaseAfter))
	assert.Equal(t, 1, l.withBuiltCiphers())
	assert.Equal(t, 1, l.WarmConns())
	l.forge(2, unauthentic(), begin.Add(releaseAfter))
	l.warm.sweep(begin.Add(3 * releaseAfter))
	assert.Zero(t, l.withBuiltCiphers())
	assert.Zero(t, l.WarmConns())
}

// TestRingHasNoEndedSession: it would keep the session in memory.
func TestRingHasNoEndedSession(t *testing.T) {
	t.Parallel()
	l := newBareListener(t, 3)
	for n, c := range l.conns {
		l.forge(n, unauthentic(), time.Now())
		require.Equal(t, 1, l.WarmConns())
		l.end(c, ClosedByPeer)
		require.Zero(t, l.WarmConns())
		l.forge(n, unauthentic(), time.Now())
		require.Zero(t, l.WarmConns())
		require.False(t, c.HasBuiltCiphers())
	}
}

// TestRingUnderStress has sessions attacked, used, swept and ended by several goroutines.
// At the end each session's ciphers are where the session says.
func TestRingUnderStress(t *testing.T) {
	t.Parallel()
	l := newBareListener(t, 3*maxWarm)
	begin := time.Now()
	var group sync.WaitGroup
	const rounds = 3000
	for range 2 {
		group.Go(func() {
			for range rounds {
				l.forge(rand.IntN(len(l.conns)), unauthentic(), begin.Add(rand.N(releaseAfter)))
			}
		})
	}
	group.Go(func() {
		for range rounds / 10 {
			l.use(t, rand.IntN(len(l.conns)), begin)
		}
	})
	group.Go(func() {
		for range rounds / 10 {
			l.warm.sweep(begin.Add(2 * releaseAfter))
			l.SweepAll(begin.Add(2 * releaseAfter))
		}
	})
	group.Go(func() {
		for n := range 10 {
			l.end(l.conns[n], ClosedByPeer)
		}
	})
	group.Wait()
	inRing := 0
	for _, c := range l.conns {
		places := 0
		for _, s := range l.warm.ring {
			if s.conn == c {
				places++
			}
		}
		inRing += places
		assert.Equal(t, c.releaser == byRing, places == 1)
		assert.LessOrEqual(t, places, 1)
		if c.HasBuiltCiphers() {
			assert.NotEqual(t, noReleaser, c.releaser)
			assert.Zero(t, c.ended)
		}
	}
	assert.Equal(t, inRing, l.WarmConns())
	l.warm.sweep(begin.Add(time.Hour))
	l.SweepAll(begin.Add(time.Hour))
	assert.Zero(t, l.withBuiltCiphers())
}

// BenchmarkForgedRecord measures what a forged record costs, each in a datagram of its
// own: at a busy session, at one idle session, and in turn at each of 1000 idle sessions,
// which is more than keep ciphers. It alternates between them, and gives the medians, and
// the ratios of these.
func BenchmarkForgedRecord(b *testing.B) {
	l := newBareListener(b, 1001)
	datagram, now := unauthentic(), time.Now()
	const busy, run = 1000, 1000
	l.use(b, busy, now)
	var busyTimes, idleTimes, manyTimes []time.Duration
	for b.Loop() {
		l.warm.sweep(now.Add(time.Hour))
		measure := func(into *[]time.Duration, session func(n int) int) {
			begin := time.Now()
			for n := range run {
				l.forge(session(n), datagram, now)
			}
			*into = append(*into, time.Since(begin))
		}
		measure(&busyTimes, func(int) int { return busy })
		measure(&idleTimes, func(int) int { return 0 })
		measure(&manyTimes, func(n int) int { return n })
	}
	median := func(times []time.Duration) float64 {
		slices.Sort(times)
		return float64(times[len(times)/2].Nanoseconds()) / run
	}
	atBusy, atIdle, atMany := median(busyTimes), median(idleTimes), median(manyTimes)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(atBusy, "busy-ns/record")
	b.ReportMetric(atIdle, "idle-ns/record")
	b.ReportMetric(atMany, "many-ns/record")
	b.ReportMetric(atIdle/atBusy, "idle/busy")
	b.ReportMetric(atMany/atBusy, "many/busy")
}

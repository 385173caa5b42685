// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"math/bits"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// totalTest is a queueTotal with inboxes of different peers.
type totalTest struct {
	queueTotal
	boxes []*inbox
}

func newTotalTest(total, sessions int) *totalTest {
	q := &totalTest{}
	q.init(total, sessions)
	for range sessions {
		q.boxes = append(q.boxes, newInbox(new(sync.Mutex), &q.queueTotal))
	}
	return q
}

// push adds a datagram to the n-th inbox as a session does, and reports whether it was
// taken.
func (q *totalTest) push(n, size int) bool {
	b, dropped := q.boxes[n], atomic.Uint64{}
	b.changed.L.Lock()
	taken := b.push(newBuffer(size), 1<<20, 1<<30)
	b.changed.L.Unlock()
	q.relieve(&dropped)
	return taken
}

// check compares the total and the lists with the inboxes.
func (q *totalTest) check(t *testing.T) {
	t.Helper()
	sum, want := 0, map[*inbox]int{}
	for _, b := range q.boxes {
		bytes := 0
		for _, d := range b.datagrams {
			bytes += d.cost()
		}
		require.Equal(t, bytes, b.bytes)
		if b.total == nil {
			continue
		}
		sum += bytes
		if bytes > q.threshold {
			want[b] = bits.Len(uint(bytes))
		}
	}
	require.EqualValues(t, sum, q.bytes.Load())
	got := map[*inbox]int{}
	for n, first := range q.lists {
		require.Equal(t, first != nil, n > 0 && q.filled>>(n-1)&1 == 1)
		var previous *inbox
		for b := first; b != nil; b = b.place.next {
			require.Same(t, previous, b.place.previous)
			require.Equal(t, n, b.place.list)
			got[b], previous = n, b
		}
	}
	require.Equal(t, want, got)
}

// TestQueueTotalAgainstModel has random operations on some inboxes, and checks the lists
// after each. The total is kept: the queues of so few sessions cannot all be short.
func TestQueueTotalAgainstModel(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	q := newTotalTest(64<<10, 12)
	for range 20000 {
		n := random.IntN(len(q.boxes))
		b := q.boxes[n]
		switch random.IntN(20) {
		case 0:
			b.clear()
		case 1:
			b.leaveTotal()
			q.check(t)
			q.boxes[n] = newInbox(new(sync.Mutex), &q.queueTotal) // the next session's
		case 2, 3, 4, 5, 6:
			b.pop()
		default:
			q.push(n, random.IntN(3000))
		}
		q.check(t)
		require.LessOrEqual(t, q.bytes.Load(), q.limit)
	}
	for _, b := range q.boxes {
		b.clear()
	}
	q.check(t)
	assert.Zero(t, q.bytes.Load())
}

// TestLongestQueuePays: the total is full, and the datagram of a session with a short
// queue is taken. A session with one of the longest queues loses the one that has arrived.
func TestLongestQueuePays(t *testing.T) {
	t.Parallel()
	q := newTotalTest(32<<10, 4)
	for q.push(0, 900) {
	}
	full := len(q.boxes[0].datagrams)
	oldest, newest := q.boxes[0].datagrams[0], q.boxes[0].datagrams[full-1]
	assert.Greater(t, full, 20)
	assert.True(t, q.push(1, 100))
	assert.Len(t, q.boxes[1].datagrams, 1)
	require.Len(t, q.boxes[0].datagrams, full-1)
	assert.Same(t, oldest, q.boxes[0].datagrams[0])
	assert.NotSame(t, newest, q.boxes[0].datagrams[full-2], "the newest was dropped")

	// A large datagram can cost several small ones.
	q.boxes[0].clear()
	q.boxes[1].clear()
	for q.push(0, 10) {
	}
	full = len(q.boxes[0].datagrams)
	require.True(t, q.push(1, 2000))
	assert.Less(t, len(q.boxes[0].datagrams), full-5)
	q.check(t)
	assert.LessOrEqual(t, q.bytes.Load(), q.limit)
}

// TestShortQueuesLoseWhatArrives: when no queue is above the threshold there is nobody to
// drop from. That can be while more sessions are counted than are established.
func TestShortQueuesLoseWhatArrives(t *testing.T) {
	t.Parallel()
	q := newTotalTest(16<<10, 8)
	q.threshold = 1 << 20
	for n := range 8 {
		require.True(t, q.push(n, 1500))
	}
	n := 0
	for ; q.push(n%8, 1500); n++ {
		require.Less(t, n, 8)
	}
	assert.LessOrEqual(t, q.bytes.Load(), q.limit)
	q.check(t)
}

// TestShortQueuesTakeNoLock: a session that is read in time is in no list.
func TestShortQueuesTakeNoLock(t *testing.T) {
	t.Parallel()
	q := newTotalTest(DefaultQueueTotal, DefaultSessions)
	q.mu.Lock() // which would be a deadlock
	for range 100 {
		require.True(t, q.push(0, 1400))
		require.True(t, q.push(0, 1400))
		q.boxes[0].pop()
		q.boxes[0].pop()
	}
	q.mu.Unlock()
	assert.Zero(t, q.bytes.Load())
}

// TestThresholdIsWhatSessionsCanHave: with many sessions and a small total also short
// queues are in the lists.
func TestThresholdIsWhatSessionsCanHave(t *testing.T) {
	t.Parallel()
	assert.Equal(t, longQueue, newTotalTest(DefaultQueueTotal, DefaultSessions).threshold)
	assert.Equal(t, 100, newTotalTest(1000, 10).threshold)
	q := newTotalTest(1000, 10)
	for n := range 6 {
		q.push(n, 10) // 128 bytes
	}
	require.True(t, q.push(0, 10))
	assert.True(t, q.push(9, 10))
	assert.Len(t, q.boxes[0].datagrams, 1)
}

// TestQueueTotalUnderStress has goroutines fill, read and end the queues of sessions
// together.
func TestQueueTotalUnderStress(t *testing.T) {
	t.Parallel()
	q := newTotalTest(64<<10, 16)
	var group sync.WaitGroup
	stop := time.Now().Add(100 * time.Millisecond)
	for range 3 {
		group.Go(func() {
			for time.Now().Before(stop) {
				q.push(rand.IntN(12), rand.IntN(2000))
			}
		})
	}
	locked := func(n int, f func(b *inbox)) {
		b := q.boxes[n]
		b.changed.L.Lock()
		defer b.changed.L.Unlock()
		f(b)
	}
	group.Go(func() {
		for time.Now().Before(stop) {
			locked(rand.IntN(12), func(b *inbox) {
				if d := b.pop(); d != nil {
					d.release()
				}
			})
		}
	})
	group.Go(func() {
		for n := 12; n < 16; n++ { // sessions that end full
			for range 100 {
				q.push(n, 900)
			}
			locked(n, (*inbox).leaveTotal)
		}
	})
	group.Wait()
	q.check(t)
	dropped := atomic.Uint64{}
	q.relieve(&dropped)
	assert.LessOrEqual(t, q.bytes.Load(), q.limit)
	for n := range q.boxes {
		locked(n, (*inbox).clear)
	}
	q.check(t)
	assert.Zero(t, q.bytes.Load())
}

// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/internal/udp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// sendRecorder is a net.PacketConn that keeps what is written.
type sendRecorder struct {
	net.PacketConn
	mu      sync.Mutex
	written []string
	writing func() // called in WriteTo, if not nil
}

func (r *sendRecorder) WriteTo(b []byte, _ net.Addr) (int, error) {
	if r.writing != nil {
		r.writing()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.written = append(r.written, string(b))
	return len(b), nil
}

func (r *sendRecorder) sent() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.written...)
}

// outboxTest is an outbox whose datagrams are numbered.
type outboxTest struct {
	*outbox
	recorder *sendRecorder
	next     int
}

func newOutboxTest() *outboxTest {
	r := &sendRecorder{}
	o := new(outbox)
	o.init(udp.New(r))
	return &outboxTest{outbox: o, recorder: r}
}

// sendNext sends the next datagrams.
func (o *outboxTest) sendNext(n int) {
	for range n {
		o.send(udp.Datagram{Buf: []byte(fmt.Sprint(o.next)), Peer: netip.MustParseAddrPort("192.0.2.1:5684")})
		o.next++
	}
}

// requireSent checks that the first n datagrams have left, in their order.
func (o *outboxTest) requireSent(t *testing.T, n int, when string) {
	t.Helper()
	sent := o.recorder.sent()
	require.Len(t, sent, n, when)
	for i, datagram := range sent {
		require.Equal(t, fmt.Sprint(i), datagram, when)
	}
}

func TestOutboxSendsAtOnceUnlessHeld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOutboxTest()
		o.sendNext(2)
		o.requireSent(t, 2, "without a hold")
		o.holdForReader()
		o.sendNext(3)
		o.requireSent(t, 2, "while the reader holds")
		o.flush()
		o.requireSent(t, 5, "flushed")
		o.sendNext(1)
		o.requireSent(t, 6, "after the flush")

		h := hold{out: o.outbox}
		h.renew()
		o.sendNext(1)
		h.renew()
		o.requireSent(t, 6, "while a worker holds")
		h.release()
		o.requireSent(t, 7, "released")
		o.sendNext(1)
		o.requireSent(t, 8, "after the release")
	})
}

func TestOutboxSendsFullBatchAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOutboxTest()
		o.holdForReader()
		o.sendNext(maxCollected - 1)
		o.requireSent(t, 0, "before the batch is full")
		o.sendNext(1)
		o.requireSent(t, maxCollected, "the full batch")
		o.sendNext(1)
		o.requireSent(t, maxCollected, "the next batch")
		o.close()
		o.requireSent(t, maxCollected+1, "closed")
	})
}

// TestReaderSendsWhatWorkersCollected: while the reader holds, a worker that waits leaves the
// datagrams to it.
func TestReaderSendsWhatWorkersCollected(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOutboxTest()
		first, second := hold{out: o.outbox}, hold{out: o.outbox}
		o.holdForReader()
		first.renew()
		second.renew()
		o.sendNext(1)
		first.release()
		o.requireSent(t, 0, "the reader holds")
		o.flush()
		o.requireSent(t, 1, "although the second worker holds")
		o.sendNext(1)
		o.requireSent(t, 1, "the second worker holds")
		second.release()
		o.requireSent(t, 2, "released")
	})
}

// TestHoldsAreRevoked: nobody flushes, and maxHold after the first datagram was collected all
// leave. The holds are void.
func TestHoldsAreRevoked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOutboxTest()
		h := hold{out: o.outbox}
		h.renew()
		o.holdForReader()
		time.Sleep(time.Hour) // a hold without a datagram lasts
		o.sendNext(1)
		time.Sleep(maxHold - time.Nanosecond)
		o.sendNext(1)
		synctest.Wait()
		o.requireSent(t, 0, "before maxHold")
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		o.requireSent(t, 2, "after maxHold")
		o.sendNext(1)
		o.requireSent(t, 3, "the holds are void")
		h.release()
		assert.Zero(t, o.workerHeld)

		h.renew()
		o.sendNext(1)
		o.requireSent(t, 3, "a new hold")
		time.Sleep(maxHold)
		synctest.Wait()
		o.requireSent(t, 4, "revoked too")
		h.renew()
		o.sendNext(1)
		o.requireSent(t, 4, "a worker renews its hold")
		h.release()
		o.requireSent(t, 5, "released")
		assert.Zero(t, o.workerHeld)
	})
}

// TestHoldsThatLastTooLongAreSuspended: with one processor a handler that computes keeps the
// timer from running. Too many such holds suspend the next ones.
func TestHoldsThatLastTooLongAreSuspended(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOutboxTest()
		holdFor := func(d time.Duration) (collected bool) {
			o.holdForReader()
			collected = o.isHeldLocked()
			o.sendNext(1)
			time.Sleep(d)
			o.flush()
			return collected
		}
		for range maxLateness / lateCost {
			require.True(t, holdFor(2*maxHold))
		}
		for range suspendedHolds - 1 {
			require.False(t, holdFor(0), "suspended")
		}
		h := hold{out: o.outbox}
		h.renew()
		require.Zero(t, o.workerHeld, "suspended for workers too")
		require.True(t, holdFor(0), "granted again")
		for range 10 {
			require.True(t, holdFor(2*maxHold), "a late hold")
			for range lateCost + 1 {
				if !holdFor(0) {
					require.Positive(t, o.suspended)
					o.suspended = 0
				}
			}
		}
		o.requireSent(t, o.next, "every datagram")
	})
}

// TestFewLateHoldsAreNotSuspended: less than one in lateCost.
func TestFewLateHoldsAreNotSuspended(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOutboxTest()
		for n := range 100 * lateCost {
			o.holdForReader()
			require.True(t, o.isHeldLocked())
			o.sendNext(1)
			if n%(lateCost+1) == 0 {
				time.Sleep(2 * maxHold)
			}
			o.flush()
		}
	})
}

// TestOutboxKeepsTheOrderWhileItSends: what is sent while a batch leaves follows it, and is sent
// by the goroutine that sends already.
func TestOutboxKeepsTheOrderWhileItSends(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOutboxTest()
		writes := 0
		o.recorder.writing = func() {
			if writes++; writes <= 5*maxSends {
				o.sendNext(1)
			}
			if writes > maxSends {
				time.Sleep(time.Second)
			}
		}
		o.holdForReader()
		o.sendNext(1)
		began := time.Now()
		o.flush()
		assert.Zero(t, time.Since(began), "another goroutine goes on sending")
		time.Sleep(time.Minute)
		synctest.Wait()
		o.requireSent(t, 1+5*maxSends, "in the order of send")
		o.close() // nobody is sending any more
	})
}

// TestFullOutboxWaitsForTheSender: nothing is lost when more is written than a slow socket takes.
func TestFullOutboxWaitsForTheSender(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOutboxTest()
		o.recorder.writing = func() { time.Sleep(time.Millisecond) }
		o.holdForReader()
		o.sendNext(1)
		go o.flush()
		synctest.Wait()
		o.sendNext(3 * maxCollected)
		time.Sleep(time.Second)
		o.requireSent(t, 1+3*maxCollected, "all of them")
	})
}

// TestOutboxBuffersAreBounded: long datagrams do not stay in memory.
func TestOutboxBuffersAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOutboxTest()
		for range 3 {
			o.holdForReader()
			for range maxCollected {
				o.send(udp.Datagram{Buf: make([]byte, 16<<10)})
			}
			o.flush()
		}
		for _, b := range []*sendBatch{o.waiting, o.spare} {
			for i := range b.datagrams {
				assert.LessOrEqual(t, cap(b.datagrams[i].Buf), maxKept)
			}
		}
	})
}

// TestOutboxUnderStress: writers, a reader and workers at the same time. No datagram is lost, and
// those of each writer are in order.
func TestOutboxUnderStress(t *testing.T) {
	t.Parallel()
	const writers, each = 8, 2000
	o := newOutboxTest()
	var writing, holding sync.WaitGroup
	done := make(chan struct{})
	for n := range writers {
		writing.Go(func() {
			for i := range each {
				o.send(udp.Datagram{Buf: []byte{byte(n), byte(i >> 8), byte(i)}, Peer: netip.MustParseAddrPort("192.0.2.1:5684")})
			}
		})
	}
	holdUntilDone := func(once func(r *rand.Rand)) {
		holding.Go(func() {
			for r := rand.New(rand.NewPCG(1, 2)); ; {
				select {
				case <-done:
					return
				default:
					once(r)
				}
			}
		})
	}
	holdUntilDone(func(*rand.Rand) { o.holdForReader(); o.flush() })
	for range 2 {
		h := hold{out: o.outbox}
		holdUntilDone(func(r *rand.Rand) {
			switch r.IntN(4) {
			case 0:
				h.release()
			case 1:
				o.sendCollected()
			default:
				h.renew()
			}
		})
	}
	writing.Wait()
	close(done)
	holding.Wait()
	o.close()
	sent := o.recorder.sent()
	require.Len(t, sent, writers*each)
	var next [writers]int
	for _, datagram := range sent {
		require.Equal(t, next[datagram[0]], int(datagram[1])<<8|int(datagram[2]))
		next[datagram[0]]++
	}
}

// TestSocketWithoutBatchesCollectsNothing: it would only wait.
func TestSocketWithoutBatchesCollectsNothing(t *testing.T) {
	o := newOutboxTest()
	require.True(t, o.collects, "in tests")
	alwaysCollect = false
	defer func() { alwaysCollect = true }()
	o = newOutboxTest()
	o.holdForReader()
	h := hold{out: o.outbox}
	h.renew()
	o.sendNext(1)
	o.requireSent(t, 1, "at once")
}

// TestClosedOutboxHoldsNothing: a worker of Serve can outlive Close.
func TestClosedOutboxHoldsNothing(t *testing.T) {
	t.Parallel()
	o := newOutboxTest()
	h := hold{out: o.outbox}
	h.renew()
	o.sendNext(1)
	o.close()
	o.requireSent(t, 1, "closed")
	o.holdForReader()
	h.renew()
	o.sendNext(1)
	o.requireSent(t, 2, "at once")
	h.release()
}

// TestManyRevocationsLeaveHoldsValid: a busy server revokes 2^32 times in some months.
func TestManyRevocationsLeaveHoldsValid(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOutboxTest()
		o.epoch = math.MaxUint32
		h := hold{out: o.outbox}
		h.renew()
		o.sendNext(1)
		time.Sleep(maxHold)
		synctest.Wait()
		o.requireSent(t, 1, "revoked")
		h = hold{out: o.outbox}
		h.release()
		require.Zero(t, o.workerHeld, "a hold that was not granted is released")
		h.renew()
		o.sendNext(1)
		o.requireSent(t, 1, "a new hold")
		h.release()
		o.requireSent(t, 2, "released")
	})
}

// TestOutboxOutlivesBubble: a listener of all tests is used in the bubble of one.
func TestOutboxOutlivesBubble(t *testing.T) {
	t.Parallel()
	o := newOutboxTest()
	sendHeld := func() {
		o.holdForReader()
		o.sendNext(1)
		o.flush()
	}
	synctest.Test(t, func(*testing.T) { sendHeld() })
	assert.NotPanics(t, sendHeld)
}

// TestAllWhoWaitForRoomAreWoken: more goroutines wait than a batch has datagrams, and one closes.
func TestAllWhoWaitForRoomAreWoken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOutboxTest()
		o.recorder.writing = func() { time.Sleep(time.Millisecond) }
		o.holdForReader()
		o.sendNext(1)
		go o.flush()
		synctest.Wait()
		const writers = 10*maxCollected + 1
		for range writers {
			go o.send(udp.Datagram{Buf: []byte{1}})
		}
		synctest.Wait()
		o.close()
		time.Sleep(time.Second)
		synctest.Wait()
		require.Len(t, o.recorder.sent(), 1+writers)
	})
}

// SPDX-License-Identifier: MIT

package benchmarks

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-dsm/dsm"
)

// worstSlots is the number of slots for BenchmarkWorstCase.
const worstSlots = 1 << 20

// BenchmarkWorstCase measures the time of each single call on a full table, while
// another goroutine iterates over all sessions again and again. All sessions have the
// same sock, or each session has a sock of its own. It reports the median, the
// percentile 99.99, and the maximum. The call "none" is the floor: it measures what the
// clock, the scheduler and the other load of the machine add.
//
// A percentile needs many calls, and the maximum the same time for each call: use
// -benchtime 1s.
func BenchmarkWorstCase(b *testing.B) {
	for _, socks := range []int{1, worstSlots} {
		var table *worstTable
		for _, call := range worstCalls {
			b.Run(fmt.Sprintf("call=%s/socks=%d", call.name, socks), func(b *testing.B) {
				if table == nil {
					table = newWorstTable(socks)
				}
				table.measure(b, call)
			})
		}
	}
}

// worstTable is a full table. Each session has its number as value.
type worstTable struct {
	table   *dsm.Table[int]
	socks   []dsm.Sock
	peers   []netip.AddrPort // by session
	handles []dsm.Handle[int]
	random  *rand.Rand
}

func newWorstTable(socks int) *worstTable {
	table, err := dsm.New[int](worstSlots)
	check(err)
	t := &worstTable{table, make([]dsm.Sock, socks), make([]netip.AddrPort, worstSlots), make([]dsm.Handle[int], worstSlots), rand.New(rand.NewPCG(7, 8))}
	for i := range t.socks {
		t.socks[i] = dsm.NewSock()
	}
	for _, i := range t.random.Perm(worstSlots) {
		t.peers[i] = keyOf(uint32(i)).peer
		t.handles[i], _ = table.Hold(t.sock(i), t.session(i), dsm.StateEstablished, false)
	}
	return t
}

func (t *worstTable) sock(i int) dsm.Sock { return t.socks[i%len(t.socks)] }

func (t *worstTable) session(i int) *dsm.Session[int] {
	return &dsm.Session[int]{Peer: t.peers[i], Value: i}
}

// oldest returns the session that the sock of session i would evict, and gives it the
// endpoint for its successor.
func (t *worstTable) oldest(i int) int {
	session, _ := t.table.LRU(t.sock(i))
	t.peers[session.Value] = keyOf(newest.Add(1)).peer
	return session.Value
}

// hold stores session i, for which a slot is free.
func (t *worstTable) hold(i int) {
	t.handles[i], _ = t.table.Hold(t.sock(i), t.session(i), dsm.StateEstablished, false)
}

// worstCall is a measured call, do. i is any session, prepare returns the one for the
// call. prepare and finish are not measured.
type worstCall struct {
	name    string
	prepare func(t *worstTable, i int) int
	do      func(t *worstTable, i int)
	finish  func(t *worstTable, i int)
}

var worstCalls = []worstCall{
	{name: "none", do: func(*worstTable, int) {}},
	{name: "store-hit", do: func(t *worstTable, i int) { t.table.Store(t.sock(i), t.session(i), dsm.StateEstablished, true) }},
	{name: "store-new", prepare: func(t *worstTable, i int) int {
		i = t.oldest(i)
		t.table.Evict(t.sock(i))
		return i
	}, do: (*worstTable).hold},
	{name: "admit", prepare: (*worstTable).oldest, do: func(t *worstTable, i int) {
		t.handles[i], _, _ = t.table.Admit(t.sock(i), t.session(i), dsm.StateEstablished, false)
	}},
	{name: "remove", do: func(t *worstTable, i int) { t.table.Remove(t.sock(i), t.session(i)) }, finish: (*worstTable).hold},
	{name: "evict", prepare: (*worstTable).oldest, do: func(t *worstTable, i int) { t.table.Evict(t.sock(i)) }, finish: (*worstTable).hold},
	{name: "get", do: func(t *worstTable, i int) { t.table.Get(t.sock(i), t.peers[i]) }},
	{name: "lru", do: func(t *worstTable, i int) { t.table.LRU(t.sock(i)) }},
	{name: "handle-use", do: func(t *worstTable, i int) { t.handles[i].Use() }},
	{name: "rebind", prepare: func(t *worstTable, i int) int {
		t.peers[i] = keyOf(newest.Add(1)).peer
		return i
	}, do: func(t *worstTable, i int) { t.handles[i].Rebind(t.peers[i]) }},
	{name: "stats", do: func(t *worstTable, _ int) { t.table.Stats() }},
	{name: "available", do: func(t *worstTable, _ int) { t.table.AvailableSlots() }},
}

// measure measures one call, with All beside it.
func (t *worstTable) measure(b *testing.B, call worstCall) {
	var stop atomic.Bool
	var walks sync.WaitGroup
	yielded := 0
	walks.Go(func() {
		for !stop.Load() {
			for range t.table.All() {
				if yielded++; stop.Load() {
					break
				}
			}
		}
	})
	var times []time.Duration
	for b.Loop() {
		i := t.random.IntN(worstSlots)
		if call.prepare != nil {
			i = call.prepare(t, i)
		}
		begin := time.Now()
		call.do(t, i)
		times = append(times, time.Since(begin))
		if call.finish != nil {
			call.finish(t, i)
		}
	}
	elapsed := b.Elapsed()
	stop.Store(true)
	walks.Wait()
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2]), "p50-ns")
	b.ReportMetric(float64(times[len(times)-1-len(times)/10_000]), "p99.99-ns")
	b.ReportMetric(float64(times[len(times)-1]), "max-ns")
	b.ReportMetric(float64(yielded)/elapsed.Seconds(), "yielded/s")
	b.ReportMetric(0, "ns/op")
}

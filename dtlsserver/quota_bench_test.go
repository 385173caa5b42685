// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"
)

// BenchmarkIdentityIndexMemory measures what the index takes on the heap: its map, groups, entries
// and the keys, of 11 bytes. All entries are of one Conn: sessions, sockets and the table are not
// measured.
func BenchmarkIdentityIndexMemory(b *testing.B) {
	const tenants = 10_000
	for _, sessions := range []int{1, 100} {
		b.Run(fmt.Sprintf("tenants=%d/sessions=%d", tenants, sessions), func(b *testing.B) {
			p := &Peer{listener: &Listener{}}
			p.mu.Lock()
			defer p.mu.Unlock()
			c := p.newConnLocked()
			for b.Loop() {
				var x identities
				x.init(&Config{SessionsPerIdentity: sessions})
				before := heapInUse()
				for n := range tenants {
					key := fmt.Sprintf("psk:%07d", n)
					for range sessions {
						x.joinLocked(c, key, 0)
					}
				}
				taken := float64(heapInUse() - before)
				b.ReportMetric(taken/tenants, "B/identity")
				b.ReportMetric(taken/tenants/float64(sessions), "B/session")
				runtime.KeepAlive(&x)
			}
		})
	}
}

func heapInUse() int64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}

// BenchmarkInsertWithEviction measures what the index costs when a session of an identity at its
// limit is established: the search for the least recently used one, its removal, and the
// insertion of the new one. Neither a handshake nor the end of a session is measured. With
// used=1 one session of the group was used since the last time, and with used=all each one was.
func BenchmarkInsertWithEviction(b *testing.B) {
	for _, size := range []int{1, 100, 10_000} {
		for _, used := range slices.Compact([]int{1, size}) {
			b.Run(fmt.Sprintf("group=%d/used=%d", size, used), func(b *testing.B) { benchmarkInsert(b, size, used) })
		}
	}
}

func benchmarkInsert(b *testing.B, size, used int) {
	var x identities
	x.init(&Config{SessionsPerIdentity: size})
	l := &Listener{began: time.Now()}
	clock := time.Duration(0)
	join := func(c *Conn) {
		clock++
		c.peer.mu.Lock()
		c.lastUsed = clock
		x.joinLocked(c, "psk:device", 0)
		c.peer.mu.Unlock()
	}
	conns := make([]*Conn, size)
	for n := range conns {
		p := &Peer{listener: l}
		p.mu.Lock()
		conns[n] = p.newConnLocked()
		p.mu.Unlock()
		join(conns[n])
	}
	at := 0
	for b.Loop() {
		for range used { // the least recently used ones, which the search comes to first
			clock++
			conns[at%size].lastUsed = clock
			at++
		}
		clock++
		c := x.leastRecentlyUsed("psk:device", clock)
		c.peer.mu.Lock()
		x.leaveLocked(c)
		c.peer.mu.Unlock()
		join(c) // in the place of the new session
	}
}

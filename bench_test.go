// SPDX-License-Identifier: MIT

package dsm

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"testing"
)

// The work is the same as in benchmarks/, which runs it beside other libraries.

var benchSizes = []int{8, 64, 1024, 65536, 1 << 20}

// streamLen is how many numbers a stream has before it comes again.
const streamLen = 1 << 20

// streams are the orders in which sessions are used: numbers below n.
var streams = map[string]func(n int) []uint32{
	"uniform": func(n int) []uint32 {
		r := rand.New(rand.NewPCG(1, 2))
		s := make([]uint32, streamLen)
		for i := range s {
			s[i] = r.Uint32N(uint32(n))
		}
		return s
	},
	"zipf": func(n int) []uint32 {
		r := rand.New(rand.NewPCG(1, 2))
		z := rand.NewZipf(r, 1.01, 1, uint64(n-1))
		perm := r.Perm(n) // the busy ones are not neighbours
		s := make([]uint32, streamLen)
		for i := range s {
			s[i] = uint32(perm[z.Uint64()])
		}
		return s
	},
}

func benchPeer(i uint32) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)}), 5684)
}

// benchTable is full: sessions 0 to slots-1, established, used in random order.
type benchTable struct {
	*Table[*int]
	sock    Sock
	handles []Handle[*int]
	fresh   atomic.Uint32 // the next session that was never there
}

func newBenchTable(b *testing.B, slots int) *benchTable {
	table, err := New[*int](slots)
	if err != nil {
		b.Fatal(err)
	}
	t := &benchTable{Table: table, sock: NewSock(), handles: make([]Handle[*int], slots)}
	for _, i := range rand.New(rand.NewPCG(3, 4)).Perm(slots) {
		session := Session[*int]{benchPeer(uint32(i)), nil}
		t.handles[i], _ = t.Hold(t.sock, &session, StateEstablished, false)
	}
	t.fresh.Store(uint32(slots))
	return t
}

func (t *benchTable) hit(i uint32) State {
	session := Session[*int]{Peer: benchPeer(i)}
	return t.Store(t.sock, &session, StateEstablished, true)
}

func (t *benchTable) admit(i uint32) {
	session := Session[*int]{Peer: benchPeer(i)}
	t.Admit(t.sock, &session, StateEstablished, false)
}

func (t *benchTable) removeStore(i uint32) {
	session := Session[*int]{Peer: benchPeer(i)}
	t.Remove(t.sock, &session)
	t.Store(t.sock, &session, StateEstablished, false) // refused if it was not there
}

var benchOps = []struct {
	name string
	// renews: the sessions do not stay those that handles were taken of.
	renews bool
	do     func(t *benchTable, i uint32, n int)
}{
	{name: "hit", do: func(t *benchTable, i uint32, _ int) { t.hit(i) }},
	{name: "handle", do: func(t *benchTable, i uint32, _ int) { t.handles[i].Use() }},
	{name: "insert-evict", renews: true, do: func(t *benchTable, _ uint32, _ int) { t.admit(t.fresh.Add(1)) }},
	{name: "remove-store", renews: true, do: func(t *benchTable, i uint32, _ int) { t.removeStore(i) }},
	{name: "lru", do: func(t *benchTable, _ uint32, _ int) { t.LRU(t.sock) }},
	{name: "mixed", renews: true, do: func(t *benchTable, i uint32, n int) {
		switch n % 100 {
		case 0, 25, 50, 75:
			t.admit(t.fresh.Add(1))
		case 99:
			t.removeStore(i)
		default:
			if t.hit(i) == NoSpace { // it had to go, and comes back
				t.admit(i)
			}
		}
	}},
}

func BenchmarkTable(b *testing.B) {
	for _, slots := range benchSizes {
		for _, dist := range []string{"uniform", "zipf"} {
			stream := streams[dist](slots)
			table := newBenchTable(b, slots)
			for _, op := range benchOps {
				name := fmt.Sprintf("op=%s/slots=%d/dist=%s", op.name, slots, dist)
				b.Run(name+"/one", func(b *testing.B) {
					b.ReportAllocs()
					n := 0
					for b.Loop() {
						op.do(table, stream[n%streamLen], n)
						n++
					}
				})
				b.Run(name+"/parallel", func(b *testing.B) {
					b.ReportAllocs()
					var goroutines atomic.Int32
					b.RunParallel(func(pb *testing.PB) {
						n := int(goroutines.Add(1)) * streamLen / 3
						for pb.Next() {
							op.do(table, stream[n%streamLen], n)
							n++
						}
					})
				})
				if op.renews {
					table = newBenchTable(b, slots)
				}
			}
		}
	}
}

// BenchmarkAll loops over a full table.
func BenchmarkAll(b *testing.B) {
	for _, slots := range benchSizes {
		table := newBenchTable(b, slots)
		b.Run(fmt.Sprintf("slots=%d", slots), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				for session := range table.All() {
					_ = session
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(slots), "ns/session")
		})
	}
}

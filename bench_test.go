// SPDX-License-Identifier: MIT

package dsm

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"testing"
)

// These benchmarks do the same work as those in benchmarks/, which also run it on
// other libraries.

// benchSizes are numbers of slots.
var benchSizes = []int{8, 64, 1024, 65536, 1 << 20}

// streamLen is the number of elements of a stream. A benchmark starts again at the
// first element after the last one.
const streamLen = 1 << 20

// streams return the order in which n sessions are used, as numbers below n.
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
		perm := r.Perm(n) // The often used sessions are not neighbours.
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

// benchTable is a full table. It has the sessions 0 to slots-1, established and used
// in random order.
type benchTable struct {
	*Table[*int]
	sock    Sock
	handles []Handle[*int]
	newest  atomic.Uint32 // no session has a higher number
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
	t.newest.Store(uint32(slots))
	return t
}

// hit uses session i, if the table has it, with Store.
func (t *benchTable) hit(i uint32) State {
	session := Session[*int]{Peer: benchPeer(i)}
	return t.Store(t.sock, &session, StateEstablished, true)
}

// admit adds session i, and evicts another one if necessary.
func (t *benchTable) admit(i uint32) {
	session := Session[*int]{Peer: benchPeer(i)}
	t.Admit(t.sock, &session, StateEstablished, false)
}

// removeStore removes session i and stores it again.
func (t *benchTable) removeStore(i uint32) {
	session := Session[*int]{Peer: benchPeer(i)}
	t.Remove(t.sock, &session)
	t.Store(t.sock, &session, StateEstablished, false) // refused if the table did not have the session
}

// benchOps are the operations. i is the session, n the number of the operation.
var benchOps = []struct {
	name string
	// replaces reports whether the operation replaces sessions, so that the handles
	// of the table become ineffective.
	replaces bool
	do       func(t *benchTable, i uint32, n int)
}{
	{name: "hit", do: func(t *benchTable, i uint32, _ int) { t.hit(i) }},
	{name: "handle", do: func(t *benchTable, i uint32, _ int) { t.handles[i].Use() }},
	{name: "insert-evict", replaces: true, do: func(t *benchTable, _ uint32, _ int) { t.admit(t.newest.Add(1)) }},
	{name: "remove-store", replaces: true, do: func(t *benchTable, i uint32, _ int) { t.removeStore(i) }},
	{name: "lru", do: func(t *benchTable, _ uint32, _ int) { t.LRU(t.sock) }},
	{name: "mixed", replaces: true, do: func(t *benchTable, i uint32, n int) {
		switch n % 100 {
		case 0, 25, 50, 75:
			t.admit(t.newest.Add(1))
		case 99:
			t.removeStore(i)
		default:
			if t.hit(i) == NoSpace { // it was evicted, and returns
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
				if op.replaces {
					table = newBenchTable(b, slots)
				}
			}
		}
	}
}

// BenchmarkAll iterates over a full table.
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

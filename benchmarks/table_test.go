// SPDX-License-Identifier: MIT

package benchmarks

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/go-dsm/dsm"
)

// sizes are numbers of slots.
var sizes = []int{8, 64, 1024, 65536, 1 << 20}

// streamLen is the number of elements of a stream. A benchmark starts again at the
// first element after the last one.
const streamLen = 1 << 20

// newStream returns the order in which n sessions are used, as numbers below n. dist
// is the distribution of the numbers.
func newStream(dist string, n int) []uint32 {
	r := rand.New(rand.NewPCG(1, 2))
	s := make([]uint32, streamLen)
	switch dist {
	case "uniform":
		for i := range s {
			s[i] = r.Uint32N(uint32(n))
		}
	case "zipf":
		z := rand.NewZipf(r, 1.01, 1, uint64(n-1))
		perm := r.Perm(n) // The often used sessions are not neighbours.
		for i := range s {
			s[i] = uint32(perm[z.Uint64()])
		}
	default:
		panic("unknown distribution " + dist)
	}
	return s
}

var (
	sock        = dsm.NewSock()
	sharedValue = new(int) // the value of every session
)

// keyOf returns the key of session i.
func keyOf(i uint32) key {
	return key{sock, netip.AddrPortFrom(netip.AddrFrom4([4]byte{byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)}), 5684)}
}

// fill inserts the sessions 0 to slots-1 in random order. It returns c.
func fill(c contender, slots int) contender {
	for _, i := range rand.New(rand.NewPCG(3, 4)).Perm(slots) {
		c.insert(keyOf(uint32(i)), sharedValue)
	}
	return c
}

// newest is the highest number of a session. It starts above those of all streams,
// so that newest.Add(1) is a session that no table has.
var newest atomic.Uint32

func init() { newest.Store(1 << 30) }

// operations are what contenders are compared in. i is the session, n the number of
// the operation.
var operations = []struct {
	name string
	do   func(c contender, i uint32, n int)
}{
	{"hit", func(c contender, i uint32, _ int) { c.hit(keyOf(i)) }},
	{"remove-store", func(c contender, i uint32, _ int) {
		c.remove(keyOf(i))
		c.insert(keyOf(i), sharedValue)
	}},
	{"insert-evict", func(c contender, _ uint32, _ int) { c.insertEvicting(keyOf(newest.Add(1)), sharedValue) }},
	// mixed is 95 % hits, 4 % new sessions, and 1 % sessions that are removed and
	// inserted again. A hit that misses, because the session was evicted, inserts the
	// session.
	{"mixed", func(c contender, i uint32, n int) {
		switch n % 100 {
		case 0, 25, 50, 75:
			c.insertEvicting(keyOf(newest.Add(1)), sharedValue)
		case 99:
			if c.hit(keyOf(i)) {
				c.remove(keyOf(i))
				c.insert(keyOf(i), sharedValue)
			}
		default:
			if !c.hit(keyOf(i)) {
				c.insertEvicting(keyOf(i), sharedValue)
			}
		}
	}},
}

// BenchmarkTable measures every operation with every contender, then the operations
// that only dsm has, then the floors.
func BenchmarkTable(b *testing.B) {
	for _, slots := range sizes {
		for _, dist := range []string{"uniform", "zipf"} {
			w := workload{slots, dist, newStream(dist, slots)}
			w.benchmarkContenders(b)
			w.benchmarkOnlyDSM(b)
			w.benchmarkLockFloors(b)
			w.benchmarkOtherFloors(b)
		}
	}
}

// workload is the number of slots and the order in which sessions are used.
type workload struct {
	slots  int
	dist   string
	stream []uint32
}

// benchmarkContenders gives each operation of each contender a full table of its own.
func (w workload) benchmarkContenders(b *testing.B) {
	for _, op := range operations {
		if w.dist != "uniform" && op.name != "hit" && op.name != "mixed" {
			continue // the cost of the others does not depend on the distribution
		}
		for _, contender := range contenders {
			if contender.name == "dsm-refused" && op.name != "insert-evict" {
				continue // same calls as dsm
			}
			create := contender.create
			w.run(b, op.name, contender.name, func() func(i uint32, n int) {
				table := fill(create(w.slots), w.slots)
				return func(i uint32, n int) { op.do(table, i, n) }
			})
		}
	}
}

// benchmarkOnlyDSM measures what no other contender has: use by handle, and the query
// for the least recently used session.
func (w workload) benchmarkOnlyDSM(b *testing.B) {
	table, err := dsm.New[value](w.slots)
	check(err)
	handles := make([]dsm.Handle[value], w.slots)
	for _, i := range rand.New(rand.NewPCG(3, 4)).Perm(w.slots) {
		session := dsm.Session[value]{Peer: keyOf(uint32(i)).peer, Value: sharedValue}
		handles[i], _ = table.Hold(sock, &session, dsm.StateEstablished, false)
	}
	w.run(b, "handle", "dsm", func() func(uint32, int) {
		return func(i uint32, _ int) { handles[i].Use() }
	})
	w.run(b, "lru", "dsm", func() func(uint32, int) {
		return func(uint32, int) { table.LRU(sock) }
	})
}

// benchmarkLockFloors measures lower bounds of an operation under a lock.
func (w workload) benchmarkLockFloors(b *testing.B) {
	var mu sync.Mutex
	w.run(b, "floor", "mutex", func() func(uint32, int) {
		//lint:ignore SA2001 the benchmark measures the lock alone
		return func(uint32, int) { mu.Lock(); mu.Unlock() }
	})
	// mutex-relink is the least that the exact order of use costs if it is a list:
	// writes to the cache lines of the session and of its two neighbours.
	w.run(b, "floor", "mutex-relink", func() func(uint32, int) {
		type line struct {
			prev, next uint32
			written    [14]uint32
		}
		lines := make([]line, w.slots)
		order := rand.New(rand.NewPCG(5, 6)).Perm(w.slots)
		for n, i := range order {
			next := order[(n+1)%w.slots]
			lines[i].next, lines[next].prev = uint32(next), uint32(i)
		}
		return func(i uint32, n int) {
			mu.Lock()
			at := &lines[i]
			at.written[0] = uint32(n)
			lines[at.prev].written[1] = i
			lines[at.next].written[2] = i
			mu.Unlock()
		}
	})
}

// benchmarkOtherFloors measures lower bounds of operations that take no lock.
func (w workload) benchmarkOtherFloors(b *testing.B) {
	var word atomic.Uint32
	w.run(b, "floor", "atomic-store", func() func(uint32, int) {
		return func(i uint32, _ int) { word.Store(i) }
	})
	w.run(b, "floor", "map-lookup", func() func(uint32, int) {
		m := make(map[key]value, w.slots)
		for i := range w.slots {
			m[keyOf(uint32(i))] = sharedValue
		}
		return func(i uint32, _ int) { sink(m[keyOf(i)]) }
	})
}

// parallel matches the benchmarks that also run with one goroutine per core.
var parallel = regexp.MustCompile("op=(hit|mixed|handle)/|impl=mutex/")

// run benchmarks the function that prepare returns, in one goroutine, and in one per
// core if the name matches parallel. It calls prepare if a benchmark is selected, and
// once only.
func (w workload) run(b *testing.B, op, impl string, prepare func() func(i uint32, n int)) {
	name := fmt.Sprintf("op=%s/slots=%d/dist=%s/impl=%s", op, w.slots, w.dist, impl)
	stream := w.stream
	var do func(i uint32, n int)
	b.Run(name+"/goroutines=1", func(b *testing.B) {
		if do == nil {
			do = prepare()
		}
		b.ReportAllocs()
		n := 0
		for b.Loop() {
			do(stream[n%streamLen], n)
			n++
		}
	})
	if !parallel.MatchString(name) {
		return
	}
	b.Run(name+"/goroutines=all", func(b *testing.B) {
		if do == nil {
			do = prepare()
		}
		b.ReportAllocs()
		var goroutines atomic.Int32
		b.ResetTimer() // prepare does not count
		b.RunParallel(func(pb *testing.PB) {
			n := int(goroutines.Add(1)) * (streamLen / 3)
			for pb.Next() {
				do(stream[n%streamLen], n)
				n++
			}
		})
	})
}

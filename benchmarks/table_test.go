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

var sizes = []int{8, 64, 1024, 65536, 1 << 20}

// streamLen is how many numbers a stream has before it comes again.
const streamLen = 1 << 20

// stream is an order in which n sessions are used.
func stream(dist string, n int) []uint32 {
	r := rand.New(rand.NewPCG(1, 2))
	s := make([]uint32, streamLen)
	switch dist {
	case "uniform":
		for i := range s {
			s[i] = r.Uint32N(uint32(n))
		}
	case "zipf":
		z := rand.NewZipf(r, 1.01, 1, uint64(n-1))
		perm := r.Perm(n) // the busy ones are not neighbours
		for i := range s {
			s[i] = uint32(perm[z.Uint64()])
		}
	default:
		panic(dist)
	}
	return s
}

var (
	sock   = dsm.NewSock()
	shared = new(int) // the value of every session
)

func keyNo(i uint32) key {
	return key{sock, netip.AddrPortFrom(netip.AddrFrom4([4]byte{byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)}), 5684)}
}

// fill enters the sessions below slots, in random order.
func fill(c contender, slots int) contender {
	for _, i := range rand.New(rand.NewPCG(3, 4)).Perm(slots) {
		c.insert(keyNo(uint32(i)), shared)
	}
	return c
}

// fresh counts up sessions that no table has seen.
var fresh atomic.Uint32

func init() { fresh.Store(1 << 30) }

var operations = []struct {
	name string
	do   func(c contender, i uint32, n int)
}{
	{"hit", func(c contender, i uint32, _ int) { c.hit(keyNo(i)) }},
	{"remove-store", func(c contender, i uint32, _ int) {
		c.remove(keyNo(i))
		c.insert(keyNo(i), shared)
	}},
	{"insert-evict", func(c contender, _ uint32, _ int) { c.insertFull(keyNo(fresh.Add(1)), shared) }},
	// 95 % hits, 4 % newcomers, 1 % removals that a session takes the place of. A
	// session that had to go comes back as a newcomer.
	{"mixed", func(c contender, i uint32, n int) {
		switch n % 100 {
		case 0, 25, 50, 75:
			c.insertFull(keyNo(fresh.Add(1)), shared)
		case 99:
			if c.hit(keyNo(i)) {
				c.remove(keyNo(i))
				c.insert(keyNo(i), shared)
			}
		default:
			if !c.hit(keyNo(i)) {
				c.insertFull(keyNo(i), shared)
			}
		}
	}},
}

// BenchmarkTable runs every operation on every contender, each on a full table of
// its own, and then what only dsm has, and the floors.
func BenchmarkTable(b *testing.B) {
	for _, slots := range sizes {
		for _, dist := range []string{"uniform", "zipf"} {
			s := stream(dist, slots)
			for _, op := range operations {
				if dist != "uniform" && op.name != "hit" && op.name != "mixed" {
					continue // the order tells nothing new
				}
				for _, contender := range contenders {
					if contender.name == "dsm-refused" && op.name != "insert-evict" {
						continue // as dsm
					}
					var c = contender.make
					name := fmt.Sprintf("op=%s/slots=%d/dist=%s/impl=%s", op.name, slots, dist, contender.name)
					run(b, name, s, func() func(i uint32, n int) {
						table := fill(c(slots), slots)
						return func(i uint32, n int) { op.do(table, i, n) }
					})
				}
			}

			// What only dsm has.
			table, err := dsm.New[value](slots)
			check(err)
			handles := make([]dsm.Handle[value], slots)
			for _, i := range rand.New(rand.NewPCG(3, 4)).Perm(slots) {
				session := dsm.Session[value]{Peer: keyNo(uint32(i)).peer, Value: shared}
				handles[i], _ = table.Hold(sock, &session, dsm.StateEstablished, false)
			}
			run(b, fmt.Sprintf("op=handle/slots=%d/dist=%s/impl=dsm", slots, dist), s, func() func(uint32, int) {
				return func(i uint32, _ int) { handles[i].Use() }
			})
			run(b, fmt.Sprintf("op=lru/slots=%d/dist=%s/impl=dsm", slots, dist), s, func() func(uint32, int) {
				return func(uint32, int) { table.LRU(sock) }
			})

			// The floors.
			var mu sync.Mutex
			run(b, fmt.Sprintf("op=floor/slots=%d/dist=%s/impl=mutex", slots, dist), s, func() func(uint32, int) {
				//lint:ignore SA2001 the lock alone is what is measured
				return func(uint32, int) { mu.Lock(); mu.Unlock() }
			})
			// The least that an exact order in a list costs: under the lock, write to
			// the session's cache line and to those of its two neighbours.
			run(b, fmt.Sprintf("op=floor/slots=%d/dist=%s/impl=mutex-relink", slots, dist), s, func() func(uint32, int) {
				type line struct {
					prev, next uint32
					written    [14]uint32
				}
				lines := make([]line, slots)
				order := rand.New(rand.NewPCG(5, 6)).Perm(slots)
				for n, i := range order {
					next := order[(n+1)%slots]
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
			var word atomic.Uint32
			run(b, fmt.Sprintf("op=floor/slots=%d/dist=%s/impl=atomic-store", slots, dist), s, func() func(uint32, int) {
				return func(i uint32, _ int) { word.Store(i) }
			})
			run(b, fmt.Sprintf("op=floor/slots=%d/dist=%s/impl=map-lookup", slots, dist), s, func() func(uint32, int) {
				m := make(map[key]value, slots)
				for i := range slots {
					m[keyNo(uint32(i))] = shared
				}
				return func(i uint32, _ int) { sink(m[keyNo(i)]) }
			})
		}
	}
}

// parallel are the operations that run on all cores too.
var parallel = regexp.MustCompile("op=(hit|mixed|handle)/|impl=mutex/")

// run benchmarks what prepare returns, on one goroutine and perhaps on all cores.
func run(b *testing.B, name string, stream []uint32, prepare func() func(i uint32, n int)) {
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
		b.RunParallel(func(pb *testing.PB) {
			n := int(goroutines.Add(1)) * (streamLen / 3)
			for pb.Next() {
				do(stream[n%streamLen], n)
				n++
			}
		})
	})
}

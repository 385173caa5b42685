// SPDX-License-Identifier: MIT

// Package pagetest has a listener without sockets, for tests of the page.
package pagetest

import (
	"encoding/binary"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/go-dsm/dsm/dsmdebug/internal/page"
	"github.com/go-dsm/dsm/dtlsserver"
)

// Session is an established session of a Fake.
type Session struct {
	Number    int // its slot
	Address   netip.AddrPort
	Key       string
	Began     time.Time
	Used      time.Time
	IsResumed bool
}

func (s *Session) Slot() int              { return s.Number }
func (s *Session) Peer() netip.AddrPort   { return s.Address }
func (s *Session) IdentityKey() string    { return s.Key }
func (s *Session) Established() time.Time { return s.Began }
func (s *Session) LastUsed() time.Time    { return s.Used }
func (s *Session) Resumed() bool          { return s.IsResumed }

// Fake is a listener that only says what it is told. Its fields do not change once a Page shows
// it, except in Change.
type Fake struct {
	Sessions   []Session // least recently used first
	Handshakes []int     // slots
	OnVisit    func()    // called for each slot in a walk, if not nil

	mu       sync.Mutex
	stats    dtlsserver.Stats
	refusals []dtlsserver.Refusal
	networks []dtlsserver.HandshakeNetwork
	walks    int
	looks    int
}

// Change changes what the Fake says.
func (f *Fake) Change(change func(*dtlsserver.Stats, *[]dtlsserver.Refusal, *[]dtlsserver.HandshakeNetwork)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.stats, &f.refusals, &f.networks)
}

// Walks returns how many walks have begun.
func (f *Fake) Walks() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.walks
}

// Looks returns how often the refusals were asked for, which is once each time when the page is
// rendered.
func (f *Fake) Looks() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.looks
}

func (f *Fake) Address() string { return "127.0.0.1:5684" }

func (f *Fake) Stats() dtlsserver.Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stats
}

func (f *Fake) Refusals() []dtlsserver.Refusal {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.looks++
	return f.refusals
}

func (f *Fake) HandshakeNetworks() []dtlsserver.HandshakeNetwork {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.networks
}

func (f *Fake) Slots() iter.Seq2[int, page.Session] {
	f.mu.Lock()
	f.walks++
	f.mu.Unlock()
	return func(yield func(int, page.Session) bool) {
		for i := range f.Sessions {
			if f.OnVisit != nil {
				f.OnVisit()
			}
			if !yield(f.Sessions[i].Number, &f.Sessions[i]) {
				return
			}
		}
		for _, slot := range f.Handshakes {
			if !yield(slot, nil) {
				return
			}
		}
	}
}

// New returns a Fake with room for so many sessions, of which nine tenths are established, and 64
// handshakes, of which some are in progress. Everything follows from seed, and from the time.
func New(slots int, seed uint64) *Fake {
	random := rand.New(rand.NewPCG(seed, 1))
	f := &Fake{stats: dtlsserver.Stats{
		MaxEstablished: slots, Established: slots * 9 / 10, MaxHalfOpen: 64, HalfOpen: min(24, slots/2), Backlog: 3,
		Restored: uint64(slots / 4), Completed: uint64(3 * slots), Resumed: uint64(slots), Failed: 41, TimedOut: 7, UnknownPSKIdentity: 12,
		HelloVerifyRequests: uint64(4 * slots),
	}}
	s := &f.stats
	s.ClosedByPeer, s.Evicted = s.Completed/4, s.Completed/3
	s.Expired = s.Completed + s.Restored - s.ClosedByPeer - s.Evicted - uint64(s.Established)
	s.Started = s.Completed + s.Failed + s.TimedOut + s.UnknownPSKIdentity + uint64(s.HalfOpen)
	s.NoRoom, s.SourceShare, s.Malformed, s.Stray, s.Replayed, s.Forged = 19, 230, 5, 1204, 88, 2

	now := time.Now()
	n := s.Established
	f.Sessions = make([]Session, n)
	// Slots that are near each other were used at similar times.
	numbers := mixed(random, slots+s.MaxHalfOpen, slots/10+1)
	for i := range n {
		// The older half of the sessions is idle for hours and days, the newest tenth for seconds.
		share := float64(n-i) / float64(n)
		idle := time.Duration(share * share * share * share * share * float64(60*time.Hour))
		var host [4]byte
		binary.BigEndian.PutUint32(host[:], 10<<24|random.Uint32N(1<<22))
		f.Sessions[i] = Session{
			Number: numbers[i], Address: netip.AddrPortFrom(netip.AddrFrom4(host), uint16(1024+random.Uint32N(64000))),
			Key:  fmt.Sprintf("psk:meter-%07d", random.IntN(10*slots)),
			Used: now.Add(-idle), Began: now.Add(-idle - time.Duration(random.Int64N(int64(90*time.Hour)))), IsResumed: random.IntN(3) == 0,
		}
	}
	f.Handshakes = numbers[n : n+s.HalfOpen]
	for i := range 30 {
		network := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, byte(i), 0}), 24)
		f.networks = append(f.networks, dtlsserver.HandshakeNetwork{Network: network, Handshakes: max(1, 9-i)})
	}
	f.networks[2].Network = netip.MustParsePrefix("2001:db8:7:1::/64")
	for i := range 100 {
		f.refusals = append(f.refusals, refusal(random, now.Add(-time.Duration(i*i)*time.Second)))
	}
	return f
}

// Past returns the samples of the hour before now: what the counts were on their way to what they
// are now.
func (f *Fake) Past(seed uint64) []page.Sample {
	random := rand.New(rand.NewPCG(seed, 2))
	samples := make([]page.Sample, 360)
	at, stats := time.Now(), f.Stats()
	for i := range samples {
		at = at.Add(-10 * time.Second)
		wave := uint64(20 + 15*math.Sin(float64(i)/40))
		back := func(count *uint64, n uint64) uint64 {
			n = min(*count, random.Uint64N(n+1))
			*count -= n
			return n
		}
		came := back(&stats.Completed, wave)
		back(&stats.Resumed, came/3)
		went := back(&stats.Evicted, wave/3) + back(&stats.ClosedByPeer, wave/2) + back(&stats.Expired, wave/4)
		back(&stats.Failed, 1)
		back(&stats.Stray, 5)
		if i > 100 && i < 160 { // a flood
			back(&stats.SourceShare, 10)
			back(&stats.NoRoom, 1)
			back(&stats.UnknownPSKIdentity, 1)
		}
		stats.Established = min(stats.MaxEstablished, max(0, stats.Established+int(went)-int(came)))
		stats.HalfOpen = min(stats.MaxHalfOpen, int(random.Uint64N(wave)))
		samples[len(samples)-1-i] = page.Sample{At: at, Stats: stats}
	}
	return samples
}

// mixed returns the numbers from 0 to n-1, each at most about distance away from where it belongs.
func mixed(random *rand.Rand, n, distance int) []int {
	numbers := make([]int, n)
	for i := range numbers {
		numbers[i] = i
	}
	for i := range numbers {
		j := min(n-1, i+random.IntN(distance))
		numbers[i], numbers[j] = numbers[j], numbers[i]
	}
	return numbers
}

func refusal(random *rand.Rand, at time.Time) dtlsserver.Refusal {
	r := []dtlsserver.Refusal{
		{Kind: dtlsserver.HandshakeResult, Word: "unknown_psk_identity", Detail: `no key for identity "meter-0041"`},
		{Kind: dtlsserver.HandshakeResult, Word: "failed", Detail: "remote error: handshake failure"},
		{Kind: dtlsserver.HandshakeResult, Word: "timed_out", Detail: ""},
		{Kind: dtlsserver.HelloRefusal, Word: "source_share", LeftOut: 17},
	}[random.IntN(4)]
	r.Time = at
	r.Peer = netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(random.IntN(256))}), uint16(1024+random.IntN(64000)))
	return r
}

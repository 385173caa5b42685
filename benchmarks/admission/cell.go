// SPDX-License-Identifier: MIT

// Package admission measures which share of honest clients get into a server while
// strangers flood it, and after a power cut, when all clients of a network come at once.
// Time is virtual, so that the network's delays cost nothing. The measurement is a test
// that only runs if it is asked for; see the Makefile's target admission.
package admission

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/pionv2"
)

// Cell is one measurement: a server, a network, honest clients and strangers.
type Cell struct {
	Server string // "ours", "ours-v4" or "pion"
	Places int    // Config.Handshakes; 0: the default
	// Sessions is Config.Sessions. 0: as many as there are clients, and at least the
	// default.
	Sessions int

	RoundTrip time.Duration
	Loss      float64        // in both directions
	Timer     dtlstest.Timer // of the clients

	// Honest clients: Clients come at once, or one after the other in the time Over,
	// after the time After.
	Clients     int
	After, Over time.Duration
	OneNetwork  bool // all from one /24, otherwise each from another
	// Each Returning-th client has a session, which it resumes from another port. 0: none
	// has.
	Returning int
	// Horizon is how long each client tries. 0: a minute.
	Horizon time.Duration
	// Echo has a client be in only when its first datagram was echoed.
	Echo bool

	// Residents are the clients that have a session before the strangers come, and send a
	// datagram every second, which the server echoes.
	Residents int

	// Strangers are the first ClientHellos a second that lead to nothing.
	Strangers int
	Flood     Flood

	// Seed determines when clients come, what is lost, and who the strangers are. The
	// server draws its own random values.
	Seed uint64
}

// Flood is the kind of the strangers.
type Flood struct {
	OneNetwork    bool // they come from one /24
	ReturnCookies bool
	NameSessions  bool // they name sessions that they have made up
	Repeat        bool // half of their hellos are those of a second ago
}

// Group is what became of the new or of the returning clients of a Cell.
type Group struct {
	Clients  int
	In       []time.Duration // after the first hello, in order; those that got in
	Deceived int             // have done their handshake, and the server has no session of theirs, or sent no echo
	Attempts dtlstest.Attempts
}

// Echoes are what the Residents of a Cell have sent and received.
type Echoes struct {
	Sent, Lost int
}

// Result is what was measured in a Cell.
type Result struct {
	Cell
	New, Returning Group
	Residents      Echoes
	HalfOpen       int   // at most, as the server counts them
	HeapBytes      int64 // of the whole process, clients included, above that before
	Stats          string
	Counts         pionv2.Stats  // of ours
	Took           time.Duration // of real time
}

// Within returns the share of a group that was in within a time.
func (g Group) Within(limit time.Duration) float64 {
	n, _ := slices.BinarySearch(g.In, limit+1)
	return float64(n) / float64(max(g.Clients, 1))
}

// Last returns when the last one of a group was in, and whether all of them were.
func (g Group) Last() (at time.Duration, all bool) {
	if len(g.In) > 0 {
		at = g.In[len(g.In)-1]
	}
	return at, len(g.In) == g.Clients
}

// both returns the clients of two groups as one.
func both(a, b Group) Group {
	a.Clients += b.Clients
	a.Deceived += b.Deceived
	a.In = slices.Concat(a.In, b.In)
	slices.Sort(a.In)
	a.Attempts.Handshakes += b.Attempts.Handshakes
	a.Attempts.Refused += b.Attempts.Refused
	a.Attempts.GivenUp += b.Attempts.GivenUp
	a.Attempts.Repetitions += b.Attempts.Repetitions
	return a
}

// address returns the address of the n-th honest client of a Cell, at its first visit or
// at its second one.
func (c Cell) address(n int, visit uint16) netip.AddrPort {
	const hosts = 250
	if c.OneNetwork {
		host := netip.AddrFrom4([4]byte{198, 51, 100, byte(1 + n%hosts)})
		return netip.AddrPortFrom(host, 20000+uint16(2*(n/hosts))+visit)
	}
	return dtlstest.NthAddr(10, n<<8|5, 20000+visit)
}

// horizon returns how long each client tries.
func (c Cell) horizon() time.Duration {
	if c.Horizon == 0 {
		return time.Minute
	}
	return c.Horizon
}

// String returns what the Cell is, in short.
func (c Cell) String() string {
	parts := []string{c.Server, fmt.Sprintf("%d clients", c.Clients), fmt.Sprintf("round trip %v", c.RoundTrip)}
	if c.OneNetwork {
		parts = append(parts, "one network")
	}
	if c.Returning > 0 {
		parts = append(parts, fmt.Sprintf("%d returning", c.Clients/c.Returning))
	}
	if c.Loss > 0 {
		parts = append(parts, fmt.Sprintf("loss %.0f %%", 100*c.Loss))
	}
	if c.Strangers > 0 {
		parts = append(parts, fmt.Sprintf("%d strangers/s%s", c.Strangers, c.Flood))
	}
	return strings.Join(parts, ", ")
}

// String returns where they come from, and what they do.
func (f Flood) String() string {
	kind := " of random networks"
	if f.OneNetwork {
		kind = " of one network"
	}
	if f.ReturnCookies {
		kind += ", cookies returned"
	}
	if f.NameSessions {
		kind += ", sessions named"
	}
	if f.Repeat {
		kind += ", hellos repeated"
	}
	return kind
}

// timerName returns the name of the clients' timer.
func (c Cell) timerName() string {
	for name, timer := range dtlstest.Timers {
		if timer == c.Timer {
			return name
		}
	}
	return fmt.Sprint(c.Timer)
}

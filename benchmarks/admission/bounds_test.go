// SPDX-License-Identifier: MIT

package admission

import (
	"flag"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
)

var bounds = flag.Bool("bounds", false, "show the bounds with more seeds and round trips, for some minutes")

// seeds returns the seeds 1 to n, or with -bounds 1 to all.
func seeds(n, all int) (list []uint64) {
	if *bounds {
		n = all
	}
	for seed := range n {
		list = append(list, uint64(seed+1))
	}
	return list
}

// scaled returns n, and three tenths of it under the race detector. The places and the
// strangers of a flood are scaled alike: the load of the places stays the same, and so
// does the ideal.
func scaled(n int) int { return dtlstest.Scaled(n, n) }

// show measures a Cell and logs what it has seen.
func (c Cell) show(t *testing.T) Result {
	t.Helper()
	r := c.measure(t)
	lastNew, _ := r.New.Last()
	lastReturning, _ := r.Returning.Last()
	t.Logf("%v, %d places, seed %d: new %s, last %.2f s; returning %s, last %.2f s; deceived %d; %d half-open, %.1f MB; %.1f s\n%s",
		c, c.Places, c.Seed, r.New.shares(), lastNew.Seconds(), r.Returning.shares(), lastReturning.Seconds(),
		r.New.Deceived+r.Returning.Deceived, r.HalfOpen, float64(r.HeapBytes)/1e6, r.Took.Seconds(), r.Stats)
	return r
}

// allIn asserts that all clients of a Cell are in within a time.
func (r Result) allIn(t *testing.T, within time.Duration) {
	t.Helper()
	g := both(r.New, r.Returning)
	if last, all := g.Last(); !all || last > within || g.Clients != r.Clients || g.Deceived != 0 {
		t.Errorf("%v, seed %d: %d of %d are in, the last after %v and not %v; %d are deceived\n%s",
			r.Cell, r.Seed, len(g.In), r.Clients, last, within, g.Deceived, r.Stats)
	}
}

// atLeast asserts that a share of a group is in within a time.
func (r Result) atLeast(t *testing.T, what string, g Group, share float64, within time.Duration) {
	t.Helper()
	if got := g.Within(within); g.Clients == 0 || got < share {
		t.Errorf("%v, seed %d: of %d %s clients %.3f are in within %v, less than %.3f\n%s",
			r.Cell, r.Seed, g.Clients, what, got, within, share, r.Stats)
	}
}

// Sixty clients of one /24 come at once, with the default limits.
func TestClientsOfOneNetworkAreAllIn(t *testing.T) {
	for _, server := range adapters {
		for _, seed := range seeds(10, 100) {
			const rtt = 400 * time.Millisecond // 200 ms each way
			c := Cell{Server: server, Clients: 60, OneNetwork: true, RoundTrip: rtt, Timer: dtlstest.OpenSSLTimer, Echo: true, Seed: seed}
			c.show(t).allIn(t, 5*rtt)
		}
	}
}

// The places are enough for 300 clients: nobody waits for one.
func TestClientsOfSlowNetworkAreAllIn(t *testing.T) {
	for _, oneNetwork := range []bool{true, false} {
		c := Cell{
			Server: "ours", Clients: 300, OneNetwork: oneNetwork, RoundTrip: 2500 * time.Millisecond,
			Timer: dtlstest.OpenSSLTimer, Echo: true, Seed: 1,
		}
		c.show(t).allIn(t, 15*time.Second)
	}
}

// Strangers that send 6 kB/s keep nobody out of a listener with few sessions. Clients come
// before the strangers have filled the places, and after that.
func TestTrickleOfStrangersKeepsNobodyOut(t *testing.T) {
	for _, seed := range seeds(1, 3) {
		c := Cell{
			Server: "ours", Sessions: 100, Strangers: 60, RoundTrip: 300 * time.Millisecond, Timer: dtlstest.OpenSSLTimer,
			Clients: 100, After: 5 * time.Second, Over: 35 * time.Second, Echo: true, Seed: seed,
		}
		c.show(t).allIn(t, floodLimit)
	}
}

// A client that has resumed its session knows of no failure: only an echo shows that the
// server has the session.
func TestClientsThatResumeAtOnceAreNotDeceived(t *testing.T) {
	for _, seed := range seeds(3, 10) {
		const rtt = time.Second
		c := Cell{
			Server: "ours", Clients: 6, Returning: 1, OneNetwork: true, RoundTrip: rtt, Timer: dtlstest.OpenSSLTimer, Echo: true, Seed: seed,
		}
		r := c.show(t)
		r.allIn(t, 3*rtt)
		if r.Counts.Resumed != 6 {
			t.Errorf("%d sessions were resumed: %s", r.Counts.Resumed, r.Stats)
		}
	}
}

// All of a herd are in within twice the time of an ideal server. Under the race detector
// herd and places are a tenth, so that there are as many rounds.
func TestHerdIsInWithinTwiceTheIdeal(t *testing.T) {
	rtts := []time.Duration{2500 * time.Millisecond}
	if *bounds {
		rtts = []time.Duration{
			20 * time.Millisecond, 300 * time.Millisecond, time.Second, rtts[0], 3 * time.Second, 6 * time.Second, 10 * time.Second,
		}
	}
	for _, rtt := range rtts {
		for _, oneNetwork := range []bool{true, false} {
			for _, server := range adapters {
				c := herd(server, 10_000, rtt, oneNetwork)
				if dtlstest.RaceEnabled {
					c.Clients, c.Places = c.Clients/10, c.Places/10
				}
				c.Seed = 1
				ideal := herdTime(c.Clients, c.Places, rtt)
				t.Logf("ideal: %v", ideal)
				c.show(t).allIn(t, 2*ideal)
			}
		}
	}
}

// floodLimit is the time within which clients are to be in during a flood.
const floodLimit = 30 * time.Second

// duringFlood returns a Cell with a flood, scaled, in which clients come for a time. One in
// eight is returning. There is a session for each client and resident, and no other one.
func duringFlood(rate, clients int, over time.Duration, seed uint64) Cell {
	c := flood("ours", scaled(rate), Flood{})
	c.Places, c.Clients, c.Returning, c.Residents = scaled(places), clients, 8, 50
	c.Sessions, c.Horizon, c.Seed = c.Clients+c.Residents, floodLimit, seed
	c.After, c.Over = 5*time.Second, over
	return c
}

// unharmed asserts that a flood has cost the residents nothing, and that the handshakes
// have stayed within their bound.
func (r Result) unharmed(t *testing.T) {
	t.Helper()
	seconds := int((r.After + r.Over).Seconds())
	if e := r.Residents; e.Lost != 0 || e.Sent < seconds/2*r.Cell.Residents {
		t.Errorf("%v: residents lost %d of %d echoes\n%s", r.Cell, e.Lost, e.Sent, r.Stats)
	}
	s := r.Counts
	if s.Evicted+s.Expired+s.Refused+s.Exhausted+s.ClosedByUs != 0 || s.Established < r.Cell.Residents {
		t.Errorf("%v: sessions have ended\n%s", r.Cell, r.Stats)
	}
	if r.HalfOpen > r.Places {
		t.Errorf("%v: %d handshakes at %d places", r.Cell, r.HalfOpen, r.Places)
	}
}

// The share of the new clients that are in falls as the ideal server's does, and is never
// less than half of that. Returning clients do not notice the flood.
func TestSuccessFallsInProportionToFlood(t *testing.T) {
	for _, f := range []struct {
		rate, clients int
		over          time.Duration
		least         float64 // 0: half of the ideal
	}{
		{100, 400, 20 * time.Second, 0.99},
		{500, 400, 20 * time.Second, 0.9},
		{2000, 400, 20 * time.Second, 0},
		{5000, 1000, 30 * time.Second, 0}, // only with -bounds
		{20_000, 2000, 20 * time.Second, 0},
	} {
		if f.rate == 5000 && !*bounds {
			continue
		}
		for _, seed := range seeds(1, 3) {
			t.Run(fmt.Sprintf("%d strangers, seed %d", f.rate, seed), func(t *testing.T) {
				c := duringFlood(f.rate, scaled(f.clients), f.over, seed)
				if *bounds && f.least == 0 {
					c.Clients, c.Over = 4*c.Clients, 4*c.Over
					c.Sessions = c.Clients + c.Residents
				}
				least := f.least
				if least == 0 {
					least = floodIdeal(c.Places, c.RoundTrip, float64(c.Strangers), false, c.Timer, floodLimit) / 2
				}
				r := c.show(t)
				t.Logf("%.4f of %d, at least %.4f; residents: %+v", r.New.Within(floodLimit), r.New.Clients, least, r.Residents)
				if f.rate == 20_000 && !*bounds {
					// So few are in that only many clients tell a seventh from a ninth.
					least -= 3 * deviation(least, r.New.Clients)
				}
				r.atLeast(t, "new", r.New, least, floodLimit)
				r.atLeast(t, "returning", r.Returning, 0.99, floodLimit)
				r.unharmed(t)
			})
		}
	}
}

// A flood whose strangers return no cookie takes no place of a listener that keeps nothing for
// them, so everybody is in after the round trips of the handshake. Returning clients have one
// round trip less.
func TestFloodTakesNoPlaceWithoutCookies(t *testing.T) {
	for _, kind := range []Flood{{}, {OneNetwork: true}, {NameSessions: true}, {Repeat: true}} {
		c := duringFlood(20_000, 64, 4*time.Second, 1)
		c.Server, c.Flood = "ours-v4", kind
		r := c.show(t)
		r.allIn(t, roundTripsOfClient*c.RoundTrip+c.RoundTrip/10)
		r.unharmed(t)
		if r.HalfOpen > c.Clients/2 {
			t.Errorf("%v: %d handshakes", c, r.HalfOpen)
		}
	}
}

// Strangers that return their cookies take places until they have exceeded the patience, which
// does not grow by the time that honest clients wait for theirs.
func TestFloodThatReturnsCookiesLeavesRoom(t *testing.T) {
	for rate, least := range map[int]float64{500: 0.85, 2000: 0.3} {
		c := duringFlood(rate, scaled(400), 20*time.Second, 1)
		c.Server, c.Flood = "ours-v4", Flood{ReturnCookies: true}
		r := c.show(t)
		r.atLeast(t, "new", r.New, least, floodLimit)
		r.atLeast(t, "returning", r.Returning, 0.99, floodLimit)
		r.unharmed(t)
	}
}

// deviation returns the standard deviation of a share of n clients that have the same
// chance each.
func deviation(chance float64, n int) float64 {
	return math.Sqrt(chance * (1 - chance) / float64(n))
}

// What a flood may cost, in bytes.
const (
	handshakeBytes = 36_000  // of the server, for a handshake that has not ended
	backlogBytes   = 8 << 20 // of the server, for all first ClientHellos that wait for room
	waitingBytes   = 512     // for one of them, of which there are 16 for each place
	clientBytes    = 60_000  // of the test, for a client that tries to get in
	underWayBytes  = 300     // of the test, for a datagram on the network
)

// floodMemory returns the bound of the memory during a flood. Of the handshakes that were
// displaced some have not ended: a quarter of the places, and 16.
func (c Cell) floodMemory() int64 {
	handshakes := c.Places + c.Places/4 + 16
	server := handshakes*handshakeBytes + min(16*c.Places*waitingBytes, backlogBytes)
	underWay := int(float64(c.Strangers) * c.RoundTrip.Seconds())
	return int64(server + c.Clients*clientBytes + underWay*underWayBytes)
}

// The worst floods cost no more memory than the places and the backlog do.
func TestFloodStaysWithinItsMemory(t *testing.T) {
	for _, kind := range []Flood{{}, {ReturnCookies: true}} {
		c := duringFlood(20_000, 8, 4*time.Second, 1)
		c.Flood, c.After, c.Horizon = kind, 6*time.Second, 3*time.Second
		r := c.show(t)
		r.unharmed(t)
		t.Logf("%.1f MB, of %.1f; residents: %+v", float64(r.HeapBytes)/1e6, float64(c.floodMemory())/1e6, r.Residents)
		if r.HeapBytes > c.floodMemory() {
			t.Errorf("%v: %d bytes, more than %d\n%s", c, r.HeapBytes, c.floodMemory(), r.Stats)
		}
		if r.HalfOpen < c.Places*3/4 {
			t.Errorf("%v: %d handshakes do not fill the places", c, r.HalfOpen)
		}
	}
}

// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"container/list"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// admissionTest is an admission without a listener.
type admissionTest struct {
	*admission
	noSlot bool // the table has no free slot
}

// restarts has another ClientHello restart a handshake, and reports whether that has
// ended. No other one starts.
func (x *admissionTest) restarts(old *ticket) bool {
	return x.restart(old, func() *ticket { return nil }) != tooEarly
}

// newAdmissionTest returns an admission with the bounds of a Config.
func newAdmissionTest(cfg Config) *admissionTest {
	x := &admissionTest{admission: new(admission)}
	x.init(&cfg)
	x.slotIsFree = func() bool { return !x.noSlot }
	return x
}

// owner is the owner of a ticket.
type owner struct {
	ticket     ticket
	admission  *admission
	displacedN int
	listed     bool // the ticket was still in the lists when it was displaced
}

func (o *owner) displaced() {
	o.displacedN++
	o.listed = o.listed || !o.ticket.ended || isListed(o.admission, &o.ticket)
}

func isListed(a *admission, t *ticket) bool {
	for e := a.all.Front(); e != nil; e = e.Next() {
		if e.Value.(*ticket) == t {
			return true
		}
	}
	return false
}

// tryAdmit admits a handshake of a client at addr, whose peer has no slot.
func (x *admissionTest) tryAdmit(addr string) (*owner, refusal) {
	return x.tryAdmitPeer(addr, false)
}

func (x *admissionTest) tryAdmitPeer(addr string, inSlot bool) (*owner, refusal) {
	o := &owner{admission: x.admission}
	o.ticket.owner = o
	cause := x.admit(netip.MustParseAddr(addr), inSlot, func() *ticket { return &o.ticket })
	return o, cause
}

// mustAdmit is tryAdmit for a handshake that has room.
func (x *admissionTest) mustAdmit(t *testing.T, addr string) *owner {
	t.Helper()
	o, cause := x.tryAdmit(addr)
	require.Equal(t, admitted, cause)
	return o
}

// isIn reports whether the handshake is in progress.
func (o *owner) isIn(t *testing.T) bool {
	t.Helper()
	assert.False(t, o.listed, "displaced is called after the ticket has ended")
	assert.LessOrEqual(t, o.displacedN, 1, "displaced is called once")
	o.admission.mu.Lock()
	defer o.admission.mu.Unlock()
	assert.Equal(t, !o.ticket.ended, isListed(o.admission, &o.ticket))
	return !o.ticket.ended
}

// check checks the invariants.
func (a *admission) check(t *testing.T) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	assert.LessOrEqual(t, a.all.Len(), a.handshakes)
	assert.LessOrEqual(t, a.all.Len(), a.running, "what is in progress is running")
	assert.LessOrEqual(t, a.running, runningFactor*a.handshakes+minHandshakes)
	assert.LessOrEqual(t, int(a.established.Load()), a.sessions)
	if a.stopped {
		assert.Zero(t, a.all.Len())
	}
	all, unvalidated := tickets(t, &a.all), tickets(t, &a.unvalidated)
	var inSources, unvalidatedInSources int
	for prefix, s := range a.sources {
		assert.Equal(t, prefix, s.prefix)
		assert.Positive(t, s.all.Len(), "a network without handshakes is left over")
		assert.LessOrEqual(t, s.all.Len(), a.perSource)
		for _, k := range tickets(t, &s.all) {
			assert.Same(t, s, k.source)
		}
		for _, k := range tickets(t, &s.unvalidated) {
			assert.Same(t, s, k.source)
			assert.False(t, k.validated)
		}
		inSources += s.all.Len()
		unvalidatedInSources += s.unvalidated.Len()
	}
	assert.Equal(t, len(all), inSources)
	assert.Equal(t, len(unvalidated), unvalidatedInSources)
	count := 0
	for _, k := range all {
		assert.False(t, k.ended)
		assert.Same(t, k.source, a.sources[k.source.prefix])
		if !k.validated {
			count++
		}
	}
	assert.Equal(t, count, len(unvalidated))
}

// tickets returns the tickets of a list, and checks that the oldest comes first.
func tickets(t *testing.T, l *list.List) []*ticket {
	t.Helper()
	var all []*ticket
	for e := l.Front(); e != nil; e = e.Next() {
		k := e.Value.(*ticket)
		if n := len(all); n > 0 {
			assert.False(t, k.started.Before(all[n-1].started), "the oldest comes first")
		}
		all = append(all, k)
	}
	return all
}

func TestNetworkOf(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{
		"192.0.2.77":                 "192.0.2.0/24",
		"255.255.255.255":            "255.255.255.0/24",
		"2001:db8:1:2:3:4:5:6":       "2001:db8:1:2::/64",
		"fe80::1%eth0":               "fe80::/64",
		"2001:db8:ffff:ffff:ffff::1": "2001:db8:ffff:ffff::/64",
	} {
		assert.Equal(t, netip.MustParsePrefix(want), networkOf(netip.MustParseAddr(addr)), addr)
	}
}

func TestOldestUnvalidatedHandshakeIsDisplaced(t *testing.T) {
	t.Parallel()
	x := newAdmissionTest(Config{Sessions: 1, Handshakes: 3, HandshakesPerSource: 3})
	a, b, c := x.mustAdmit(t, "10.0.0.1"), x.mustAdmit(t, "10.0.1.1"), x.mustAdmit(t, "10.0.2.1")
	x.check(t)
	x.validate(&a.ticket)
	x.check(t)
	d := x.mustAdmit(t, "10.0.3.1")
	assert.True(t, a.isIn(t), "the oldest, whose client has validated its address")
	assert.False(t, b.isIn(t), "the oldest of the others")
	assert.Equal(t, 1, b.displacedN)
	e := x.mustAdmit(t, "10.0.4.1")
	assert.False(t, c.isIn(t))
	f := x.mustAdmit(t, "10.0.5.1")
	assert.False(t, d.isIn(t))
	assert.True(t, a.isIn(t) && e.isIn(t) && f.isIn(t))
	_, halfOpen := x.counts()
	assert.Equal(t, 3, halfOpen)
	x.check(t)
}

// TestStalledHandshakeIsDisplaced fills the admission with clients that have validated
// their addresses. The oldest has to go only when it has taken much longer than an
// honest client takes.
func TestStalledHandshakeIsDisplaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newAdmissionTest(Config{Sessions: 1, Handshakes: 2, HandshakesPerSource: 2})
		a := x.mustAdmit(t, "10.0.0.1")
		x.validate(&a.ticket)
		time.Sleep(time.Millisecond)
		b := x.mustAdmit(t, "10.0.1.1")
		x.validate(&b.ticket)

		time.Sleep(stallAfter - 2*time.Millisecond)
		_, cause := x.tryAdmit("10.0.2.1")
		assert.Equal(t, noRoom, cause, "a moment too early")
		time.Sleep(time.Millisecond)
		c := x.mustAdmit(t, "10.0.2.1")
		assert.False(t, a.isIn(t))
		assert.Equal(t, 1, a.displacedN)
		assert.True(t, b.isIn(t))
		x.check(t)

		// A client that has not validated its address goes before one that has stalled.
		time.Sleep(time.Hour)
		d := x.mustAdmit(t, "10.0.3.1")
		assert.True(t, b.isIn(t))
		assert.False(t, c.isIn(t))
		x.validate(&d.ticket)
		e := x.mustAdmit(t, "10.0.4.1")
		assert.False(t, b.isIn(t))
		assert.True(t, d.isIn(t) && e.isIn(t))
		x.check(t)
	})
}

// TestNetworkHasItsShare: a network that has taken its share displaces its own handshakes,
// although those of other networks are older.
func TestNetworkHasItsShare(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newAdmissionTest(Config{Sessions: 1, Handshakes: 5, HandshakesPerSource: 2})
		other := x.mustAdmit(t, "10.0.0.1")
		a, b := x.mustAdmit(t, "10.0.1.1"), x.mustAdmit(t, "10.0.1.2")
		c := x.mustAdmit(t, "10.0.1.255")
		assert.True(t, other.isIn(t))
		assert.False(t, a.isIn(t))
		assert.True(t, b.isIn(t) && c.isIn(t))
		x.check(t)

		x.validate(&b.ticket)
		x.validate(&c.ticket)
		_, cause := x.tryAdmit("10.0.1.3")
		assert.Equal(t, shareTaken, cause)
		six, seven := x.mustAdmit(t, "2001:db8::1"), x.mustAdmit(t, "2001:db8:0:1::1")
		x.check(t)
		assert.True(t, other.isIn(t) && six.isIn(t) && seven.isIn(t), "there is room for other networks")

		// The share comes before the cap: the network's oldest handshake is displaced,
		// although a client of another network has not validated its address.
		time.Sleep(stallAfter)
		d := x.mustAdmit(t, "10.0.1.4")
		assert.False(t, b.isIn(t))
		assert.True(t, other.isIn(t) && c.isIn(t) && d.isIn(t))
		_, halfOpen := x.counts()
		assert.Equal(t, 5, halfOpen)
		x.check(t)
	})
}

// TestShareOfOne displaces the only handshake of a network by another one of that network.
func TestShareOfOne(t *testing.T) {
	t.Parallel()
	x := newAdmissionTest(Config{Sessions: 1, Handshakes: 2, HandshakesPerSource: 1})
	a := x.mustAdmit(t, "10.0.0.1")
	b := x.mustAdmit(t, "10.0.0.2")
	assert.False(t, a.isIn(t))
	assert.True(t, b.isIn(t))
	x.check(t)
	x.end(&b.ticket)
	x.check(t)
	assert.Empty(t, x.sources)
}

func TestRestartEndsOldUnvalidatedHandshake(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newAdmissionTest(Config{Sessions: 1, Handshakes: 4, HandshakesPerSource: 4})
		a, b := x.mustAdmit(t, "10.0.0.1"), x.mustAdmit(t, "10.0.0.2")
		x.validate(&b.ticket)
		assert.False(t, x.restarts(&a.ticket), "it has just started")
		time.Sleep(restartAfter - 1)
		assert.False(t, x.restarts(&a.ticket), "a moment too early")
		assert.True(t, a.isIn(t))
		time.Sleep(time.Nanosecond)
		assert.True(t, x.restarts(&a.ticket))
		assert.False(t, a.isIn(t))
		assert.Equal(t, 1, a.displacedN)
		assert.True(t, x.restarts(&a.ticket), "it has ended before")
		assert.Equal(t, 1, a.displacedN)

		time.Sleep(time.Hour)
		assert.False(t, x.restarts(&b.ticket), "its client has validated its address")
		assert.True(t, b.isIn(t))
		x.end(&b.ticket)
		assert.True(t, x.restarts(&b.ticket))
		assert.Zero(t, b.displacedN)
		x.check(t)
	})
}

// TestTicketEndsOnce ends each ticket twice, in every combination of ways. The second one
// has no effect.
func TestTicketEndsOnce(t *testing.T) {
	t.Parallel()
	endings := map[string]func(x *admissionTest, o *owner){
		"end":      func(x *admissionTest, o *owner) { x.end(&o.ticket) },
		"complete": func(x *admissionTest, o *owner) { x.complete(&o.ticket, func() {}) },
		"restart":  func(x *admissionTest, o *owner) { x.restarts(&o.ticket) },
		"validate": func(x *admissionTest, o *owner) { x.validate(&o.ticket) },
		"stop":     func(x *admissionTest, _ *owner) { x.stop() },
	}
	for first, end := range endings {
		for second, endAgain := range endings {
			synctest.Test(t, func(t *testing.T) {
				x := newAdmissionTest(Config{Sessions: 1, Handshakes: 4, HandshakesPerSource: 4})
				o, other := x.mustAdmit(t, "10.0.0.1"), x.mustAdmit(t, "10.0.0.2")
				time.Sleep(restartAfter)
				end(x, o)
				x.check(t)
				displacedN := o.displacedN
				if ended := first != "validate"; ended {
					assert.False(t, o.isIn(t), first)
				}
				endAgain(x, o)
				x.check(t)
				if first != "validate" {
					assert.Equal(t, displacedN, o.displacedN, "%s, %s", first, second)
				}
				assert.Equal(t, first != "stop" && second != "stop", other.isIn(t), "%s, %s", first, second)
			})
		}
	}
}

func TestValidateAfterTheEnd(t *testing.T) {
	t.Parallel()
	x := newAdmissionTest(Config{Sessions: 1, Handshakes: 4, HandshakesPerSource: 4})
	o := x.mustAdmit(t, "10.0.0.1")
	x.validate(&o.ticket)
	x.validate(&o.ticket)
	x.check(t)
	assert.Zero(t, x.unvalidated.Len())
	x.end(&o.ticket)
	x.validate(&o.ticket)
	x.check(t)
	assert.Empty(t, x.sources)
}

// TestCompleteEndsTicketOnce completes a handshake twice.
func TestCompleteEndsTicketOnce(t *testing.T) {
	t.Parallel()
	x := newAdmissionTest(Config{Sessions: 1, Handshakes: 4, HandshakesPerSource: 4})
	a, b := x.mustAdmit(t, "10.0.0.1"), x.mustAdmit(t, "10.0.0.2")
	calls := 0
	establish := func() {
		calls++
		x.established.Add(1)
	}
	assert.True(t, x.complete(&a.ticket, establish))
	x.check(t)
	assert.False(t, a.isIn(t))
	assert.True(t, b.isIn(t))
	assert.True(t, x.full())
	assert.False(t, x.complete(&a.ticket, establish), "the ticket has ended")
	assert.Equal(t, 1, calls, "install is not called again")
	established, halfOpen := x.counts()
	assert.Equal(t, 1, established)
	assert.Equal(t, 1, halfOpen)
}

// TestRestartTakesThePlaceOfTheOldHandshake restarts a handshake while there is room for
// no other one, and no free slot.
func TestRestartTakesThePlaceOfTheOldHandshake(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newAdmissionTest(Config{Sessions: 1, Handshakes: 1, HandshakesPerSource: 1, WhenFull: RefuseNewcomer})
		a := x.mustAdmit(t, "10.0.0.1")
		x.established.Add(1)
		x.noSlot = true
		time.Sleep(restartAfter)
		b := &owner{admission: x.admission}
		b.ticket.owner = b
		assert.Equal(t, admitted, x.restart(&a.ticket, func() *ticket { return &b.ticket }))
		assert.False(t, a.isIn(t))
		assert.True(t, b.isIn(t))
		assert.Zero(t, a.displacedN, "start ends it")
		x.check(t)

		// Without room the old one goes all the same: its client has forgotten it.
		time.Sleep(restartAfter)
		x.running = runningFactor*x.handshakes + minHandshakes
		assert.Equal(t, noRoom, x.restart(&b.ticket, func() *ticket { t.Error("start is called"); return nil }))
		assert.False(t, b.isIn(t))
		assert.Equal(t, 1, b.displacedN)
	})
}

func TestDisplacedHandshakeDoesNotComplete(t *testing.T) {
	t.Parallel()
	x := newAdmissionTest(Config{Sessions: 2, Handshakes: 1, HandshakesPerSource: 1})
	a := x.mustAdmit(t, "10.0.0.1")
	b := x.mustAdmit(t, "10.0.1.1")
	assert.False(t, x.complete(&a.ticket, func() { t.Error("install is called") }))
	assert.True(t, b.isIn(t))
}

func TestStoppedAdmissionAdmitsNobody(t *testing.T) {
	t.Parallel()
	x := newAdmissionTest(Config{Sessions: 2, Handshakes: 4, HandshakesPerSource: 4})
	a, b := x.mustAdmit(t, "10.0.0.1"), x.mustAdmit(t, "10.0.1.1")
	x.validate(&a.ticket)
	x.stop()
	assert.Equal(t, 1, a.displacedN)
	assert.Equal(t, 1, b.displacedN)
	assert.False(t, a.isIn(t) || b.isIn(t))
	x.check(t)
	start := func() *ticket { t.Error("start is called"); return nil }
	assert.Equal(t, stopped, x.admit(netip.MustParseAddr("10.0.0.1"), false, start))
	assert.Equal(t, stopped, x.admit(netip.MustParseAddr("10.0.0.1"), true, start))
	x.stop()
	x.check(t)
}

// TestHandshakesThatHaveNotEndedAreBounded displaces handshakes that have not ended yet.
func TestHandshakesThatHaveNotEndedAreBounded(t *testing.T) {
	t.Parallel()
	const handshakes = 3
	x := newAdmissionTest(Config{Sessions: 1, Handshakes: handshakes, HandshakesPerSource: handshakes})
	var owners []*owner
	for range runningFactor*handshakes + minHandshakes {
		owners = append(owners, x.mustAdmit(t, "10.0.0.1"))
		x.check(t)
	}
	last := len(owners) - handshakes
	for range 3 {
		_, cause := x.tryAdmit("10.0.1.1")
		assert.Equal(t, noRoom, cause)
	}
	for i, o := range owners {
		assert.Equal(t, i >= last, o.isIn(t), "a refused handshake displaces nobody")
	}
	x.finished()
	x.mustAdmit(t, "10.0.1.1")
	_, cause := x.tryAdmit("10.0.1.1")
	assert.Equal(t, noRoom, cause, "one has ended, and one has started")
	x.check(t)
}

// TestPeerWithSlotNeedsNoOther fills the table with the slots of another listener.
func TestPeerWithSlotNeedsNoOther(t *testing.T) {
	t.Parallel()
	x := newAdmissionTest(Config{Sessions: 2, Handshakes: 2, HandshakesPerSource: 2})
	x.noSlot = true
	_, cause := x.tryAdmit("10.0.0.1")
	assert.Equal(t, noRoom, cause)
	x.check(t)
	_, cause = x.tryAdmitPeer("10.0.0.1", true)
	assert.Equal(t, admitted, cause)
	x.check(t)
}

func TestRefusedNewcomerStartsNoHandshake(t *testing.T) {
	t.Parallel()
	x := newAdmissionTest(Config{Sessions: 1, Handshakes: 2, HandshakesPerSource: 2, WhenFull: RefuseNewcomer})
	x.mustAdmit(t, "10.0.0.1")
	x.established.Add(1)
	_, cause := x.tryAdmit("10.0.0.2")
	assert.Equal(t, noRoom, cause)
	_, cause = x.tryAdmitPeer("10.0.0.2", true)
	assert.Equal(t, admitted, cause, "beside its own session")
	x.established.Add(-1)
	x.mustAdmit(t, "10.0.0.3")
	x.check(t)

	x = newAdmissionTest(Config{Sessions: 1, Handshakes: 2, HandshakesPerSource: 2})
	x.established.Add(1)
	x.mustAdmit(t, "10.0.0.1") // evicts a session when it is complete
}

func TestHandshakeThatDoesNotStartHasNoTicket(t *testing.T) {
	t.Parallel()
	x := newAdmissionTest(Config{Sessions: 1, Handshakes: 2, HandshakesPerSource: 2})
	for range 100 {
		assert.Equal(t, notStarted, x.admit(netip.MustParseAddr("10.0.0.1"), false, func() *ticket { return nil }))
	}
	x.check(t)
	assert.Empty(t, x.sources)
	assert.Zero(t, x.running)
}

func TestDrainedOnceNoSessionIsLeft(t *testing.T) {
	t.Parallel()
	isClosed := func(c <-chan struct{}) bool {
		select {
		case <-c:
			return true
		default:
			return false
		}
	}
	x := newAdmissionTest(Config{Sessions: 2, Handshakes: 1, HandshakesPerSource: 1})
	assert.True(t, isClosed(x.waitDrained()), "there was no session")

	x = newAdmissionTest(Config{Sessions: 2, Handshakes: 1, HandshakesPerSource: 1})
	x.established.Add(2)
	x.sessionEnded() // nobody waits
	first, second := x.waitDrained(), x.waitDrained()
	x.sessionEnded()
	x.established.Add(-1)
	x.sessionEnded()
	assert.False(t, isClosed(first) || isClosed(second))
	x.established.Add(-1)
	x.sessionEnded()
	assert.True(t, isClosed(first) && isClosed(second))
	x.sessionEnded()
	assert.True(t, isClosed(x.waitDrained()))
}

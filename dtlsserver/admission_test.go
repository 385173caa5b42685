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
	noSlot  bool // the table has no free slot
	crowded bool // many first flights wait
}

// newAdmissionTest returns an admission with the bounds of a Config. With 16 Handshakes,
// two of them are reserved for returning clients, networks have their share from 11
// newcomers on, two handshakes are slow, and one waits for its look-up.
func newAdmissionTest(t *testing.T, cfg Config) *admissionTest {
	t.Helper()
	cfg, err := cfg.withDefaults()
	require.NoError(t, err)
	x := &admissionTest{admission: new(admission)}
	x.init(&cfg, func() bool { return x.crowded })
	x.patience.began = time.Now().Add(-settlingTime)
	x.slotIsFree = func() bool { return !x.noSlot }
	return x
}

// owner is the owner of a ticket.
type owner struct {
	ticket     ticket
	admission  *admission
	displacedN int
	early      bool // displaced was called before the ticket had ended
}

func newOwner(a *admission) *owner {
	o := &owner{admission: a}
	o.ticket.owner = o
	return o
}

func (o *owner) displaced() {
	o.displacedN++
	o.early = o.early || !o.ticket.ended || isListed(o.admission, &o.ticket)
}

// isListed reports whether a ticket is in the queues.
func isListed(a *admission, t *ticket) bool {
	for r := range a.queues {
		for k := range a.queues[r] {
			for e := a.queues[r][k].Front(); e != nil; e = e.Next() {
				if e.Value.(*ticket) == t {
					return true
				}
			}
		}
	}
	return false
}

// try admits a handshake of a client at addr. r says what it needs otherwise.
func (x *admissionTest) try(addr string, r request) (*owner, refusal) {
	o := newOwner(x.admission)
	r.addr = netip.MustParseAddr(addr)
	if r.start == nil {
		r.start = func() *ticket { return &o.ticket }
	}
	x.skipPace()
	return o, x.admit(r)
}

// skipPace makes displacements possible that would have to wait for their turn.
func (x *admissionTest) skipPace() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.patience.next = [numPatienceKinds]time.Time{}
}

// must is try for a handshake that has room.
func (x *admissionTest) must(t *testing.T, addr string, r request) *owner {
	t.Helper()
	o, cause := x.try(addr, r)
	require.Equal(t, admitted, cause)
	return o
}

// admitMany admits n handshakes, at addresses of a network.
func (x *admissionTest) admitMany(t *testing.T, network string, n int, r request) []*owner {
	t.Helper()
	var all []*owner
	addr := netip.MustParseAddr(network)
	for range n {
		time.Sleep(time.Nanosecond) // so that one has waited longest
		addr = addr.Next()
		all = append(all, x.must(t, addr.String(), r))
	}
	return all
}

// refuses checks that a handshake is refused, and that its start is not called.
func (x *admissionTest) refuses(t *testing.T, want refusal, addr string, r request) {
	t.Helper()
	r.start = func() *ticket { t.Error("start is called"); return nil }
	_, cause := x.try(addr, r)
	assert.Equal(t, want, cause)
}

// finishDisplaced notes that all displaced handshakes have ended entirely.
func (x *admissionTest) finishDisplaced() {
	halfOpen := x.halfOpen()
	x.mu.Lock()
	running := x.running
	x.mu.Unlock()
	for range running - halfOpen {
		x.finished()
	}
}

// isIn reports whether the handshake is in progress.
func (o *owner) isIn(t *testing.T) bool {
	t.Helper()
	assert.False(t, o.early, "displaced is called after the ticket has ended")
	assert.LessOrEqual(t, o.displacedN, 1, "displaced is called once")
	o.admission.mu.Lock()
	defer o.admission.mu.Unlock()
	assert.Equal(t, !o.ticket.ended, isListed(o.admission, &o.ticket))
	return !o.ticket.ended
}

// in returns how many handshakes are in progress.
func in(t *testing.T, owners []*owner) int {
	t.Helper()
	n := 0
	for _, o := range owners {
		if o.isIn(t) {
			n++
		}
	}
	return n
}

// check checks the invariants.
func (a *admission) check(t *testing.T) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	newcomers := a.queues[newcomer].len()
	all := newcomers + a.queues[returning].len()
	assert.LessOrEqual(t, newcomers, a.newcomers)
	assert.LessOrEqual(t, all, a.places)
	assert.LessOrEqual(t, all, a.running, "what is in progress is running")
	assert.LessOrEqual(t, a.running, a.maxRunning)
	assert.LessOrEqual(t, a.queues[newcomer][awaitsCookieLong].Len()+a.queues[returning][awaitsCookieLong].Len(), a.patient)
	assert.LessOrEqual(t, int(a.established.Load()), a.sessions)
	if a.stopped {
		assert.Zero(t, all)
	}
	lookingUp := 0
	for r := range a.queues {
		for kind := range a.queues[r] {
			for _, k := range tickets(t, &a.queues[r][kind]) {
				assert.False(t, k.ended)
				assert.Equal(t, clientClass(r), k.class)
				assert.Equal(t, patienceKind(kind), k.waiting.kind)
				assert.Equal(t, k.class == newcomer, k.waiting.inSource != nil)
				assert.False(t, k.waiting.since.Before(k.started))
				if k.lookingUp {
					lookingUp++
					assert.Equal(t, returning, k.class)
					assert.Equal(t, validatedLong, k.waiting.kind)
				}
				assert.Equal(t, k.validatedAfter > 0, k.waiting.kind == validated || k.waiting.kind == validatedLong && k.validatedAfter > 0)
			}
		}
	}
	assert.Equal(t, a.lookingUp, lookingUp)
	assert.LessOrEqual(t, lookingUp, a.maxLookingUp)
	inSources := 0
	for prefix, s := range a.sources {
		assert.Positive(t, s.len(), "a network without handshakes is left over")
		inSources += s.len()
		for kind := range s {
			for _, k := range tickets(t, &s[kind]) {
				assert.Equal(t, prefix, k.prefix)
				assert.Equal(t, newcomer, k.class)
			}
		}
	}
	assert.Equal(t, newcomers, inSources)
}

// tickets returns the tickets of a list, and checks that the one comes first that has
// waited longest.
func tickets(t *testing.T, l *list.List) []*ticket {
	t.Helper()
	var all []*ticket
	for e := l.Front(); e != nil; e = e.Next() {
		k := e.Value.(*ticket)
		if n := len(all); n > 0 {
			assert.False(t, k.waiting.since.Before(all[n-1].waiting.since), "the one that has waited longest comes first")
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

// TestHandshakesAreBounded fills all places. A handshake that ends makes room for one.
func TestHandshakesAreBounded(t *testing.T) {
	t.Parallel()
	for _, places := range []int{1, 2, 7, 8, 16, 100} {
		synctest.Test(t, func(t *testing.T) {
			x := newAdmissionTest(t, Config{Handshakes: places, HandshakesPerSource: -1})
			newcomers := x.admitMany(t, "10.0.0.0", places-places/8, request{})
			x.refuses(t, noRoom, "10.0.1.1", request{})
			back := x.admitMany(t, "10.0.2.0", places/8, request{class: returning})
			x.refuses(t, noRoom, "10.0.1.1", request{})
			x.refuses(t, noRoom, "10.0.1.1", request{class: returning})
			x.check(t)
			assert.Equal(t, places, in(t, newcomers)+in(t, back))
			halfOpen := x.halfOpen()
			assert.Equal(t, places, halfOpen)

			x.end(&newcomers[0].ticket)
			x.finished()
			x.must(t, "10.0.1.1", request{})
			x.refuses(t, noRoom, "10.0.1.1", request{})
			x.check(t)
		})
	}
}

// TestReturningClientsHaveReserve: newcomers leave one place in eight to them, and have
// none of those that returning clients take beyond.
func TestReturningClientsHaveReserve(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newAdmissionTest(t, Config{Handshakes: 16, HandshakesPerSource: -1})
		newcomers := x.admitMany(t, "10.0.0.0", 14, request{})
		x.refuses(t, noRoom, "10.0.1.1", request{})
		back := x.admitMany(t, "10.0.0.100", 2, request{class: returning})
		x.refuses(t, noRoom, "10.0.0.200", request{class: returning})
		x.check(t)

		// A returning client displaces a newcomer who has exceeded its patience, and no
		// returning client while there is one. The place is a newcomer's no more.
		time.Sleep(longPatience)
		third := x.must(t, "10.0.0.200", request{class: returning})
		assert.False(t, newcomers[0].isIn(t))
		assert.Equal(t, 1, newcomers[0].displacedN)
		assert.Equal(t, 2, in(t, back))
		x.check(t)
		for _, o := range newcomers[1:] {
			x.validate(&o.ticket)
		}
		for _, o := range back {
			x.validate(&o.ticket)
		}
		x.refuses(t, noRoom, "10.0.1.1", request{})
		x.end(&third.ticket)
		x.must(t, "10.0.1.1", request{})
		x.check(t)

		// Nobody has exceeded its patience.
		x.refuses(t, noRoom, "10.0.0.201", request{class: returning})
		assert.Equal(t, 2, in(t, back))
	})
}

// TestReturningClientsMayHaveAllPlaces: then newcomers have what is left.
func TestReturningClientsMayHaveAllPlaces(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newAdmissionTest(t, Config{Handshakes: 16, HandshakesPerSource: 4})
		back := x.admitMany(t, "10.0.0.0", 16, request{class: returning})
		assert.Empty(t, x.sources, "a share is for newcomers")
		x.refuses(t, noRoom, "10.0.1.1", request{})
		x.check(t)
		assert.Equal(t, 16, in(t, back))
		x.end(&back[3].ticket)
		x.must(t, "10.0.1.1", request{})
		x.refuses(t, noRoom, "10.0.2.1", request{})
		x.check(t)
	})
}

// TestHandshakesThatHaveNotEndedAreBounded displaces handshakes that have not ended yet.
func TestHandshakesThatHaveNotEndedAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const places, more = 8, 2 + minEnding - 1 // one for returning clients
		x := newAdmissionTest(t, Config{Handshakes: places, HandshakesPerSource: -1})
		var owners []*owner
		for range places + more {
			time.Sleep(longPatience)
			owners = append(owners, x.must(t, "10.0.0.1", request{}))
			x.check(t)
		}
		time.Sleep(longPatience)
		before := in(t, owners)
		for range 3 {
			x.refuses(t, noRoom, "10.0.1.1", request{})
			x.refuses(t, noRoom, "10.0.1.1", request{replaces: &owners[len(owners)-1].ticket, inSlot: true})
		}
		assert.Equal(t, before, in(t, owners), "a refused handshake displaces nobody")
		x.finished()
		x.must(t, "10.0.1.1", request{})
		x.refuses(t, noRoom, "10.0.1.1", request{}) // one has ended, and one has started
		x.check(t)
	})
}

// TestPeerWithSlotNeedsNoOther fills the table with the slots of another listener.
func TestPeerWithSlotNeedsNoOther(t *testing.T) {
	t.Parallel()
	x := newAdmissionTest(t, Config{Handshakes: 2, HandshakesPerSource: -1})
	x.noSlot = true
	x.refuses(t, noRoom, "10.0.0.1", request{})
	x.refuses(t, noRoom, "10.0.0.1", request{class: returning})
	x.check(t)
	x.must(t, "10.0.0.1", request{inSlot: true})
	x.check(t)
}

// TestDisplacedHandshakeLeavesItsSlot: the table is full of the listener's own handshakes.
func TestDisplacedHandshakeLeavesItsSlot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newAdmissionTest(t, Config{Handshakes: 2, HandshakesPerSource: -1})
		all := x.admitMany(t, "10.0.0.0", 2, request{})
		x.slotIsFree = func() bool { return all[0].ticket.ended }
		x.refuses(t, noRoom, "10.0.0.9", request{})
		time.Sleep(longPatience)
		x.must(t, "10.0.0.9", request{})
		x.check(t)
	})
}

func TestRefusedNewcomerStartsNoHandshake(t *testing.T) {
	t.Parallel()
	x := newAdmissionTest(t, Config{Sessions: 1, Handshakes: 4, WhenFull: RefuseNewcomer})
	x.must(t, "10.0.0.1", request{})
	x.established.Add(1)
	x.refuses(t, sessionsFull, "10.0.1.2", request{})
	x.refuses(t, sessionsFull, "10.0.1.2", request{namesSession: true})
	x.must(t, "10.0.1.2", request{inSlot: true, class: returning}) // beside its own session
	x.established.Add(-1)
	x.must(t, "10.0.2.3", request{})
	x.check(t)

	x = newAdmissionTest(t, Config{Sessions: 1, Handshakes: 2})
	x.established.Add(1)
	x.must(t, "10.0.0.1", request{}) // evicts a session when it is complete
}

func TestHandshakeThatDoesNotStartHasNoTicket(t *testing.T) {
	t.Parallel()
	x := newAdmissionTest(t, Config{Handshakes: 16})
	for _, r := range []request{{}, {namesSession: true}, {class: returning}} {
		r.start = func() *ticket { return nil }
		for range 100 {
			_, cause := x.try("10.0.0.1", r)
			assert.Equal(t, notStarted, cause)
		}
	}
	x.check(t)
	assert.Empty(t, x.sources)
	assert.Zero(t, x.running)
	assert.Zero(t, x.lookingUp)
}

// halfOpen returns how many handshakes have a place.
func (a *admission) halfOpen() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.queues[newcomer].len() + a.queues[returning].len()
}

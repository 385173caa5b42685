// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

// TestRestartTakesThePlaceOfTheOldHandshake: there is room for no other handshake, and no
// free slot.
func TestRestartTakesThePlaceOfTheOldHandshake(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newAdmissionTest(t, Config{Sessions: 1, Handshakes: 16, HandshakesPerSource: 4, WhenFull: RefuseNewcomer})
		fleet := x.admitMany(t, "10.0.0.0", 11, request{})
		others := x.admitMany(t, "10.0.1.0", 3, request{})
		back := x.admitMany(t, "10.0.0.100", 2, request{class: returning})
		x.established.Add(1)
		x.noSlot = true
		time.Sleep(time.Hour)
		for i, old := range []*owner{fleet[5], others[2], back[1]} {
			r := request{inSlot: true, replaces: &old.ticket}
			next := x.must(t, []string{"10.0.0.6", "10.0.1.3", "10.0.0.102"}[i], r)
			assert.False(t, old.isIn(t))
			assert.Equal(t, 1, old.displacedN)
			assert.True(t, next.isIn(t))
			assert.Equal(t, old.ticket.class, next.ticket.class)
			x.check(t)
		}
		assert.Equal(t, 10+2+1, in(t, fleet)+in(t, others)+in(t, back), "nobody else has to go")
		assert.Equal(t, 11, x.sources[networkOf(fleet[0].ticket.prefix.Addr())].len())
	})
}

// TestRestartOfEndedHandshakeNeedsRoom: the handshake ends between the decision to
// restart it and its restart.
func TestRestartOfEndedHandshakeNeedsRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newAdmissionTest(t, Config{Handshakes: 16, HandshakesPerSource: -1})
		all := x.admitMany(t, "10.0.0.0", 14, request{})
		x.end(&all[0].ticket)
		x.must(t, "10.0.1.1", request{})
		x.refuses(t, noRoom, "10.0.0.1", request{inSlot: true, replaces: &all[0].ticket})
		x.end(&all[1].ticket)
		x.must(t, "10.0.0.1", request{inSlot: true, replaces: &all[0].ticket})
		assert.Zero(t, all[0].displacedN)
		x.check(t)
	})
}

// TestRestartThatFailsEndsTheOldHandshake: the old one has gone, and nothing of it is left.
func TestRestartThatFailsEndsTheOldHandshake(t *testing.T) {
	t.Parallel()
	x := newAdmissionTest(t, Config{Handshakes: 16})
	o := x.must(t, "10.0.0.1", request{namesSession: true})
	_, cause := x.try("10.0.0.1", request{inSlot: true, replaces: &o.ticket, start: func() *ticket { return nil }})
	assert.Equal(t, notStarted, cause)
	assert.False(t, o.isIn(t))
	assert.Zero(t, x.lookingUp)
	x.check(t)
}

// TestClassify has the store know the session that a client has named, or not.
func TestClassify(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newAdmissionTest(t, Config{Handshakes: 16, HandshakesPerSource: 4})
		known := x.must(t, "10.0.0.1", request{namesSession: true})
		assert.Equal(t, 1, x.lookingUp)
		x.check(t)
		assert.Equal(t, admitted, x.classify(&known.ticket, true, func() {}))
		assert.Equal(t, returning, known.ticket.class)
		assert.Equal(t, validatedLong, known.ticket.waiting.kind)
		assert.Zero(t, x.lookingUp)
		x.check(t)

		unknown := x.must(t, "10.0.0.2", request{namesSession: true})
		assert.Equal(t, admitted, x.classify(&unknown.ticket, false, func() {}))
		assert.Equal(t, newcomer, unknown.ticket.class)
		assert.Equal(t, awaitsCookieLong, unknown.ticket.waiting.kind)
		assert.Zero(t, x.lookingUp)
		x.check(t)

		// A client that names no session is classified, too.
		x.admitMany(t, "10.0.1.0", 1, request{})
		plain := x.must(t, "10.0.0.3", request{})
		assert.Equal(t, awaitsCookie, plain.ticket.waiting.kind)
		assert.Equal(t, admitted, x.classify(&plain.ticket, false, func() {}))
		assert.Equal(t, newcomer, plain.ticket.class)
		assert.Equal(t, awaitsCookie, plain.ticket.waiting.kind)
		beside := x.must(t, "10.0.0.4", request{inSlot: true, class: returning})
		assert.Equal(t, admitted, x.classify(&beside.ticket, false, func() {}))
		assert.Equal(t, returning, beside.ticket.class)
		x.check(t)
	})
}

// TestClientWithSessionIsReturningWhateverItNames: its address has a session, so it needs
// no look-up.
func TestClientWithSessionIsReturningWhateverItNames(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newAdmissionTest(t, Config{Handshakes: 16, HandshakesPerSource: -1})
		x.admitMany(t, "10.0.0.0", 14, request{})
		o := x.must(t, "10.0.1.1", request{inSlot: true, class: returning, namesSession: true})
		assert.Zero(t, x.lookingUp)
		assert.Equal(t, admitted, x.classify(&o.ticket, false, func() {}))
		assert.True(t, o.isIn(t))
		assert.Equal(t, returning, o.ticket.class)
		x.check(t)
	})
}

// TestUnknownSessionNeedsRoomOfNewcomers: a client that names a session which the store
// does not know keeps no place of the reserve.
func TestUnknownSessionNeedsRoomOfNewcomers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newAdmissionTest(t, Config{Handshakes: 16, HandshakesPerSource: -1})
		all := x.admitMany(t, "10.0.0.0", 14, request{})
		o := x.must(t, "10.0.1.1", request{namesSession: true})
		assert.Equal(t, noRoom, x.classify(&o.ticket, false, func() {}))
		assert.False(t, o.isIn(t))
		assert.Zero(t, o.displacedN, "its caller ends it")
		assert.Zero(t, x.lookingUp)
		x.check(t)
		assert.Equal(t, stopped, x.classify(&o.ticket, true, func() {}))
		x.end(&o.ticket)
		x.check(t)

		time.Sleep(longPatience)
		o = x.must(t, "10.0.1.1", request{namesSession: true})
		assert.Equal(t, 14, in(t, all))
		assert.Equal(t, admitted, x.classify(&o.ticket, false, func() {}))
		assert.False(t, all[0].isIn(t), "it gives way as for any newcomer")
		x.check(t)
	})
}

// TestUnknownSessionNeedsShareOfNetwork: naming a session gets no network more than its
// share.
func TestUnknownSessionNeedsShareOfNetwork(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newAdmissionTest(t, Config{Handshakes: 16, HandshakesPerSource: 4})
		x.admitMany(t, "10.0.0.0", 11, request{})
		o := x.must(t, "10.0.0.100", request{namesSession: true})
		assert.Equal(t, shareTaken, x.classify(&o.ticket, false, func() {}))
		assert.False(t, o.isIn(t))
		x.check(t)
	})
}

// TestLookUpsAreBounded: a client whose session cannot be looked up in the reserve needs
// room as a newcomer. It is returning once the store knows its session.
func TestLookUpsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newAdmissionTest(t, Config{Handshakes: 16, HandshakesPerSource: -1})
		first := x.must(t, "10.0.0.1", request{namesSession: true})
		second := x.must(t, "10.0.0.2", request{namesSession: true})
		assert.Equal(t, returning, first.ticket.class)
		assert.Equal(t, newcomer, second.ticket.class)
		assert.False(t, second.ticket.lookingUp)
		x.check(t)
		x.admitMany(t, "10.0.1.0", 13, request{})
		x.refuses(t, noRoom, "10.0.0.3", request{namesSession: true})
		assert.Equal(t, admitted, x.classify(&second.ticket, true, func() {}))
		assert.Equal(t, returning, second.ticket.class)
		assert.Equal(t, 1, x.lookingUp, "the other one's")
		x.check(t)
		x.must(t, "10.0.2.1", request{}) // second has left a place
		x.check(t)

		// Whatever ends a handshake ends its look-up.
		for _, end := range []func(*owner){
			func(o *owner) { x.end(&o.ticket) },
			func(o *owner) { x.displace(&o.ticket) },
			func(o *owner) { x.complete(&o.ticket, func() {}) },
			func(o *owner) { x.validate(&o.ticket); x.end(&o.ticket) },
		} {
			assert.Equal(t, 1, x.lookingUp)
			end(first)
			assert.Zero(t, x.lookingUp)
			x.check(t)
			first = x.must(t, "10.0.0.1", request{namesSession: true})
		}
		x.stop()
		assert.Zero(t, x.lookingUp)
		x.check(t)
	})
}

// TestSmallListenerLooksUpNoSession: without a reserve a client is returning only once
// the store knows its session.
func TestSmallListenerLooksUpNoSession(t *testing.T) {
	t.Parallel()
	x := newAdmissionTest(t, Config{Handshakes: 7, HandshakesPerSource: -1})
	o := x.must(t, "10.0.0.1", request{namesSession: true})
	assert.Equal(t, newcomer, o.ticket.class)
	assert.Equal(t, admitted, x.classify(&o.ticket, true, func() {}))
	assert.Equal(t, returning, o.ticket.class)
	x.check(t)
}

func TestValidate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newAdmissionTest(t, Config{Handshakes: 16})
		for _, r := range []clientClass{newcomer, returning} {
			o := x.must(t, "10.0.0.1", request{class: r})
			time.Sleep(3 * time.Second)
			assert.Equal(t, 3*time.Second, x.validate(&o.ticket))
			assert.GreaterOrEqual(t, o.ticket.waiting.kind, validated)
			assert.Equal(t, r, o.ticket.class)
			assert.Equal(t, time.Now(), o.ticket.waiting.since, "its patience begins anew")
			time.Sleep(time.Second)
			assert.Zero(t, x.validate(&o.ticket), "it has validated its address before")
			assert.Equal(t, 3*time.Second, o.ticket.validatedAfter)
			x.check(t)
			x.end(&o.ticket)
		}
		at := x.must(t, "10.0.0.1", request{})
		assert.Positive(t, x.validate(&at.ticket), "however fast it was")
		x.end(&at.ticket)
		late := x.must(t, "10.0.0.1", request{})
		x.end(&late.ticket)
		assert.Zero(t, x.validate(&late.ticket))
		assert.Empty(t, x.sources)
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
		"displace": func(x *admissionTest, o *owner) { x.displace(&o.ticket) },
		"restart": func(x *admissionTest, o *owner) {
			x.try("10.0.0.1", request{inSlot: true, namesSession: true, replaces: &o.ticket, start: func() *ticket { return nil }})
		},
		"refused":  func(x *admissionTest, o *owner) { x.classify(&o.ticket, false, func() {}) },
		"known":    func(x *admissionTest, o *owner) { x.classify(&o.ticket, true, func() {}) },
		"validate": func(x *admissionTest, o *owner) { x.validate(&o.ticket) },
		"stop":     func(x *admissionTest, _ *owner) { x.stop() },
	}
	goesOn := map[string]bool{"validate": true, "known": true}
	for first, end := range endings {
		for second, endAgain := range endings {
			synctest.Test(t, func(t *testing.T) {
				x := newAdmissionTest(t, Config{Sessions: 1, Handshakes: 16, HandshakesPerSource: -1})
				others := x.admitMany(t, "10.0.1.0", 14, request{})
				o := x.must(t, "10.0.0.1", request{namesSession: true})
				end(x, o)
				x.check(t)
				displacedN := o.displacedN
				assert.Equal(t, goesOn[first], o.isIn(t), first)
				endAgain(x, o)
				x.check(t)
				if !goesOn[first] {
					assert.False(t, o.isIn(t), "%s, %s", first, second)
					assert.Equal(t, displacedN, o.displacedN, "%s, %s", first, second)
				}
				want := len(others)
				if first == "stop" || second == "stop" {
					want = 0
				}
				assert.Equal(t, want, in(t, others), "%s, %s", first, second)
			})
		}
	}
}

// TestCompleteEndsTicketOnce completes a handshake twice.
func TestCompleteEndsTicketOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newAdmissionTest(t, Config{Sessions: 1, Handshakes: 4})
		a, b := x.must(t, "10.0.0.1", request{}), x.must(t, "10.0.1.1", request{})
		calls := 0
		establish := func() {
			calls++
			x.established.Add(1)
			assert.True(t, a.ticket.ended, "install finds it ended")
		}
		time.Sleep(2 * time.Second)
		assert.Equal(t, 2*time.Second, x.complete(&a.ticket, establish))
		x.check(t)
		assert.False(t, a.isIn(t))
		assert.Zero(t, a.displacedN)
		assert.True(t, b.isIn(t))
		assert.True(t, x.full())
		assert.Zero(t, x.complete(&a.ticket, establish), "the ticket has ended")
		assert.Equal(t, 1, calls, "install is not called again")
		assert.EqualValues(t, 1, x.established.Load())
		assert.Equal(t, 1, x.halfOpen())

		c := x.must(t, "10.0.2.1", request{})
		assert.Positive(t, x.complete(&c.ticket, func() {}), "however fast it was")
	})
}

func TestDisplacedHandshakeDoesNotComplete(t *testing.T) {
	t.Parallel()
	x := newAdmissionTest(t, Config{Handshakes: 1})
	a := x.must(t, "10.0.0.1", request{})
	x.displace(&a.ticket)
	assert.Zero(t, x.complete(&a.ticket, func() { t.Error("install is called") }))
	assert.Equal(t, 1, a.displacedN)
	assert.Equal(t, stopped, x.classify(&a.ticket, true, func() {}))
	x.check(t)
}

func TestStoppedAdmissionAdmitsNobody(t *testing.T) {
	t.Parallel()
	x := newAdmissionTest(t, Config{Handshakes: 16})
	all := []*owner{
		x.must(t, "10.0.0.1", request{}), x.must(t, "10.0.0.2", request{}), x.must(t, "10.0.1.1", request{namesSession: true}),
		x.must(t, "10.0.1.2", request{class: returning}), x.must(t, "10.0.1.3", request{}),
	}
	x.validate(&all[0].ticket)
	x.stop()
	x.stop()
	for _, o := range all {
		assert.Equal(t, 1, o.displacedN)
		assert.False(t, o.isIn(t))
	}
	x.check(t)
	for _, r := range []request{{}, {inSlot: true}, {class: returning}, {namesSession: true}, {replaces: &all[0].ticket}} {
		x.refuses(t, stopped, "10.0.0.1", r)
	}
	assert.Empty(t, x.sources)
	assert.Equal(t, len(all), x.running, "until they have ended entirely")
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
	x := newAdmissionTest(t, Config{Sessions: 2, Handshakes: 1})
	assert.True(t, isClosed(x.waitDrained()), "there was no session")

	x = newAdmissionTest(t, Config{Sessions: 2, Handshakes: 1})
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

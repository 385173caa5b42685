// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

// TestShareHoldsWhileReturningClientsHaveTheOtherPlaces: all places are taken, although
// newcomers have few of them. A network with its share displaces none of another network.
func TestShareHoldsWhileReturningClientsHaveTheOtherPlaces(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newAdmissionTest(t, Config{Handshakes: 16, HandshakesPerSource: 4})
		x.admitMany(t, "10.0.9.0", 9, request{class: returning})
		others := x.admitMany(t, "10.0.1.0", 3, request{})
		flood := x.admitMany(t, "10.0.0.0", 4, request{})
		x.refuses(t, shareTaken, "10.0.0.100", request{})
		time.Sleep(longPatience)
		for range flood {
			x.must(t, "10.0.0.100", request{})
		}
		x.refuses(t, shareTaken, "10.0.0.100", request{})
		assert.Equal(t, 3, in(t, others))
		assert.Zero(t, in(t, flood))
		x.check(t)
	})
}

// TestRestartTakesNoPlaceOfTheReserve: a handshake that waits for its look-up has a place
// of the reserve, and another ClientHello of its address takes that only to look up a
// session, too.
func TestRestartTakesNoPlaceOfTheReserve(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newAdmissionTest(t, Config{Handshakes: 16, HandshakesPerSource: -1})
		x.admitMany(t, "10.0.0.0", 14, request{})
		lookUp := x.must(t, "10.0.1.1", request{namesSession: true})
		x.refuses(t, noRoom, "10.0.1.1", request{inSlot: true, replaces: &lookUp.ticket})
		assert.True(t, lookUp.isIn(t))
		next := x.must(t, "10.0.1.1", request{inSlot: true, namesSession: true, replaces: &lookUp.ticket})
		assert.False(t, lookUp.isIn(t))
		assert.True(t, next.ticket.lookingUp)
		assert.Equal(t, noRoom, x.classify(&next.ticket, false, func() {}))
		x.check(t)

		lookUp = x.must(t, "10.0.1.1", request{namesSession: true})
		time.Sleep(longPatience)
		plain := x.must(t, "10.0.1.1", request{inSlot: true, replaces: &lookUp.ticket})
		assert.Equal(t, newcomer, plain.ticket.class)
		assert.False(t, lookUp.isIn(t))
		assert.Zero(t, x.lookingUp)
		x.check(t)
	})
}

// TestRestartBesideSessionIsReturning: the address has a session, whatever the second
// ClientHello names.
func TestRestartBesideSessionIsReturning(t *testing.T) {
	t.Parallel()
	x := newAdmissionTest(t, Config{Handshakes: 16, HandshakesPerSource: -1})
	x.admitMany(t, "10.0.0.0", 14, request{})
	old := x.must(t, "10.0.1.1", request{inSlot: true, class: returning})
	next := x.must(t, "10.0.1.1", request{inSlot: true, namesSession: true, replaces: &old.ticket})
	assert.Equal(t, admitted, x.classify(&next.ticket, false, func() {}))
	assert.Equal(t, returning, next.ticket.class)
	x.check(t)
}

// TestEndingHandshakesLeaveRoomToReturningClients: newcomers that were displaced take a
// while to end.
func TestEndingHandshakesLeaveRoomToReturningClients(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newAdmissionTest(t, Config{Handshakes: 16, HandshakesPerSource: -1})
		for cause := admitted; cause == admitted; {
			time.Sleep(longPatience)
			_, cause = x.try("10.0.0.1", request{})
			x.check(t)
		}
		x.admitMany(t, "10.0.1.0", 2, request{class: returning})
		x.refuses(t, noRoom, "10.0.1.9", request{class: returning})
		x.check(t)
	})
}

// TestPatienceOfValidatedIsLongest, also with a short HandshakeTimeout.
func TestPatienceOfValidatedIsLongest(t *testing.T) {
	t.Parallel()
	for _, limit := range []time.Duration{time.Millisecond, time.Second, 4 * time.Second, 10 * time.Second, time.Minute, time.Hour} {
		for _, slowest := range []time.Duration{0, time.Second, time.Minute} {
			for _, crowded := range []bool{false, true} {
				p := patience{limit: limit, slowest: slowest, isCrowded: func() bool { return crowded }}
				assert.LessOrEqual(t, p.of(awaitsCookie), p.of(awaitsCookieLong), "%v, %v", limit, slowest)
				assert.LessOrEqual(t, p.of(awaitsCookieLong), p.of(validatedLong), "%v, %v", limit, slowest)
			}
		}
	}
}

// TestPatienceIsLearnedFromFastResumption: the handshake's goroutine can complete an
// abbreviated handshake before the reader of the socket notes that its address is validated.
func TestPatienceIsLearnedFromFastResumption(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newAdmissionTest(t, Config{Handshakes: 16})
		o := x.must(t, "10.0.0.1", request{})
		x.classify(&o.ticket, true, func() {})
		time.Sleep(2 * time.Second)
		x.complete(&o.ticket, func() {})
		assert.Zero(t, x.validate(&o.ticket))
		assert.Equal(t, 2*time.Second, x.patience.slowest)
	})
}

// TestCrowdOfFewHandshakes: without a flight that waits there is no crowd.
func TestCrowdOfFewHandshakes(t *testing.T) {
	t.Parallel()
	for handshakes := 1; handshakes < 6; handshakes++ {
		assert.False(t, newBacklog(handshakes).isCrowded())
	}
}

// TestReturningClientsGiveBackNewcomersPlaces that they have, when they exceed their
// patience. They keep the places that are theirs.
func TestReturningClientsGiveBackNewcomersPlaces(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newAdmissionTest(t, Config{Handshakes: 16, HandshakesPerSource: -1})
		all := x.admitMany(t, "10.0.0.0", 16, request{class: returning})
		for _, o := range all {
			assert.Equal(t, admitted, x.classify(&o.ticket, true, func() {}))
		}
		x.refuses(t, noRoom, "10.0.1.1", request{})
		time.Sleep(DefaultHandshakeTimeout / 2)
		x.admitMany(t, "10.0.1.0", 14, request{})
		assert.Equal(t, 2, in(t, all))
		x.refuses(t, noRoom, "10.0.1.100", request{})
		x.check(t)
	})
}

// TestFewClientsReturnByOneSession: at most maxNamed handshakes in progress, each of which
// is counted once, however it ends. Another session is not affected.
func TestFewClientsReturnByOneSession(t *testing.T) {
	t.Parallel()
	const seen, another = 1, 2
	x := newAdmissionTest(t, Config{Handshakes: 16, HandshakesPerSource: -1})
	for range 2 {
		all := x.admitMany(t, "10.0.0.0", maxNamed+1, request{})
		for n, o := range all {
			assert.Equal(t, n < maxNamed, x.name(&o.ticket, seen), n)
		}
		last := all[maxNamed]
		assert.False(t, x.name(&all[0].ticket, another), "it has named one")
		assert.True(t, x.name(&last.ticket, another))
		ends := []func(*ticket){x.end, x.displace, func(t *ticket) { x.complete(t, func() {}) }}
		for n, end := range ends {
			end(&all[n].ticket)
			assert.False(t, x.name(&all[n].ticket, seen), "it has ended")
			x.end(&all[n].ticket)
			assert.Equal(t, maxNamed-1-n, x.named[seen])
		}
		next := x.admitMany(t, "10.0.1.0", len(ends)+1, request{})
		for n, o := range next {
			assert.Equal(t, n < len(ends), x.name(&o.ticket, seen), n)
		}
		for _, o := range append(all, next...) {
			x.end(&o.ticket)
		}
		assert.Empty(t, x.named)
		x.finishDisplaced()
		x.check(t)
	}
}

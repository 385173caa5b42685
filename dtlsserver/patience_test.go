// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

// TestPatienceOfKinds compares what each kind of handshake waits with what Config says.
func TestPatienceOfKinds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		limit, slowest    time.Duration
		crowded           bool
		usual, slow, long time.Duration
	}{
		"no crowd":               {time.Minute, 0, false, 15 * time.Second, 15 * time.Second, 30 * time.Second},
		"no crowd, fast clients": {time.Minute, time.Millisecond, false, 15 * time.Second, 15 * time.Second, 30 * time.Second},
		"nothing is known":       {time.Minute, 0, true, 3 * time.Second, 15 * time.Second, 30 * time.Second},
		"a quarter longer":       {time.Minute, 4 * time.Second, true, 5 * time.Second, 15 * time.Second, 30 * time.Second},
		"half a second at least": {time.Minute, 400 * time.Millisecond, true, 500 * time.Millisecond, 15 * time.Second, 30 * time.Second},
		"just more than that":    {time.Minute, 404 * time.Millisecond, true, 505 * time.Millisecond, 15 * time.Second, 30 * time.Second},
		"the fastest":            {time.Minute, 1, true, 500 * time.Millisecond, 15 * time.Second, 30 * time.Second},
		"15 s at most":           {time.Minute, time.Minute, true, 15 * time.Second, 15 * time.Second, 30 * time.Second},
		"long HandshakeTimeout":  {time.Hour, 20 * time.Minute, true, 15 * time.Second, 15 * time.Second, 30 * time.Minute},
		"half of its timeout":    {10 * time.Second, 9 * time.Second, true, 5 * time.Second, 5 * time.Second, 5 * time.Second},
		"short HandshakeTimeout": {2 * time.Second, 0, true, time.Second, time.Second, time.Second},
	} {
		p := patience{limit: c.limit, slowest: c.slowest, isCrowded: func() bool { return c.crowded }}
		assert.Equal(t, c.usual, p.of(awaitsCookie), name)
		assert.Equal(t, c.slow, p.of(awaitsCookieLong), name)
		assert.Equal(t, c.long, p.of(validatedLong), name)
	}
}

// TestPatienceIsLearnedFromSlowestClient: faster clients lower it step by step.
func TestPatienceIsLearnedFromSlowestClient(t *testing.T) {
	t.Parallel()
	p := patience{limit: time.Minute, isCrowded: func() bool { return true }}
	p.learn(2*time.Second, 0)
	assert.Equal(t, 2500*time.Millisecond, p.of(awaitsCookie), "the first one counts as it is")
	p.learn(8*time.Second, 0)
	assert.Equal(t, 10*time.Second, p.of(awaitsCookie), "and so does a slower one")
	p.learn(0, 0)
	assert.Equal(t, 7500*time.Millisecond, p.slowest, "a faster one lowers it by a sixteenth of the difference")
	p.learn(7500*time.Millisecond, 0)
	assert.Equal(t, 7500*time.Millisecond, p.slowest)
	last := p.slowest
	for range 100 {
		p.learn(time.Second, 0)
		assert.LessOrEqual(t, p.slowest, last)
		assert.GreaterOrEqual(t, p.slowest, time.Second)
		last = p.slowest
	}
	assert.InDelta(t, time.Second, p.slowest, float64(20*time.Millisecond))
	// One slow client in twenty keeps the patience long enough for it.
	for n := range 400 {
		took := 100 * time.Millisecond
		if n%20 == 0 {
			took = 6 * time.Second
		}
		p.learn(took, 0)
		assert.GreaterOrEqual(t, p.slowest, 1500*time.Millisecond)
	}
}

// TestPatienceIsLearnedFromThoseThatGetIn: who only returns a cookie has no say.
func TestPatienceIsLearnedFromThoseThatGetIn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newAdmissionTest(t, Config{Handshakes: 16})
		x.crowded = true
		for _, end := range []func(*owner){
			func(o *owner) { x.end(&o.ticket) },
			func(o *owner) { x.displace(&o.ticket) },
			func(o *owner) { x.end(&o.ticket); x.complete(&o.ticket, func() {}) },
			func(o *owner) {
				x.try("10.0.0.1", request{inSlot: true, replaces: &o.ticket, start: func() *ticket { return nil }})
			},
		} {
			o := x.must(t, "10.0.0.1", request{})
			time.Sleep(10 * time.Second)
			x.validate(&o.ticket)
			end(o)
			assert.Zero(t, x.patience.slowest)
			x.finishDisplaced()
		}
		o := x.must(t, "10.0.0.1", request{})
		time.Sleep(2 * time.Second)
		x.validate(&o.ticket)
		assert.Zero(t, x.patience.slowest)
		time.Sleep(20 * time.Second)
		x.complete(&o.ticket, func() {})
		assert.Equal(t, 2*time.Second, x.patience.slowest, "until its address was validated, not until its session is established")
		x.complete(&o.ticket, func() {})
		assert.Equal(t, 2*time.Second, x.patience.slowest)
	})
}

// TestPatienceOfSlowPart: one handshake in eight waits for longPatience, whatever the
// others have.
func TestPatienceOfSlowPart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newAdmissionTest(t, Config{Handshakes: 16, HandshakesPerSource: -1})
		x.crowded = true
		all := x.admitMany(t, "10.0.0.0", 14, request{})
		assert.Equal(t, 2, x.queues[newcomer][awaitsCookieLong].Len())
		x.check(t)
		time.Sleep(firstPatience)
		x.admitMany(t, "10.0.1.0", 12, request{})
		assert.Equal(t, 2, in(t, all), "the slow ones have their places still")
		assert.True(t, all[0].isIn(t) && all[1].isIn(t))
		x.refuses(t, noRoom, "10.0.2.1", request{})
		x.check(t)

		// When one of them has validated its address the next handshake is slow.
		x.validate(&all[0].ticket)
		assert.Equal(t, 1, x.queues[newcomer][awaitsCookieLong].Len())
		time.Sleep(firstPatience)
		next := x.must(t, "10.0.2.1", request{})
		assert.Equal(t, awaitsCookieLong, next.ticket.waiting.kind)
		x.check(t)
		time.Sleep(longPatience)
		last := x.must(t, "10.0.3.1", request{})
		assert.False(t, all[1].isIn(t))
		assert.Equal(t, awaitsCookieLong, last.ticket.waiting.kind, "it has the place of a slow one")
		assert.True(t, all[0].isIn(t))
		x.check(t)
	})
}

// TestPatienceOfCrowd: the patience is shortened while many first flights wait.
func TestPatienceOfCrowd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newAdmissionTest(t, Config{Handshakes: 7, HandshakesPerSource: -1})
		all := x.admitMany(t, "10.0.0.0", 7, request{})
		time.Sleep(firstPatience)
		x.refuses(t, noRoom, "10.0.1.1", request{})
		x.crowded = true
		x.must(t, "10.0.1.1", request{})
		assert.False(t, all[0].isIn(t))
		x.crowded = false
		x.refuses(t, noRoom, "10.0.1.2", request{})
		x.check(t)
	})
}

// TestOldestOverdueHandshakeIsDisplacedFirst: those that wait for their cookie go first,
// oldest first. One that has validated its address goes when there is no other.
func TestOldestOverdueHandshakeIsDisplacedFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newAdmissionTest(t, Config{Handshakes: 8, HandshakesPerSource: -1})
		all := x.admitMany(t, "10.0.0.0", 7, request{})
		assert.Equal(t, awaitsCookieLong, all[0].ticket.waiting.kind)
		assert.Equal(t, awaitsCookie, all[1].ticket.waiting.kind)
		x.validate(&all[1].ticket)
		x.validate(&all[3].ticket)
		time.Sleep(time.Hour)
		for n, want := range []int{0, 2, 4, 5, 6, 1, 3} {
			x.must(t, "10.0.1.1", request{})
			assert.Equal(t, len(all)-1-n, in(t, all), "one goes for one")
			assert.False(t, all[want].isIn(t), "the oldest")
			assert.Equal(t, 1, all[want].displacedN)
			x.check(t)
		}
		x.refuses(t, noRoom, "10.0.1.1", request{})
	})
}

// TestNobodyIsDisplacedBeforeItsPatience checks the moment for each kind, with one place.
func TestNobodyIsDisplacedBeforeItsPatience(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		prepare  func(x *admissionTest)
		then     func(x *admissionTest, o *owner)
		patience time.Duration
	}{
		"no crowd":                 {nil, nil, longPatience},
		"a crowd":                  {func(x *admissionTest) { x.crowded = true }, nil, firstPatience},
		"slow":                     {func(x *admissionTest) { x.crowded, x.patient = true, 1 }, nil, longPatience},
		"learned":                  {func(x *admissionTest) { x.crowded = true; x.patience.learn(4*time.Second, 0) }, nil, 5 * time.Second},
		"validated":                {nil, func(x *admissionTest, o *owner) { x.validate(&o.ticket) }, DefaultHandshakeTimeout / 2},
		"validated, a crowd":       {func(x *admissionTest) { x.crowded = true }, func(x *admissionTest, o *owner) { x.validate(&o.ticket) }, minCompletion},
		"validated, learned":       {func(x *admissionTest) { x.crowded = true; x.patience.learn(0, 3*time.Second) }, func(x *admissionTest, o *owner) { x.validate(&o.ticket) }, 6 * time.Second},
		"validated, a crowd, slow": {func(x *admissionTest) { x.crowded, x.patient = true, 1 }, func(x *admissionTest, o *owner) { x.validate(&o.ticket) }, DefaultHandshakeTimeout / 2},
		"settling":                 {func(x *admissionTest) { x.crowded = true; x.patience.began = time.Now() }, nil, longPatience},
		"settling, validated":      {func(x *admissionTest) { x.crowded = true; x.patience.began = time.Now().Add(time.Hour) }, func(x *admissionTest, o *owner) { x.validate(&o.ticket) }, DefaultHandshakeTimeout / 2},
		"settled": {func(x *admissionTest) {
			x.crowded = true
			x.patience.began = time.Now()
			x.patience.learn(4*time.Second, 0)
		}, nil, 5 * time.Second},
		"known": {nil, func(x *admissionTest, o *owner) { x.classify(&o.ticket, true, func() {}) }, DefaultHandshakeTimeout / 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			x := newAdmissionTest(t, Config{Handshakes: 1})
			if c.prepare != nil {
				c.prepare(x)
			}
			o := x.must(t, "10.0.0.1", request{})
			time.Sleep(time.Second)
			since := o.ticket.started
			if c.then != nil {
				c.then(x, o)
				since = time.Now()
			}
			r := request{class: o.ticket.class}
			time.Sleep(time.Until(since.Add(c.patience - 1)))
			x.refuses(t, noRoom, "10.0.2.1", r)
			assert.True(t, o.isIn(t), name)
			time.Sleep(time.Nanosecond)
			x.must(t, "10.0.2.1", r)
			assert.Equal(t, 1, o.displacedN, name)
			assert.False(t, o.isIn(t), name)
			x.check(t)
		})
	}
}

// SPDX-License-Identifier: MIT

package handshake

import "time"

// Bounds of repetitions (RFC 6347 section 4.2.4.1).
const (
	// DefaultInterval is the time until a flight is repeated for the first time. Each
	// further time is twice as long, and at most maxInterval.
	// It is longer than a client's first time of 1 s, so that the client's repetition comes
	// first. A client over GnuTLS would otherwise wait for a further interval.
	DefaultInterval = 1500 * time.Millisecond
	maxInterval     = time.Minute
	// minInterval is the time between two repetitions that the client asks for by
	// repeating its own flight: anybody who has seen it can do that.
	minInterval = 100 * time.Millisecond
	// minCookieInterval is the same for a HelloVerifyRequest, at first. Each further time is
	// twice as long, as a client's timer is. A stranger who repeats a ClientHello in a
	// client's name would otherwise fill the network with cookies that the client takes for
	// its own.
	minCookieInterval = 500 * time.Millisecond
)

// repetition is when the current flight is sent again. The gate's lock guards it.
type repetition struct {
	timer     *time.Timer   // nil until there is something to repeat
	interval  time.Duration // until the next repetition; 0: only the client's word repeats the flight
	least     time.Duration // between two repetitions
	last      time.Time     // when the flight was sent last
	requested bool          // the client has repeated its own flight
}

// start begins with a flight that was just sent. If interval is 0 it is repeated only at
// the client's word, and each time least is twice as long.
func (r *repetition) start(interval, least time.Duration, repeat func()) {
	r.interval, r.least, r.last, r.requested = interval, least, time.Now(), false
	r.schedule(interval, repeat)
}

func (r *repetition) schedule(in time.Duration, repeat func()) {
	switch {
	case in == 0:
		r.stop()
	case r.timer == nil:
		r.timer = time.AfterFunc(in, repeat)
	default:
		r.timer.Reset(in)
	}
}

// request repeats the flight at once, in another goroutine.
func (r *repetition) request(repeat func()) {
	if r.requested || time.Since(r.last) < r.least {
		return
	}
	r.requested = true
	r.schedule(time.Nanosecond, repeat)
}

// next is called when the flight is repeated. It reports whether the timer was due, and
// not the client's word.
func (r *repetition) next(repeat func()) (due bool) {
	due = !r.requested
	if due {
		r.interval = min(2*r.interval, maxInterval)
	} else if r.interval == 0 {
		r.least = min(2*r.least, maxInterval)
	}
	r.requested, r.last = false, time.Now()
	r.schedule(r.interval, repeat)
	return due
}

func (r *repetition) stop() {
	if r.timer != nil {
		r.timer.Stop()
	}
}

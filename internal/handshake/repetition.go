// SPDX-License-Identifier: MIT

package handshake

import "time"

// Bounds of repetitions (RFC 6347 section 4.2.4.1).
const (
	// DefaultInterval is the time until a flight is repeated for the first time. Each
	// further time is twice as long, and at most maxInterval.
	DefaultInterval = time.Second
	maxInterval     = time.Minute
	// minInterval is the time between two repetitions that the client asks for by
	// repeating its own flight: anybody who has seen it can do that.
	minInterval = 100 * time.Millisecond
)

// repetition is when the current flight is sent again. The gate's lock guards it.
type repetition struct {
	timer     *time.Timer   // nil until there is something to repeat
	interval  time.Duration // until the next repetition; 0: only the client's word repeats the flight
	last      time.Time     // when the flight was sent last
	requested bool          // the client has repeated its own flight
}

// start begins with a flight that was just sent.
func (r *repetition) start(interval time.Duration, repeat func()) {
	r.interval, r.last, r.requested = interval, time.Now(), false
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
	if r.requested || time.Since(r.last) < minInterval {
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

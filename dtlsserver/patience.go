// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"math/rand/v2"
	"time"
)

// patience says how long a handshake keeps its place while others need places. Without
// that need every handshake has Config.HandshakeTimeout. The package's documentation has
// the rules.
//
// When a crowd waits in the backlog the times follow from those of the slowest clients that
// have got in lately. Only a client that has completed its handshake counts: a stranger has
// no influence on the times of others. A flood of real hosts can return its cookies, so the
// time after that is shortened too. Networks and devices differ, so in a part of the places
// a handshake keeps the longer time. While no client can have got in yet all handshakes
// keep it: after a power cut the clients come as soon as the server does.
type patience struct {
	// Set in admission.init, never changed.
	limit     time.Duration // Config.HandshakeTimeout
	isCrowded func() bool   // reports whether many first flights wait in the backlog
	began     time.Time     // when the listener was started

	// Maxima that decay; 0: no client has got in yet.
	slowest           time.Duration // of the times until the address was validated
	slowestCompletion time.Duration // of the times from then to the end of a handshake
	// next is when the next handshake of a kind may be displaced. The first ones of a flood
	// come together, and exceed their patience together. If all were displaced together,
	// their places would go to those that come at that moment, and so on. A client that comes
	// at another moment would have no chance.
	next [numPatienceKinds]time.Time
}

// learn is told how long a client that has completed its handshake took to validate its
// address, and how long to complete the handshake after that.
func (p *patience) learn(validation, completion time.Duration) {
	p.slowest = decayingMaximum(p.slowest, validation)
	p.slowestCompletion = decayingMaximum(p.slowestCompletion, completion)
}

func decayingMaximum(before, sample time.Duration) time.Duration {
	return max(sample, before-(before-sample)/patienceDecay)
}

// of returns the patience of a kind.
func (p *patience) of(kind patienceKind) time.Duration {
	settling := p.slowest == 0 && time.Since(p.began) < settlingTime
	switch {
	case kind == validatedLong || kind == validated && (settling || !p.isCrowded()):
		return p.limit / 2
	case kind == validated:
		return min(max(2*p.slowest, 2*p.slowestCompletion, minCompletion), p.limit/2)
	case kind == awaitsCookieLong || settling || !p.isCrowded():
		return min(longPatience, p.limit/2)
	case p.slowest == 0:
		return min(firstPatience, p.limit/2)
	default:
		return min(max(p.slowest+p.slowest/4, minPatience), longPatience, p.limit/2)
	}
}

// exceeded returns the handshake to displace: the one that has waited longest for its
// cookie, of those that have exceeded their patience, or if there is none the one that has
// been silent longest. It returns nil if none has exceeded its patience.
func (p *patience) exceeded(q *queues, now time.Time) *ticket {
	var oldest *ticket
	for kind := range q {
		front := q[kind].Front()
		if front == nil || patienceKind(kind) >= validated && oldest != nil {
			continue
		}
		t := front.Value.(*ticket)
		if now.Before(p.next[kind]) || now.Sub(t.waiting.since) < p.of(patienceKind(kind)) {
			continue
		}
		if oldest == nil || t.waiting.since.Before(oldest.waiting.since) {
			oldest = t
		}
	}
	return oldest
}

// pace is called when a handshake of a kind is displaced, of which there are count.
func (p *patience) pace(kind patienceKind, count int, now time.Time) {
	if kind == validatedLong || count < paceFrom {
		return
	}
	all := p.of(kind)
	gap := float64(all) / float64(count) * (0.4 + rand.Float64()) // no client's timer keeps step with it
	p.next[kind] = later(p.next[kind], now.Add(-all/paceCredit)).Add(time.Duration(gap))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

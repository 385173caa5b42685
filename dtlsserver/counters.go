// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/go-dsm/dsm/internal/handshake"
)

// counters are what Stats counts.
type counters struct {
	// The sums of Stats hold because these three are raised with the admission's lock held, and
	// each of them before what follows it: a handshake's result, or a session's end.
	started, restored atomic.Uint64
	words             [numWords]atomic.Uint64 // resultCompleted is the third
	ended             [numReasons]atomic.Uint64

	resumed, notResumed                   atomic.Uint64
	toldToRestart                         atomic.Uint64
	helloVerifyRequests, foreignCookies   atomic.Uint64
	addressChanges, addressChangesRefused atomic.Uint64
	addressLimited, routabilityChecks     atomic.Uint64
	roundTrips, handshakeTimes            histogram
	sessionAges, sessionIdles             histogram
}

func (c *counters) init() {
	c.sessionAges.bounds, c.sessionIdles.bounds = &sessionBounds, &sessionBounds
}

func (c *counters) add(w word) { c.words[w].Add(1) }

// loadSums sets what has a part in the sums of Stats. The admission's lock is held, so no
// handshake begins and no session is established meanwhile. Some end: HalfOpen and Established
// count those whose end was not counted when it was read.
func (c *counters) loadSums(s *Stats) {
	s.Started, s.Restored = c.started.Load(), c.restored.Load()
	halfOpen := s.Started
	for w := range c.words {
		n := c.words[w].Load()
		*words[w].in(s) = n
		if words[w].kind == HandshakeResult {
			halfOpen -= n
		}
	}
	established := s.Completed + s.Restored
	for why := ClosedByUs; why < numReasons; why++ {
		n := c.ended[why].Load()
		*ends[why].in(s) = n
		established -= n
	}
	s.HalfOpen, s.Established = int(halfOpen), int(established)
}

// dropWords has the word for each verdict for which a record is dropped.
var dropWords = map[handshake.Verdict]word{
	handshake.Unexpected: recordPlaintext, handshake.AnotherHello: recordPlaintext, handshake.ForeignCookie: recordPlaintext,
	handshake.Replayed: recordReplayed, handshake.WrongEpoch: recordEpoch, handshake.NotAuthentic: recordForged,
	handshake.NoSpace: recordQueueFull, handshake.Malformed: recordMalformed,
	handshake.WrongKey: recordWrongKey, handshake.WrongFinished: recordWrongFinished,
}

// countVerdict counts a record of a peer by the verdict for which it was dropped, if it was.
// Locks may be held.
func (l *Listener) countVerdict(peer netip.AddrPort, verdict handshake.Verdict) {
	if verdict == handshake.Accepted {
		return
	}
	if w, ok := dropWords[verdict]; ok {
		l.countDrop(peer, w)
	}
}

// countDrop counts a record or a datagram of a peer that was dropped. Locks may be held.
func (l *Listener) countDrop(peer netip.AddrPort, w word) {
	l.counters.add(w)
	if l.events.debug.Load() {
		l.events.note(event{what: w.event(), level: slog.LevelDebug, text: "record dropped", peer: peer}, time.Now())
	}
}

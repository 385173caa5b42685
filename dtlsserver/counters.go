// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"sync/atomic"

	"github.com/go-dsm/dsm/internal/handshake"
)

// counters are what Stats counts outside of any lock.
type counters struct {
	started, completed, failed, timedOut, displaced atomic.Uint64
	resumed, notResumed                             atomic.Uint64
	unknownPSKIdentity                              atomic.Uint64
	restored                                        atomic.Uint64
	ended                                           [numReasons]atomic.Uint64 // by Reason
	noRoom, sourceShare, addressShare, sessionsFull atomic.Uint64
	toldToRestart, stray                            atomic.Uint64
	helloVerifyRequests, foreignCookies             atomic.Uint64
	addressChanges, addressChangesRefused           atomic.Uint64
	addressLimited, routabilityChecks               atomic.Uint64
	roundTrips, handshakeTimes                      histogram
	malformed, plaintext, epoch, replayed           atomic.Uint64
	forged, queueFull, ignored                      atomic.Uint64
	wrongKey, wrongFinished                         atomic.Uint64
}

// countDropped counts a record by the verdict for which it was dropped, if it was.
func (c *counters) countDropped(verdict handshake.Verdict) {
	switch verdict {
	case handshake.Unexpected, handshake.AnotherHello, handshake.ForeignCookie:
		c.plaintext.Add(1)
	case handshake.Replayed:
		c.replayed.Add(1)
	case handshake.WrongEpoch:
		c.epoch.Add(1)
	case handshake.NotAuthentic:
		c.forged.Add(1)
	case handshake.NoSpace:
		c.queueFull.Add(1)
	case handshake.Malformed:
		c.malformed.Add(1)
	case handshake.WrongKey:
		c.wrongKey.Add(1)
	case handshake.WrongFinished:
		c.wrongFinished.Add(1)
	}
}

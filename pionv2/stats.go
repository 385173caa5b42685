// SPDX-License-Identifier: MIT

package pionv2

import "sync/atomic"

// Stats are a Listener's counts. All but the first two only ever grow.
type Stats struct {
	Established int // sessions now
	HalfOpen    int // handshakes now, those beside an established session included

	// Handshakes. Started = HalfOpen + Completed + Failed + TimedOut + Displaced.
	Started   uint64
	Completed uint64
	Failed    uint64 // the client, pion or the takeover gave up
	TimedOut  uint64
	Resumed   uint64 // of Completed, by abbreviated handshakes
	Displaced uint64 // had to go for another one: a later one under pressure, or the same client's next

	// Sessions, by how they ended. Completed = Established + the sum of these.
	Evicted      uint64 // for a newcomer, or for MinAvailable
	Expired      uint64 // IdleTimeout
	Replaced     uint64 // by the same peer's next session
	ClosedByPeer uint64 // close_notify, or a fatal alert
	ClosedByUs   uint64 // Conn.Close, Listener.Close; or no sequence number was left
	Refused      uint64 // completed where there was no room any more, or Accept's queue was full

	// ClientHellos that named a session of Config.Resumption, and were taken for a
	// full handshake: the policy, the suite or the certificates stood against it.
	NotResumed uint64

	// ClientHellos that got no handshake.
	NoRoom      uint64 // no slot, or as many half-open as may be, and none of them to displace
	SourceShare uint64 // HandshakesPerSource
	Stray       uint64 // of unknown peers: not one whole ClientHello, and so nothing to begin with

	// Records that were dropped.
	Malformed uint64 // by their header; or a datagram that was too long
	Plaintext uint64 // epoch 0, at an established session or not what a handshake wants now
	Epoch     uint64 // of a later epoch that is not the session's, or when it was just over
	Replayed  uint64 // seen before, or older than the replay window
	Forged    uint64 // the MAC did not hold
	QueueFull uint64 // a session's queue, or that of records for its handshake
	Ignored   uint64 // authentic, and nothing that we act upon
}

// counters are those of Stats that are counted outside of the listener's lock.
type counters struct {
	noRoom, sourceShare, stray                                        atomic.Uint64
	malformed, plaintext, epoch, replayed, forged, queueFull, ignored atomic.Uint64
	evicted, expired, replaced, closedByPeer, closedByUs, refused     atomic.Uint64
	started, completed, failed, timedOut, displaced                   atomic.Uint64
	resumed, notResumed                                               atomic.Uint64
}

// Stats returns the counts. They are read one after the other: while the listener
// runs, sums can be off by what is under way.
func (l *Listener) Stats() Stats {
	l.mu.Lock()
	established, halfOpen := l.established, l.halfOpen.Len()
	l.mu.Unlock()
	c := &l.counters
	return Stats{
		Established: established, HalfOpen: halfOpen,
		Started: c.started.Load(), Completed: c.completed.Load(), Failed: c.failed.Load(),
		TimedOut: c.timedOut.Load(), Displaced: c.displaced.Load(),
		Resumed: c.resumed.Load(), NotResumed: c.notResumed.Load(),
		Evicted: c.evicted.Load(), Expired: c.expired.Load(), Replaced: c.replaced.Load(),
		ClosedByPeer: c.closedByPeer.Load(), ClosedByUs: c.closedByUs.Load(), Refused: c.refused.Load(),
		NoRoom: c.noRoom.Load(), SourceShare: c.sourceShare.Load(), Stray: c.stray.Load(),
		Malformed: c.malformed.Load(), Plaintext: c.plaintext.Load(), Epoch: c.epoch.Load(),
		Replayed: c.replayed.Load(), Forged: c.forged.Load(), QueueFull: c.queueFull.Load(), Ignored: c.ignored.Load(),
	}
}

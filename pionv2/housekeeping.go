// SPDX-License-Identifier: MIT

package pionv2

import (
	"time"
)

// housekeep does what goes by the clock.
func (l *Listener) housekeep() {
	every := restAfter / 2
	if l.config.IdleTimeout > 0 || l.config.MinAvailable > 0 {
		every = min(every, time.Second)
	}
	if l.config.IdleTimeout > 0 {
		every = min(every, max(l.config.IdleTimeout/4, time.Millisecond))
	}
	if l.config.MinAvailable > 0 {
		every = min(every, max(l.config.MinAvailableAfter/4, time.Millisecond))
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	var scarce time.Time // since when too few sessions are free; zero: enough are
	for {
		select {
		case <-l.done:
			return
		case now := <-ticker.C:
			l.rest(now)
			l.expire(now)
			scarce = l.keepAvailable(now, scarce)
		}
	}
}

// addBusy notes a session whose records have ciphers.
func (l *Listener) addBusy(c *Conn) {
	l.busyMu.Lock()
	l.busy = append(l.busy, c)
	l.busyMu.Unlock()
}

// bury counts a session that is over among the busy ones, which hold on to it, and
// lets go of them when they are many.
func (l *Listener) bury() {
	const many = 64
	l.busyMu.Lock()
	l.dead++
	sweep := l.dead >= many && 2*l.dead >= len(l.busy)
	l.busyMu.Unlock()
	if sweep {
		l.rest(time.Now())
	}
}

// rest drops the ciphers of sessions that have been silent for a while.
func (l *Listener) rest(now time.Time) {
	l.busyMu.Lock()
	busy := l.busy
	l.busy, l.dead = nil, 0
	l.busyMu.Unlock()
	still := busy[:0]
	for _, c := range busy {
		if !c.rest(now) {
			still = append(still, c)
		}
	}
	clear(busy[len(still):])
	l.busyMu.Lock()
	l.busy = append(l.busy, still...)
	l.busyMu.Unlock()
}

// rest drops what an idle session does without, and says whether it did.
func (c *Conn) rest(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended == 0 && c.idleLocked(now) < restAfter {
		return false
	}
	c.busy = false
	c.records.ReleaseCiphers()
	if box := c.inbox; box != nil && len(box.datagrams) == 0 && box.readers == 0 && box.readDeadline == nil && box.writeDeadline.IsZero() {
		c.inbox = nil
	}
	return true
}

// idleLocked is for how long the session was not used.
func (c *Conn) idleLocked(now time.Time) time.Duration {
	return now.Sub(c.peer.listener.began) - c.lastUsed
}

func (c *Conn) idle(now time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.idleLocked(now)
}

// expire ends the sessions that were idle for too long. They are the first in the
// order of use.
func (l *Listener) expire(now time.Time) {
	if l.config.IdleTimeout == 0 {
		return
	}
	for {
		session, ok := l.table.LRU(l.sock)
		if !ok {
			return
		}
		c := session.Value.Conn()
		if c == nil {
			return // just ended
		}
		if c.idle(now) < l.config.IdleTimeout {
			return
		}
		l.end(c, Expired)
	}
}

// keepAvailable is RIOT's gcoap's way: when fewer than MinAvailable sessions have
// been free for MinAvailableAfter, it evicts as many as are missing.
func (l *Listener) keepAvailable(now, scarce time.Time) time.Time {
	if l.config.MinAvailable == 0 || l.missing() <= 0 {
		return time.Time{}
	}
	if scarce.IsZero() {
		return now
	}
	if now.Sub(scarce) < l.config.MinAvailableAfter {
		return scarce
	}
	for range l.missing() {
		l.mu.Lock()
		after := func() {}
		if session, ok := l.table.LRU(l.sock); ok && l.missingLocked() > 0 {
			if c := session.Value.Conn(); c != nil {
				after = l.endLocked(c, Evicted)
			}
		}
		l.mu.Unlock()
		after()
	}
	return time.Time{}
}

func (l *Listener) missing() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.missingLocked()
}

// missingLocked is how many sessions more should be free.
func (l *Listener) missingLocked() int {
	return l.config.MinAvailable - (l.config.Sessions - l.established)
}

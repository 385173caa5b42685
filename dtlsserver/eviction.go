// SPDX-License-Identifier: MIT

package dtlsserver

import "time"

// evictionCandidate returns the session that Config.WhenFull gives up for a newcomer,
// or nil.
func (l *Listener) evictionCandidate() *Conn {
	if l.config.WhenFull == RefuseNewcomer {
		return nil
	}
	c := l.leastRecentlyUsed()
	if c != nil && l.config.StaleAfter > 0 && c.idle(time.Now()) <= l.config.StaleAfter {
		return nil
	}
	return c
}

// leastRecentlyUsed returns the established session whose last use is oldest, or nil.
func (l *Listener) leastRecentlyUsed() *Conn {
	for {
		session, ok := l.table.LRU(l.sock)
		if !ok {
			return nil
		}
		if c := session.Value.session(); c != nil {
			return c
		}
		// It has ended since, and is in the table no more.
	}
}

// keepAvailable evicts sessions when fewer than Config.MinAvailable have been free for
// MinAvailableAfter, as RIOT's gcoap does. scarceSince is when that began; the zero
// time means that enough are free. It returns the new scarceSince.
func (l *Listener) keepAvailable(now, scarceSince time.Time) time.Time {
	switch {
	case l.config.MinAvailable == 0 || l.missing() <= 0:
		return time.Time{}
	case scarceSince.IsZero():
		return now
	case now.Sub(scarceSince) < l.config.MinAvailableAfter:
		return scarceSince
	}
	for range l.missing() {
		if c := l.leastRecentlyUsed(); c != nil && l.missing() > 0 {
			l.endUnlessFrozen(c, Evicted)
		}
	}
	return time.Time{}
}

// missing returns how many sessions more should be free.
func (l *Listener) missing() int {
	return l.config.MinAvailable - (l.config.Sessions - int(l.admission.established.Load()))
}

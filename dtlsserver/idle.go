// SPDX-License-Identifier: MIT

package dtlsserver

import "time"

// expire ends the sessions that were idle for Config.IdleTimeout. They are the first in
// the order of use.
func (l *Listener) expire(now time.Time) {
	if l.config.IdleTimeout == 0 {
		return
	}
	for {
		c := l.leastRecentlyUsed()
		if c == nil || c.idle(now) < l.config.IdleTimeout || !l.endUnlessFrozen(c, Expired) {
			return
		}
	}
}

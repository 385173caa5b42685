// SPDX-License-Identifier: MIT

package dtlsserver

import "time"

// tick is the interval of the work that goes by the clock: what a configuration needs
// to keep its times within a quarter.
func (c *Config) tick() time.Duration {
	every := sweepInterval
	if c.IdleTimeout > 0 {
		every = min(every, time.Second, max(c.IdleTimeout/4, time.Millisecond))
	}
	if c.MinAvailable > 0 {
		every = min(every, time.Second, max(c.MinAvailableAfter/4, time.Millisecond))
	}
	return every
}

// runClock does what goes by the clock, until the listener is closed.
func (l *Listener) runClock() {
	ticker := time.NewTicker(l.config.tick())
	defer ticker.Stop()
	sweep := time.NewTimer(sweepInterval)
	defer sweep.Stop()
	var scarceSince time.Time
	for {
		select {
		case <-l.life.done:
			return
		case now := <-sweep.C:
			sweep.Reset(l.sweeper.step(now))
		case now := <-ticker.C:
			l.warm.sweep(now)
			l.expire(now)
			scarceSince = l.keepAvailable(now, scarceSince)
		}
	}
}

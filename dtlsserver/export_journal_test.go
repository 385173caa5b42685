// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"github.com/go-dsm/dsm/internal/durable"
	"github.com/go-dsm/dsm/internal/record"
)

// SetDisk has the listener write its files to another file system, and go on at a distance
// of the test's choice after a crash.
func SetDisk(config *Config, disk durable.FS, distance func() uint64) {
	config.disk, config.distance = disk, distance
}

// Crash ends the listener as the end of its process would: nothing is sent, and the journal
// stays as it is.
func (l *Listener) Crash() {
	l.life.close()
	if k := l.journal; k != nil {
		close(k.stop)
		<-k.stopped
		_ = k.log.Close(false)
	}
	l.admission.stop()
	for c := l.leastRecentlyUsed(); c != nil; c = l.leastRecentlyUsed() {
		e := l.beginDetach(c)
		e.announced = false
		l.finishEnd(e)
	}
	_ = l.shut()
}

// NextSequence returns the sequence number of the session's next record.
func (c *Conn) NextSequence() uint64 {
	c.peer.mu.Lock()
	defer c.peer.mu.Unlock()
	return c.records.NextSequence()
}

// Secrets returns what a test needs to recognize the session's records.
func (c *Conn) Secrets() record.Config {
	c.peer.mu.Lock()
	defer c.peer.mu.Unlock()
	return c.records.Config()
}

// JumpBelowCeiling makes the session as if it had sealed records until so many numbers are
// left below its ceiling. A session without a ceiling has as many left below the first or
// second multiple of 2^24.
func (c *Conn) JumpBelowCeiling(left, multiple uint64) {
	c.peer.mu.Lock()
	defer c.peer.mu.Unlock()
	ceiling := record.FirstAfter(c.records.Reserved())
	if !isJournalled(c) {
		ceiling = record.FirstAfter(c.records.UnitsFor(0)) + multiple*reservation
	}
	if next := ceiling - left; c.ended == 0 && !c.records.IsFrozen() && next > c.records.NextSequence() {
		c.records.SetNextSequence(next)
	}
}

// WithoutCeiling calls f while the session has no ceiling: a mutant.
func (c *Conn) WithoutCeiling(f func()) {
	c.peer.mu.Lock()
	units := c.records.Reserved()
	c.records.Reserve(record.Unlimited)
	c.peer.mu.Unlock()
	f()
	c.peer.mu.Lock()
	defer c.peer.mu.Unlock()
	c.records.Reserve(units)
}

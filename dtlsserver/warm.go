// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"time"

	"github.com/go-dsm/dsm/internal/lockorder"
)

// releaser says who releases the ciphers of a session.
type releaser uint8

const (
	noReleaser releaser = iota // there are no ciphers
	byRing                     // Listener.warm
	bySweeper                  // Listener.sweeper
)

// warmSessions holds the sessions whose ciphers were built by a record that did not open.
// Anybody can send such records. They are not use, so the session stays idle. But without
// its ciphers each further one would derive the keys again, which takes a hundred times as
// long as to reject a record. The ring bounds the memory of the ciphers: the session that
// has been in it for longest makes room for the next one.
type warmSessions struct {
	mu lockorder.Mutex[lockorder.Leaf]
	// mu guards the following.
	ring [maxWarm]warmSession
	next int // the place that is taken next
}

// warmSession is a place of the ring. It is free if conn is nil.
type warmSession struct {
	conn  *Conn
	since time.Time
}

// add puts a session into the ring, and returns the session that was in its place, or nil.
// The caller cools that one after it has unlocked the peer of c.
func (w *warmSessions) add(c *Conn, now time.Time) *Conn {
	w.mu.Lock()
	defer w.mu.Unlock()
	displaced := w.ring[w.next].conn
	w.ring[w.next] = warmSession{c, now}
	w.next = (w.next + 1) % len(w.ring)
	return displaced
}

// remove takes a session out of the ring, if it is in it.
func (w *warmSessions) remove(c *Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.ring {
		if w.ring[i].conn == c {
			w.ring[i] = warmSession{}
			return
		}
	}
}

// sweep releases the ciphers of the sessions that have been in the ring for releaseAfter,
// also of those that still receive forged records.
func (w *warmSessions) sweep(now time.Time) {
	var old [maxWarm]*Conn
	w.mu.Lock()
	for i, s := range w.ring {
		if s.conn != nil && now.Sub(s.since) >= releaseAfter {
			old[i], w.ring[i] = s.conn, warmSession{}
		}
	}
	w.mu.Unlock()
	for _, c := range old {
		if c != nil {
			c.cool()
		}
	}
}

// warmLocked keeps the ciphers that a record which did not open has built. It returns the
// session that is to be cooled for it after unlock, or nil.
func (c *Conn) warmLocked(now time.Time) (displaced *Conn) {
	if c.releaser != noReleaser || !c.records.HasCiphers() {
		return nil
	}
	c.releaser = byRing
	return c.peer.listener.warm.add(c, now)
}

// leaveWarmLocked takes a session out of the ring: it is used, or has ended.
func (c *Conn) leaveWarmLocked() {
	if c.releaser == byRing {
		c.releaser = noReleaser
		c.peer.listener.warm.remove(c)
	}
}

// cool releases the ciphers of a session that has lost its place in the ring. If it has a
// place again by now it loses that too.
func (c *Conn) cool() {
	c.peer.mu.Lock()
	defer c.peer.mu.Unlock()
	if c.releaser == byRing {
		c.leaveWarmLocked()
		c.records.ReleaseCiphers()
	}
}

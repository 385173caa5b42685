// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"reflect"
	"time"
)

// ReleaseCiphers makes the session build its ciphers again for the next record.
func (c *Conn) ReleaseCiphers() {
	c.peer.mu.Lock()
	defer c.peer.mu.Unlock()
	c.records.ReleaseCiphers()
}

// HasBuiltCiphers reports whether the session keeps ciphers in memory.
func (c *Conn) HasBuiltCiphers() bool {
	c.peer.mu.Lock()
	defer c.peer.mu.Unlock()
	return !reflect.ValueOf(&c.records).Elem().FieldByName("ciphers").IsNil()
}

// SetNextSequence sets the sequence number of the next record that the session seals.
func (c *Conn) SetNextSequence(next uint64) {
	c.peer.mu.Lock()
	defer c.peer.mu.Unlock()
	c.records.SetNextSequence(next)
}

// HasInbox reports whether the session has an inbox.
func (c *Conn) HasInbox() bool {
	c.peer.mu.Lock()
	defer c.peer.mu.Unlock()
	return c.inbox != nil
}

// Unread returns how many datagrams were received and not read.
func (c *Conn) Unread() int {
	c.peer.mu.Lock()
	defer c.peer.mu.Unlock()
	if c.inbox == nil {
		return 0
	}
	return len(c.inbox.datagrams)
}

// HasReadTimer reports whether a timer for the session's read deadline runs.
func (c *Conn) HasReadTimer() bool {
	c.peer.mu.Lock()
	defer c.peer.mu.Unlock()
	if c.inbox == nil || c.inbox.readTimer == nil || !c.inbox.readTimer.Stop() {
		return false
	}
	c.inbox.readTimer.Reset(time.Until(c.inbox.readDeadline))
	return true
}

// HasExtras reports whether the session has memory for Done or SetValue.
func (c *Conn) HasExtras() bool {
	c.peer.mu.Lock()
	defer c.peer.mu.Unlock()
	return c.extras != nil
}

// BeginEnd ends the session as Close does, and returns what does the rest: what a
// goroutine does that is held up between the two.
func (c *Conn) BeginEnd(why Reason) (finish func()) {
	l := c.peer.listener
	e := l.beginEnd(c, why)
	return func() { l.finishEnd(e) }
}

// ReceiveFromPeer takes a datagram as if the listener had read it from the session's
// socket at a time.
func (c *Conn) ReceiveFromPeer(datagram []byte, now time.Time) {
	l := c.peer.listener
	c.peer.mu.Lock()
	from := c.routeLocked()
	c.peer.mu.Unlock()
	l.receive(from, datagram, now)
}

// SPDX-License-Identifier: MIT

package dtlsserver

// BufferOverhead is what a queued datagram counts besides the room of its buffer.
const BufferOverhead = bufferOverhead

// MaxWarm is how many idle sessions keep ciphers that forged records have built.
const MaxWarm = maxWarm

// QueuedBytes returns what the session's queue counts in Config.QueueBytes.
func (c *Conn) QueuedBytes() int {
	c.peer.mu.Lock()
	defer c.peer.mu.Unlock()
	if c.inbox == nil {
		return 0
	}
	return c.inbox.bytes
}

// QueuedTotal returns what counts in Config.QueueTotal.
func (l *Listener) QueuedTotal() int64 { return l.queued.bytes.Load() }

// LongQueues returns how many queues are in the lists of long ones.
func (l *Listener) LongQueues() int {
	l.queued.mu.Lock()
	defer l.queued.mu.Unlock()
	n := 0
	for _, b := range l.queued.lists {
		for ; b != nil; b = b.place.next {
			n++
		}
	}
	return n
}

// WarmConns returns how many sessions are in the ring of those that keep ciphers which
// forged records have built.
func (l *Listener) WarmConns() int {
	l.warm.mu.Lock()
	defer l.warm.mu.Unlock()
	n := 0
	for _, s := range l.warm.ring {
		if s.conn != nil {
			n++
		}
	}
	return n
}

// MaxHold is how long an answer waits for those of other sessions, at most while a processor is
// free and apart from the granularity of the system's timers.
const MaxHold = maxHold

func init() { alwaysCollect = true }

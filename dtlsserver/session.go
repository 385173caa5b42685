// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"time"

	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/internal/udp"
)

// received is the effect of a protected record.
type received struct {
	ends      Reason   // not 0: the session is to be ended
	replies   []reply  // to send after unlock
	cool      *Conn    // not nil: a session whose ciphers are to be released after unlock
	displaced *pending // not nil: for endDisplaced after unlock
}

// receiveLocked opens a protected record, and does what it says. An error reports that
// the record is not the session's, which is unchanged then, except that it may keep the
// ciphers that the record has built.
func (c *Conn) receiveLocked(from route, r record.Record, now time.Time) (received, error) {
	if c.ended != 0 || c.userClosed {
		return received{}, record.ErrEpoch
	}
	isNewest := r.Sequence >= c.records.Highest()
	buf := newBuffer(len(r.Raw))
	var t record.Type
	var err error
	if buf.b, t, err = c.records.Open(buf.room[:0], r); err != nil {
		buf.release()
		return received{cool: c.warmLocked(now)}, err
	}
	got := received{displaced: c.noteAddressLocked(from, len(r.Raw), isNewest)}
	c.markUsedLocked(now)
	if c.stage == stageInterrupted {
		c.userClosed = true // nothing more is received
		got.ends = Interrupted
		return got, nil
	}
	if t == record.TypeApplicationData {
		c.receiveDataLocked(buf)
	} else {
		if !c.receiveControlLocked(&got, from, t, buf.b, len(r.Raw)) {
			c.peer.listener.countDrop(from.peer, recordIgnored)
		}
		buf.release()
	}
	if from.peer != c.peer.addr {
		c.challengeLocked(&got, from, now)
	}
	return got, nil
}

// receiveControlLocked takes what an authentic record of size bytes has said that is not
// application data, and reports whether it had an effect.
func (c *Conn) receiveControlLocked(got *received, from route, t record.Type, payload []byte, size int) bool {
	switch t {
	case record.TypeAlert:
		if alert, ok := record.ParseAlert(payload); ok && alert.EndsSession() {
			c.aborted = alert.Level == record.LevelFatal
			got.ends = ClosedByPeer
			return true
		}
	case record.TypeHandshake:
		message, _, ok := record.NextHandshake(payload)
		switch {
		case ok && message.Type == record.MessageFinished && c.flight != finalFlight{}:
			c.replyLocked(got, c.flight.next(&c.records))
			return true
		case ok && message.Type == record.MessageClientHello:
			// A renegotiation. A client that gets no answer waits for ever (RFC 5746
			// section 4.5).
			alert := record.Alert{Level: record.LevelWarning, Description: record.NoRenegotiation}
			if sealed, err := c.records.Seal(nil, record.TypeAlert, alert.Payload()); err == nil {
				c.replyLocked(got, sealed)
			}
			return true
		}
	case record.TypeRoutabilityCheck:
		return c.receiveRoutabilityLocked(got, from, payload, size)
	}
	return false
}

// replyLocked adds a datagram to what is sent after unlock, unless the datagram is nil.
func (c *Conn) replyLocked(got *received, datagram []byte) {
	if datagram != nil {
		got.replies = append(got.replies, reply{c.answerRouteLocked(len(datagram)), datagram})
	}
}

// receiveDataLocked puts a datagram into the inbox, for Read or for a worker of Serve.
// When the inbox is full the newest datagram is dropped. After unlock the caller calls
// queueTotal.relieve.
func (c *Conn) receiveDataLocked(datagram *buffer) {
	l := c.peer.listener
	c.flight = finalFlight{} // the client has received our Finished
	box := c.inboxLocked()
	if !box.push(datagram, l.config.QueueDatagrams, l.config.QueueBytes) {
		l.countDrop(c.peer.addr, recordQueueFull)
		datagram.release()
		return
	}
	if l.serving.Load() {
		l.queue.scheduleLocked(c)
	} else {
		box.changed.Signal()
	}
}

// inboxLocked returns the inbox, which an idle session does not have.
func (c *Conn) inboxLocked() *inbox {
	if c.inbox == nil {
		c.inbox = newInbox(&c.peer.mu, &c.peer.listener.queued)
	}
	return c.inbox
}

// markUsedLocked marks an authentic use: a record that the peer has sealed, or that the
// server seals.
func (c *Conn) markUsedLocked(now time.Time) {
	c.touchLocked(now) // before the table has the use: see Listener.allSessions
	c.peer.handleLocked().Use()
}

// touchLocked notes that the session is not idle. It has ciphers from now on, which the
// sweeper releases when it falls silent.
func (c *Conn) touchLocked(now time.Time) {
	// The caller may have read the clock before another use. The identities rely on it that the
	// time does not go back.
	c.lastUsed = max(c.lastUsed, now.Sub(c.peer.listener.began))
	c.peer.listener.journal.noteUseLocked(c)
	if c.releaser != bySweeper {
		c.leaveWarmLocked()
		c.releaser = bySweeper
		c.peer.listener.sweeper.add(c)
	}
}

// idleLocked returns for how long the session was not used.
func (c *Conn) idleLocked(now time.Time) time.Duration {
	return now.Sub(c.peer.listener.began) - c.lastUsed
}

// idle returns for how long the session was not used.
func (c *Conn) idle(now time.Time) time.Duration {
	c.peer.mu.Lock()
	defer c.peer.mu.Unlock()
	return c.idleLocked(now)
}

// sweep releases what an idle session can do without, and reports whether it did.
func (c *Conn) sweep(now time.Time) bool {
	c.peer.mu.Lock()
	defer c.peer.mu.Unlock()
	if c.ended == 0 && c.idleLocked(now) < releaseAfter {
		return false
	}
	c.leaveWarmLocked()
	c.releaser = noReleaser
	c.records.ReleaseCiphers()
	if c.inbox != nil && c.inbox.unused() {
		c.inbox = nil
	}
	return true
}

// secrets returns the session's secrets and its next sequence number.
func (c *Conn) secrets() record.Config {
	c.peer.mu.Lock()
	defer c.peer.mu.Unlock()
	return c.records.Config()
}

// routeLocked returns the last address of the peer that was verified.
func (c *Conn) routeLocked() route {
	r := route{socket: c.peer.listener.sockets[c.socket], peer: c.peer.addr}
	if c.source != nil {
		r.source = *c.source
	}
	return r
}

// setSourceLocked notes the local address that the peer sends to. It hardly ever
// changes, and on a socket that is bound to an address there is none.
func (c *Conn) setSourceLocked(source udp.Source) {
	switch {
	case source == udp.Source{}:
		c.source = nil
	case c.source == nil || *c.source != source:
		kept := source // a copy, so that only this case allocates
		c.source = &kept
	}
}

// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"time"

	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/internal/udp"
)

// received is the effect of a protected record.
type received struct {
	ends  Reason // not 0: the session is to be ended
	reply []byte // not nil: a datagram to send after unlock
	cool  *Conn  // not nil: a session whose ciphers are to be released after unlock
}

// receiveLocked opens a protected record, and does what it says. An error reports that
// the record is not the session's, which is unchanged then, except that it may keep the
// ciphers that the record has built.
func (c *Conn) receiveLocked(from route, r record.Record, now time.Time) (received, error) {
	if c.ended != 0 || c.userClosed {
		return received{}, record.ErrEpoch
	}
	buf := newBuffer(len(r.Raw))
	var err error
	if buf.b, err = c.records.Open(buf.room[:0], r); err != nil {
		buf.release()
		return received{cool: c.warmLocked(now)}, err
	}
	c.setSourceLocked(from.source)
	c.markUsedLocked(now)
	if c.stage == stageInterrupted {
		c.userClosed = true // nothing more is received
		return received{ends: Interrupted}, nil
	}
	if r.Type == record.TypeApplicationData {
		c.receiveDataLocked(buf)
		return received{}, nil
	}
	defer buf.release()
	switch r.Type {
	case record.TypeAlert:
		if alert, ok := record.ParseAlert(buf.b); ok && alert.EndsSession() {
			c.aborted = alert.Level == record.LevelFatal
			return received{ends: ClosedByPeer}, nil
		}
	case record.TypeHandshake:
		message, _, ok := record.NextHandshake(buf.b)
		switch {
		case ok && message.Type == record.MessageFinished && c.flight != finalFlight{}:
			return received{reply: c.flight.next(&c.records)}, nil
		case ok && message.Type == record.MessageClientHello:
			// A renegotiation. A client that gets no answer waits for ever (RFC 5746
			// section 4.5).
			alert := record.Alert{Level: record.LevelWarning, Description: record.NoRenegotiation}
			reply, _ := c.records.Seal(nil, record.TypeAlert, alert.Payload())
			return received{reply: reply}, nil
		}
	}
	c.peer.listener.counters.ignored.Add(1)
	return received{}, nil
}

// receiveDataLocked puts a datagram into the inbox, for Read or for a worker of Serve.
// When the inbox is full the newest datagram is dropped. After unlock the caller calls
// queueTotal.relieve.
func (c *Conn) receiveDataLocked(datagram *buffer) {
	l := c.peer.listener
	c.flight = finalFlight{} // the client has received our Finished
	box := c.inboxLocked()
	if !box.push(datagram, l.config.QueueDatagrams, l.config.QueueBytes) {
		l.counters.queueFull.Add(1)
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
	c.peer.handle.Use()
	c.touchLocked(now)
}

// touchLocked notes that the session is not idle. It has ciphers from now on, which the
// sweeper releases when it falls silent.
func (c *Conn) touchLocked(now time.Time) {
	c.lastUsed = now.Sub(c.peer.listener.began)
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

// routeLocked returns where the session's datagrams go.
func (c *Conn) routeLocked() route {
	r := route{socket: c.peer.listener.sockets[c.socket], number: c.socket, peer: c.peer.addr}
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

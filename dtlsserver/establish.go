// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"log/slog"
	"time"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/internal/handshake"
	"github.com/go-dsm/dsm/internal/lockorder"
)

// newSession makes the session of a handshake that is done. No other goroutine can reach
// it yet.
func (l *Listener) newSession(h *pending, result *handshake.Result) *Conn {
	if !result.Resumed { // otherwise it refers to h.resuming, which is nobody else's
		result.Identity = result.Identity.Clone()
	}
	result.Identity.ServerName = string(h.hello.ServerName)
	c := h.peer.newConn()
	c.socket, c.records = h.route.socket.number, *result.Records
	c.flight = newFinalFlight(result.Flight)
	c.identity.set(result.Identity)
	c.identity.extendedMasterSecret = result.ServerHello.ExtendedMasterSecret
	c.identity.routabilityCheck = result.ServerHello.RoutabilityCheck
	if result.Resumed {
		c.identity.tag = tagIn(h.resuming.Scope)
	} else if result.PSK != nil {
		c.identity.tag = pskTag(result.PSK, result.Records.Config().MasterSecret)
	}
	c.identity.setResumable(l.newResumableState(h, result, c.identity.tag))
	c.setSourceLocked(h.route.source)
	return c
}

// establish gives a session its slot, tells the client, and tells the user. It returns
// errDisplaced if the handshake was displaced before: then nothing is sent. key is the session's
// identity key.
func (l *Listener) establish(h *pending, c *Conn, key string) error {
	c.lastUsed = time.Since(l.began) // not before: the session may have waited for Config.Authorize
	c.began = uint32(c.lastUsed / ageUnit)
	where, ended := l.place(h, c, key)
	if where == displaced {
		for _, e := range ended {
			l.finishEnd(e)
		}
		return errDisplaced
	}
	// The peer is locked.
	ends, replies := c.openHeldLocked(h)
	if where == refusedPlace {
		c.flight = finalFlight{}
	}
	h.peer.mu.Unlock()
	l.queued.relieve(&l.counters.words[recordQueueFull])
	if c.Resumed() {
		l.counters.resumed.Add(1)
	}
	for _, r := range replies {
		r.to.send(r.datagram)
	}
	l.markOpened(c)
	for _, e := range ended {
		l.finishEnd(e)
	}
	if where == refusedPlace {
		l.notifying.Done()
		l.tell(event{what: c.EndReason().event(), level: slog.LevelInfo, text: "session refused", peer: c.Peer(), refuses: true})
		return nil
	}
	l.announce(c)
	if ends != 0 {
		l.end(c, ends)
	}
	return nil
}

// placement says what came of place.
type placement uint8

const (
	placed       placement = iota // the session has the peer's slot
	refusedPlace                  // the session has ended, and its slot was freed
	displaced                     // the handshake was displaced
)

// place puts a session into the slot of its handshake. The sessions that end for it are
// returned: those that it evicts or that its identity gives up for it, an earlier one of the
// peer, and the session itself if it is refused. Unless the handshake was
// displaced the peer is locked when place returns.
//
// Sessions are evicted, and the new one is stored in the table, under the admission's
// lock: nobody else takes the room, and whoever stops the admission finds every session in
// the table. When place returns the peer's lock alone is held, so that the held records
// are opened before any later record.
func (l *Listener) place(h *pending, c *Conn, key string) (where placement, ended []ending) {
	p := h.peer
	where = displaced
	newcomer := identityNewcomer{
		key: key, withdrawals: h.withdrawals, refuse: l.config.WhenIdentityFull == RefuseNewcomer,
		needsRoom: func() bool { return p.needsIdentityRoom(h, key) },
	}
	refuse := func(why Reason) {
		l.notifying.Add(1) // while the admission is not stopped; establish is done with it
		ended = append(ended, l.refuseLocked(c, why))
		where = refusedPlace
	}
	l.prepareIdentityRoom(key)
	took := l.admission.complete(&h.ticket, func() {
		var refused Reason
		ended, refused = l.makeIdentityRoom(newcomer)
		for refused == 0 && l.admission.full() && p.needsRoom(h) {
			victim := l.evictionCandidate()
			if victim == nil {
				break
			}
			ended = append(ended, l.beginEnd(victim, Evicted))
		}
		p.mu.Lock()
		if !p.isPendingLocked(h) { // it was taken away, and its end is counted
			p.mu.Unlock()
			return
		}
		if refused != 0 {
			l.counters.add(resultCompleted)
			p.removePendingLocked(h)
			refuse(refused)
			return
		}
		room := p.conn != nil || !l.admission.full()
		if room {
			// The slot is the peer's, unless somebody has taken it out of the table.
			_, room = p.holdSlotLocked(dsm.StateEstablished)
		}
		if p.conn != nil {
			ended = append(ended, l.endLocked(p.conn, Replaced))
		}
		l.counters.add(resultCompleted)
		if !room {
			p.removePendingLocked(h)
			refuse(Refused)
			return
		}
		p.conn = c
		obsolete := p.takeOlderLocked(h)
		p.removePendingLocked(h)
		for ; obsolete != nil; obsolete = obsolete.next {
			l.countDisplaced(obsolete)
			l.admission.endLocked(&obsolete.ticket)
			obsolete.stop()
		}
		l.admission.established.Add(1)
		where = placed
		if !l.identities.joinLocked(c, key, h.withdrawals) {
			refuse(Withdrawn)
		}
	})
	if where == placed {
		l.counters.handshakeTimes.observe(took)
	}
	return where, ended
}

// refuseLocked ends a session as soon as it is established, or in place of that. Its client is
// still to be told that the handshake is done. A session that is Withdrawn was stored in
// Config.Resumption since its identity was ended.
func (l *Listener) refuseLocked(c *Conn, why Reason) ending {
	flight := c.flight
	e := l.endLocked(c, why)
	e.revoke = why == Withdrawn
	c.flight = flight
	return e
}

// reply is a datagram that must be sent before anything else of the session.
type reply struct {
	to       route
	datagram []byte
}

// openHeldLocked opens what was received for the session during its handshake. The first
// reply is the server's last flight, if the handshake was a full one. A Finished that was
// held is repeated by a client that waits for the flight, so it causes no other one.
func (c *Conn) openHeldLocked(h *pending) (ends Reason, replies []reply) {
	now := time.Now()
	if c.ended == 0 { // otherwise sealCloseNotify releases the ciphers that the handshake has left
		c.touchLocked(now)
	}
	flight := c.flight
	c.flight = finalFlight{}
	if datagram := flight.next(&c.records); datagram != nil {
		replies = append(replies, reply{h.route, datagram})
	}
	for _, held := range h.held { // from the peer's address: see receiveProtected
		r, _, _ := c.peer.listener.nextRecord(held.raw)
		got, err := c.receiveLocked(held.from, r, now)
		c.peer.listener.countVerdict(held.from.peer, handshake.VerdictOf(err))
		replies = append(replies, got.replies...)
		ends = max(ends, got.ends)
	}
	h.held = nil
	c.flight = flight
	return ends, replies
}

// markOpened notes that the replies of openHeldLocked were sent. If the session has ended
// meanwhile, whoever ended it left the close_notify to markOpened.
func (l *Listener) markOpened(c *Conn) {
	c.peer.mu.Lock()
	c.stage = stageOpened
	notify := c.ended != 0 && c.ended.notifies()
	c.peer.mu.Unlock()
	if notify {
		l.sendCloseNotify(c)
	}
}

// announce tells the user of a session, and delivers it to Accept or Serve.
func (l *Listener) announce(c *Conn) {
	l.log.Debug("session established", "peer", c.Peer())
	if l.config.OnEstablished != nil {
		lockorder.AssertNone("OnEstablished")
		l.config.OnEstablished(c)
	}
	l.markAnnounced(c)
	if !l.serving.Load() {
		select {
		case l.accept <- c:
		default:
			l.end(c, Refused)
			return
		}
	}
	if l.serving.Load() { // also if it is only since a moment ago
		l.schedule(c)
	}
}

// markAnnounced notes that the user knows of a session.
func (l *Listener) markAnnounced(c *Conn) {
	c.peer.mu.Lock()
	c.stage = stageAnnounced
	ended := c.ended
	c.peer.mu.Unlock()
	if ended != 0 {
		// The session has ended meanwhile, and whoever ended it left this to us.
		l.announceEnd(c, ended)
	}
}

// schedule queues what was received before Serve was called, or before the session was
// announced.
func (l *Listener) schedule(c *Conn) {
	c.peer.mu.Lock()
	defer c.peer.mu.Unlock()
	l.queue.scheduleLocked(c)
}

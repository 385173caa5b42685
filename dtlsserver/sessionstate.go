// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"crypto/rand"
	"encoding"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/go-dsm/dsm/internal/handshake"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/resume"
)

// SessionState is all of a session: Conn.Detach makes it and Listener.Attach takes it, in
// this process or, by MarshalBinary and UnmarshalBinary, in another one. It can be attached
// once: two holders of a session would use its nonces twice, which lays open what they send.
// Attach refuses a second time within a process, for the last 65 536 states that were
// attached. For copies of the marshalled form in other processes the caller has to see to it.
//
// Its copies are the same SessionState. The zero SessionState holds no session. Packages fmt
// and log/slog print it without secrets. The marshalled form has the secrets in the clear.
type SessionState struct{ state *sessionState }

var (
	_ encoding.BinaryMarshaler   = SessionState{}
	_ encoding.BinaryUnmarshaler = (*SessionState)(nil)
	_ fmt.Formatter              = SessionState{}
	_ slog.LogValuer             = SessionState{}
)

// Peer returns the remote endpoint of the session.
func (s SessionState) Peer() netip.AddrPort {
	if s.state == nil {
		return netip.AddrPort{}
	}
	return s.state.peer
}

// Format implements [fmt.Formatter]. It prints no secret with any verb.
func (s SessionState) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.describe()) }

// LogValue implements [slog.LogValuer]. The value contains no secret.
func (s SessionState) LogValue() slog.Value { return slog.StringValue(s.describe()) }

func (s SessionState) describe() string {
	if s.state == nil {
		return "no session"
	}
	return fmt.Sprintf("session of %s", s.state.peer)
}

// sessionState is what a SessionState holds, and what a snapshot and the journal have of each
// session.
type sessionState struct {
	// id tells the detachments of this process apart; zero in a snapshot and in the journal,
	// which are used once as a whole.
	id   [16]byte
	used atomic.Bool // it was attached

	peer        netip.AddrPort
	source      netip.Addr // the local address that the peer last sent to; the zero Addr: the system chooses
	socket      uint8      // index of the listener's socket
	records     *record.Session
	scope       string // the policy of the listener: see scopeOf
	tag         keyTag
	identity    handshake.Identity
	lastUsed    time.Time
	flight      finalFlight
	interrupted bool // the session is only to be closed: see stageInterrupted
	value       any  // of Config.Authorize, which was asked here; it does not go along

	extendedMasterSecret bool

	resumable        bool // the following are set
	sessionID        string
	resumed          bool
	created, expires time.Time // zero: Config.Resumption has not got it
	data             []byte

	givesIDs bool // the listener gives connection IDs (RFC 9146), and the following are set
	// idKey is the key of the listener's IDs, and slot and generation are the session's: an ID
	// leads there.
	idKey            [idKeySize]byte
	slot, generation uint32
	// The connection IDs of the peer's records and of the server's; empty: they have none.
	connectionID, peerConnectionID []byte
	routabilityCheck               bool // RFC 9853 was negotiated

	unread [][]byte // what was received and not read
}

// stateLocked sets s to the state of an established session. It refers to the Conn's memory,
// so it is used before unlock.
func (c *Conn) stateLocked(s *sessionState, now time.Time) {
	*s = sessionState{
		peer: c.peer.addr, socket: c.socket, records: &c.records, scope: c.peer.listener.scope, tag: c.identity.tag,
		identity: c.identity.all(), extendedMasterSecret: c.identity.extendedMasterSecret,
		lastUsed: now.Add(-c.idleLocked(now)), flight: c.flight, interrupted: c.stage == stageInterrupted,
	}
	if c.source != nil {
		s.source = c.source.Addr()
	}
	if ids := &c.peer.listener.ids; ids.block != nil {
		s.givesIDs, s.idKey = true, ids.key
		s.slot, s.generation = uint32(c.peer.handleLocked().Slot()), c.peer.generation
		s.connectionID, s.peerConnectionID, s.routabilityCheck = c.records.ConnectionID(), c.records.PeerConnectionID(), c.identity.routabilityCheck
	}
	if r := c.resumable(); r != nil {
		r.mu.Lock()
		s.resumable, s.sessionID, s.resumed = true, r.id, r.resumed
		s.created, s.expires, s.data = r.session.Created, r.session.Expires, r.session.Data
		r.mu.Unlock()
	}
	if c.inbox != nil {
		left := maxUnread
		for _, datagram := range c.inbox.datagrams {
			if left -= len(datagram.b); left < 0 || len(s.unread) == maxUnreadDatagrams {
				break
			}
			s.unread = append(s.unread, datagram.b)
		}
	}
}

// session returns the session as Config.Resumption has it, with its Secret.
func (s *sessionState) session() *resume.Session {
	secrets := s.records.Config()
	session := resumableSession(secrets.Suite, s.extendedMasterSecret, s.identity, taggedScope(s.scope, s.tag))
	session.Secret, session.Created, session.Expires, session.Data = secrets.MasterSecret, s.created, s.expires, s.data
	return &session
}

// connLocked makes the session of a peer, which is locked. The Conn is in no slot yet.
func (s *sessionState) connLocked(p *Peer, now time.Time) *Conn {
	l := p.listener
	c := p.newConnLocked()
	c.records = *s.records
	c.records.SetConnectionIDs(s.connectionID, s.peerConnectionID)
	if int(s.socket) < len(l.sockets) { // otherwise another one, which sends as well
		c.socket = s.socket
	}
	c.setSourceLocked(l.sockets[c.socket].SourceOf(s.source))
	c.lastUsed = now.Sub(l.began) - min(max(now.Sub(s.lastUsed), 0), math.MaxInt64/2)
	c.flight = s.flight
	c.began = uint32(now.Sub(l.began) / ageUnit)
	c.identity.set(s.identity)
	c.identity.tag, c.identity.extendedMasterSecret, c.identity.routabilityCheck = s.tag, s.extendedMasterSecret, s.routabilityCheck
	if s.resumable && l.config.Resumption != nil {
		r := &resumableState{id: s.sessionID, resumed: s.resumed, session: *s.session()}
		r.session.Secret = nil
		c.identity.setResumable(r)
	}
	if s.value != nil {
		c.extrasLocked().value = s.value
	}
	for _, datagram := range s.unread {
		buf := newBuffer(len(datagram))
		buf.b = append(buf.room[:0], datagram...)
		if !c.inboxLocked().push(buf, l.config.QueueDatagrams, l.config.QueueBytes) {
			l.countDrop(s.peer, recordQueueFull)
			buf.release()
		}
	}
	c.stage = stageOpened
	if s.interrupted {
		c.stage = stageInterrupted
	}
	return c
}

// newStateID returns an id of a detachment.
func newStateID() (id [16]byte) {
	_, _ = rand.Read(id[:]) // which never fails
	return id
}

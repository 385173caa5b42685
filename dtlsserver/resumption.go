// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"

	"github.com/go-dsm/dsm/internal/handshake"
	"github.com/go-dsm/dsm/internal/lockorder"
	"github.com/go-dsm/dsm/internal/logtext"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/resume"
)

// lookUp returns the session that a ClientHello names, if it may be resumed. If it may
// not, the handshake is a full one, which can fail for the same cause.
func (l *Listener) lookUp(ctx context.Context, h *pending) *resume.Session {
	if l.config.Resumption == nil || len(h.hello.SessionID) == 0 {
		return nil
	}
	lockorder.AssertNone("Config.Resumption")
	session, ok := l.config.Resumption.Get(ctx, networkOf(h.route.peer.Addr()), h.hello.SessionID)
	if !ok {
		return nil
	}
	err := l.checkIdentity(ctx, networkOf(h.route.peer.Addr()), session)
	if err == nil {
		err = l.checkResumable(ctx, h.route.peer, session, h.hello)
	}
	if err != nil {
		l.counters.notResumed.Add(1)
		l.tell(event{what: notResumed, level: slog.LevelInfo, text: "DTLS session not resumed", peer: h.route.peer, err: err})
		return nil
	}
	h.peer.mu.Lock()
	h.resuming, h.sessionID = session, h.hello.SessionID
	h.peer.mu.Unlock()
	return session
}

// checkIdentity returns an error if the identity of a session was ended since it was made: see
// EndIdentity.
func (l *Listener) checkIdentity(ctx context.Context, source netip.Prefix, s *resume.Session) error {
	key := l.identityKey(handshake.Identity{PSKIdentity: s.PSKIdentity, Certificates: s.Certificates, Verified: s.Verified})
	if key != "" && l.config.Resumption.IdentityRevoked(ctx, source, l.config.ResumptionScope, key, s) {
		return errors.New("its identity was ended, or the store does not know")
	}
	return nil
}

// checkResumable returns what is against resuming a session, or nil. It waits for Config.PSK,
// until ctx ends.
func (l *Listener) checkResumable(ctx context.Context, peer netip.AddrPort, s *resume.Session, hello record.ClientHello) error {
	suite := record.SuiteID(s.Suite)
	switch {
	case !hello.Offers(suite):
		return errors.New("the client does not offer its cipher suite") // RFC 5246 section 7.4.1.2
	case hello.ExtendedMasterSecret != s.ExtendedMasterSecret:
		return errors.New("the client wants another kind of master secret") // RFC 7627 section 5.3
	case string(hello.ServerName) != s.ServerName:
		return errors.New("it is of another server name") // RFC 6066 section 3
	}
	return l.checkPolicy(ctx, peer, s, hello)
}

// The causes for which an earlier session is not admitted today.
var (
	errOtherPolicy = errors.New("it is of a listener with another policy")
	errOtherKey    = errors.New("its PSK is not known, or another one now")
)

// checkPolicy returns what the listener's policy has against an earlier session, or nil.
// hello is what the session's ClientHello is known to have had.
func (l *Listener) checkPolicy(ctx context.Context, peer netip.AddrPort, s *resume.Session, hello record.ClientHello) error {
	if scope, _, _ := strings.Cut(s.Scope, "/"); scope != l.scope {
		return errOtherPolicy
	}
	var tag keyTag
	if record.SuiteID(s.Suite).PSK() {
		key, err := l.psk.key(ctx, PSKRequest{Identity: s.PSKIdentity, ServerName: s.ServerName, Peer: peer})
		if err != nil {
			return fmt.Errorf("%w: %w", errOtherKey, err)
		}
		tag = pskTag(key, s.Secret)
	}
	if s.Scope != taggedScope(l.scope, tag) {
		return errOtherKey
	}
	return l.handshaker.CheckResumable(s, hello)
}

// Resumed reports whether the session was resumed by an abbreviated handshake.
func (c *Conn) Resumed() bool {
	r := c.resumable()
	return r != nil && r.resumed
}

// storeFirst stores the session of a full handshake, before the user or the client can know
// of it. ctx is the handshake's: the call ends with a handshake that is displaced.
func (c *Conn) storeFirst(ctx context.Context) {
	r := c.resumable()
	if r == nil || r.resumed {
		return
	}
	r.storing.Lock()
	defer r.storing.Unlock()
	if err := c.putStoring(ctx, r); err != nil { // the store counts it
		c.peer.listener.log.Debug("DTLS session not stored", "peer", c.Peer(), "error", logtext.Error(err))
	}
}

// storeAgain stores an earlier session: Config.Resumption may not have it any more. The
// error is the store's to count.
func (c *Conn) storeAgain() {
	if r := c.resumable(); r != nil {
		r.storing.Lock()
		defer r.storing.Unlock()
		_ = c.putStoring(context.Background(), r)
	}
}

// interrupt ends a session of a server that has crashed, whose peer has just shown that it
// lives. The peer can resume the session.
func (l *Listener) interrupt(c *Conn) {
	if c.resumable() == nil {
		l.end(c, Interrupted)
		return
	}
	l.life.spawn(func() {
		c.storeAgain()
		l.end(c, Interrupted)
	})
}

// store gives the session with its newest data to the store, unless the store was given
// that version of it, or a later one.
func (c *Conn) store(version int) error {
	r := c.resumable()
	r.storing.Lock()
	defer r.storing.Unlock()
	r.mu.Lock()
	stored, err := r.stored, r.err
	r.mu.Unlock()
	if stored >= version {
		return err
	}
	return c.putStoring(context.Background(), r)
}

// putStoring gives the session with its newest data to the store. r.storing is held.
func (c *Conn) putStoring(ctx context.Context, r *resumableState) error {
	lockorder.AssertNone("Config.Resumption")
	r.mu.Lock()
	session, version := r.session, r.version
	r.mu.Unlock()
	session.Secret = c.secrets().MasterSecret
	if c.EndReason() == Withdrawn { // a session without a Created would get one after EndIdentity
		return resume.ErrRevoked
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	err := c.peer.listener.config.Resumption.Put(ctx, []byte(r.id), &session)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stored, r.err = version, err
	r.session.Created, r.session.Expires = session.Created, session.Expires
	return err
}

// revoke makes the session of a Conn that a fatal alert has ended impossible to resume
// (RFC 5246 section 7.2.2).
func (c *Conn) revoke() {
	r, l := c.resumable(), c.peer.listener
	if r == nil {
		return
	}
	l.life.spawn(func() {
		r.storing.Lock() // after what is being stored
		defer r.storing.Unlock()
		l.revoke([]byte(r.id), &resume.Session{Secret: c.secrets().MasterSecret})
	})
}

// revoke makes a session impossible to resume.
func (l *Listener) revoke(id []byte, session *resume.Session) {
	lockorder.AssertNone("Config.Resumption")
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	if err := l.config.Resumption.Revoke(ctx, id, session); err != nil { // the store counts it
		l.log.Info("DTLS session not removed from Config.Resumption", "error", logtext.Error(err))
	}
}

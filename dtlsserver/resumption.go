// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"

	"github.com/go-dsm/dsm/internal/handshake"
	"github.com/go-dsm/dsm/internal/lockorder"
	"github.com/go-dsm/dsm/internal/logtext"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/resume"
)

// resumableState is what a Conn knows of its session in Config.Resumption.
type resumableState struct {
	// Set in newResumableState, never changed.
	id      string
	resumed bool

	// storing is held while the store is called, so that the store gets the session's
	// versions in their order. Only calls for the same session wait for it, and it is
	// locked with no other lock held.
	storing sync.Mutex

	mu lockorder.Mutex[lockorder.Leaf]
	// mu guards the following.
	session resume.Session // without its Secret, which the Conn's records have
	version int            // of session.Data
	stored  int            // the version that the store was last given; -1: none
	err     error          // what the store said
}

// scopeOf names the policy of a listener: whom it admits, and how it protects records.
// Listeners that differ in it do not resume each other's sessions.
func scopeOf(userScope, policyID string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q, %s", userScope, policyID))
	return hex.EncodeToString(sum[:16])
}

// pskTag is added to the scope of a session that a pre-shared key has authenticated. It
// ties the session to the key: with another key, or the key of another listener's
// device of the same identity, the session is not resumed. Nobody who lacks the
// session's secret learns anything about the key.
func pskTag(key, secret []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write(secret)
	return "/" + hex.EncodeToString(mac.Sum(nil)[:16])
}

// lookUp returns the session that a ClientHello names, if it may be resumed. If it may
// not, the handshake is a full one, which can fail for the same cause.
func (l *Listener) lookUp(ctx context.Context, h *pending) *resume.Session {
	if l.config.Resumption == nil || len(h.hello.SessionID) == 0 {
		return nil
	}
	lockorder.AssertNone("Config.Resumption")
	session, ok := l.config.Resumption.Get(ctx, networkOf(h.peer.addr.Addr()), h.hello.SessionID)
	if !ok {
		return nil
	}
	if err := l.checkResumable(ctx, h.peer.addr, session, h.hello); err != nil {
		l.counters.notResumed.Add(1)
		l.log.Info("DTLS session not resumed", "peer", h.peer.addr, "cause", logtext.Error(err))
		return nil
	}
	h.peer.mu.Lock()
	h.resuming, h.sessionID = session, h.hello.SessionID
	h.peer.mu.Unlock()
	return session
}

// checkResumable returns what is against resuming a session, or nil. It waits for Config.PSK,
// until ctx ends.
func (l *Listener) checkResumable(ctx context.Context, peer netip.AddrPort, s *resume.Session, hello record.ClientHello) error {
	suite := record.SuiteID(s.Suite)
	scope := l.scope
	switch {
	case !strings.HasPrefix(s.Scope, scope):
		return errors.New("it is of a listener with another policy")
	case !hello.Offers(suite):
		return errors.New("the client does not offer its cipher suite") // RFC 5246 section 7.4.1.2
	case hello.ExtendedMasterSecret != s.ExtendedMasterSecret:
		return errors.New("the client wants another kind of master secret") // RFC 7627 section 5.3
	case string(hello.ServerName) != s.ServerName:
		return errors.New("it is of another server name") // RFC 6066 section 3
	}
	if suite.PSK() {
		key, err := l.psk.key(ctx, PSKRequest{Identity: s.PSKIdentity, ServerName: s.ServerName, Peer: peer})
		if err != nil {
			return fmt.Errorf("its PSK is not known: %w", err)
		}
		scope += pskTag(key, s.Secret)
	}
	if s.Scope != scope {
		return errors.New("its PSK is another one now, or it is of a listener with another policy")
	}
	return l.handshaker.CheckResumable(s, hello)
}

// newResumableState returns what there is to store of a session that a full handshake
// has made, or what is stored of one that was resumed. It refers to the memory of
// result.Identity, as the session does: nobody changes that. It returns nil if the session
// cannot be resumed.
func (l *Listener) newResumableState(h *pending, result *handshake.Result) *resumableState {
	hello, who := result.ServerHello, result.Identity
	if l.config.Resumption == nil || hello.SessionID == "" {
		return nil
	}
	if result.Resumed {
		r := &resumableState{id: hello.SessionID, resumed: true, session: *h.resuming}
		r.session.Secret = nil
		return r
	}
	r := &resumableState{id: hello.SessionID, stored: -1, session: resume.Session{
		Suite: uint16(hello.Suite), ExtendedMasterSecret: hello.ExtendedMasterSecret, Protocol: who.Protocol,
		ServerName: string(h.hello.ServerName), PSKIdentity: who.PSKIdentity, Certificates: who.Certificates,
		Verified: who.Verified, Scope: l.scope,
	}}
	if hello.Suite.PSK() {
		r.session.Scope += pskTag(result.PSK, result.Records.Config().MasterSecret)
	}
	return r
}

// resumable returns nil if the session cannot be resumed.
func (c *Conn) resumable() *resumableState {
	if c.identity.more == nil {
		return nil
	}
	return c.identity.more.resumable
}

// Resumed reports whether the session was resumed by an abbreviated handshake.
func (c *Conn) Resumed() bool {
	r := c.resumable()
	return r != nil && r.resumed
}

// storeOnce stores the session of a full handshake once that is done, unless
// SetSessionData has done so.
func (c *Conn) storeOnce() {
	if r := c.resumable(); r == nil || r.resumed {
		return
	}
	if err := c.store(0); err != nil { // the store counts it
		c.peer.listener.log.Debug("DTLS session not stored", "peer", c.peer.addr, "error", logtext.Error(err))
	}
}

// store gives the session with its newest data to the store, unless the store has that
// version of it, or a later one.
func (c *Conn) store(version int) error {
	lockorder.AssertNone("Config.Resumption")
	r := c.resumable()
	r.storing.Lock()
	defer r.storing.Unlock()
	r.mu.Lock()
	if r.stored >= version {
		defer r.mu.Unlock()
		return r.err
	}
	session, version := r.session, r.version
	r.mu.Unlock()
	session.Secret = c.secrets().MasterSecret
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
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

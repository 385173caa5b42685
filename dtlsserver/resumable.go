// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sync"

	"github.com/go-dsm/dsm/internal/handshake"
	"github.com/go-dsm/dsm/internal/lockorder"
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
	stored  int            // the version that the store was last given
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
	r := &resumableState{id: hello.SessionID, session: resume.Session{
		Suite: uint16(hello.Suite), ExtendedMasterSecret: hello.ExtendedMasterSecret, Protocol: who.Protocol,
		ServerName: string(h.hello.ServerName), PSKIdentity: who.PSKIdentity, Certificates: who.Certificates,
		Verified: who.Verified, Scope: l.scope,
	}}
	if hello.Suite.PSK() {
		r.session.Scope += pskTag(result.PSK, result.Records.Config().MasterSecret)
	}
	return r
}

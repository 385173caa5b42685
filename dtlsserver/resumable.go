// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"

	"github.com/go-dsm/dsm/internal/handshake"
	"github.com/go-dsm/dsm/internal/lockorder"
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
	stored  int            // the version that the store was last given
	err     error          // what the store said
}

// scopeOf names the policy of a listener: whom it admits, and how it protects records.
// Listeners that differ in it do not resume each other's sessions.
func scopeOf(userScope, policyID string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q, %s", userScope, policyID))
	return hex.EncodeToString(sum[:16])
}

// keyTag ties a session to the pre-shared key that has authenticated it: with another key,
// or the key of another listener's device of the same identity, the session is neither
// resumed nor restored. Nobody who lacks the session's secret learns anything about the
// key. A session without a pre-shared key has the zero keyTag.
type keyTag [8]byte

func pskTag(key, secret []byte) (tag keyTag) {
	mac := hmac.New(sha256.New, key)
	mac.Write(secret)
	copy(tag[:], mac.Sum(nil))
	return tag
}

// taggedScope is the scope of a session in Config.Resumption.
func taggedScope(scope string, tag keyTag) string {
	if tag == (keyTag{}) {
		return scope
	}
	return scope + "/" + hex.EncodeToString(tag[:])
}

// tagIn returns the tag in the scope of a session.
func tagIn(taggedScope string) (tag keyTag) {
	if _, digits, ok := strings.Cut(taggedScope, "/"); ok && len(digits) == hex.EncodedLen(len(tag)) {
		_, _ = hex.Decode(tag[:], []byte(digits))
	}
	return tag
}

// newResumableState returns what there is to store of a session that a full handshake
// has made, or what is stored of one that was resumed. It refers to the memory of
// result.Identity, as the session does: nobody changes that. It returns nil if the session
// cannot be resumed.
func (l *Listener) newResumableState(h *pending, result *handshake.Result, tag keyTag) *resumableState {
	hello, who := result.ServerHello, result.Identity
	if l.config.Resumption == nil || hello.SessionID == "" {
		return nil
	}
	if result.Resumed {
		r := &resumableState{id: hello.SessionID, resumed: true, session: *h.resuming}
		r.session.Secret = nil
		return r
	}
	return &resumableState{id: hello.SessionID, session: resumableSession(hello.Suite, hello.ExtendedMasterSecret, who, taggedScope(l.scope, tag))}
}

// resumableSession returns what Config.Resumption is to keep of a session, without its
// Secret.
func resumableSession(suite record.SuiteID, extendedMasterSecret bool, who handshake.Identity, scope string) resume.Session {
	return resume.Session{
		Suite: uint16(suite), ExtendedMasterSecret: extendedMasterSecret, Protocol: who.Protocol, ServerName: who.ServerName,
		PSKIdentity: who.PSKIdentity, Certificates: who.Certificates, Verified: who.Verified, Scope: scope,
	}
}

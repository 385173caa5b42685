// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"time"

	"github.com/go-dsm/dsm/internal/handshake"
)

// Identity is who the peer of a session has proven to be in the full handshake that
// the session comes from. A resumed session has the same Identity.
type Identity struct {
	// PSKIdentity is the identity of the peer's pre-shared key (RFC 4279). Empty: the
	// peer has none.
	PSKIdentity []byte
	// Certificates are the peer's, in DER, the leaf first. Empty: the peer gave none.
	Certificates [][]byte
	// Verified is when the certificates were last verified, in a full handshake or
	// when the session was resumed. Zero: they were not, because the configuration
	// does not ask for it, or there is none.
	Verified time.Time
}

// Identity returns who the peer is. The caller may change what it gets.
func (c *Conn) Identity() Identity {
	who := c.identity.all().Clone()
	return Identity{PSKIdentity: who.PSKIdentity, Certificates: who.Certificates, Verified: who.Verified}
}

// compactIdentity is the peer's identity, and what few sessions have besides. A PSK
// identity of usual length is stored in place: a small piece of memory of its own,
// allocated among the garbage of a handshake, would keep a page of that from being
// released.
type compactIdentity struct {
	short [47]byte      // a PSK identity
	size  uint8         // of short
	more  *moreIdentity // nil: nothing else
}

// moreIdentity is what few sessions have.
type moreIdentity struct {
	identity  handshake.Identity // without a PSK identity that is stored in place
	resumable *resumableState    // nil: the session cannot be resumed
}

func newCompactIdentity(who handshake.Identity, resumable *resumableState) compactIdentity {
	var c compactIdentity
	if len(who.PSKIdentity) <= len(c.short) {
		c.size = uint8(copy(c.short[:], who.PSKIdentity))
		who.PSKIdentity = nil
	}
	if who.PSKIdentity != nil || len(who.Certificates) > 0 || who.Protocol != "" || resumable != nil {
		c.more = &moreIdentity{who, resumable}
	}
	return c
}

// all returns the identity in one piece. It refers to c.
func (c *compactIdentity) all() handshake.Identity {
	var who handshake.Identity
	if c.more != nil {
		who = c.more.identity
	}
	if c.size > 0 {
		who.PSKIdentity = c.short[:c.size]
	}
	return who
}

// Export sets *state to what an adapter of this module needs to make pion's view of the
// session. The type of its argument keeps it from being called by others, for state
// holds the session's secrets.
func (c *Conn) Export(state *handshake.State) {
	*state = handshake.State{Secrets: c.secrets(), Identity: c.identity.all().Clone()}
	if r := c.resumable(); r != nil {
		state.SessionID = r.id
	}
}

// resumable returns nil if the session cannot be resumed.
func (c *Conn) resumable() *resumableState {
	if c.identity.more == nil {
		return nil
	}
	return c.identity.more.resumable
}

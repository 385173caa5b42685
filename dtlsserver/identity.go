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
	return copyIdentity(c.identity.all())
}

// compactIdentity is the peer's identity, and what few sessions have besides. A PSK
// identity of usual length is stored in place: a small piece of memory of its own,
// allocated among the garbage of a handshake, would keep a page of that from being
// released.
type compactIdentity struct {
	short [36]byte // a PSK identity: a UUID in text fits
	size  uint8    // of short

	extendedMasterSecret bool          // RFC 7627 was used
	routabilityCheck     bool          // RFC 9853 was negotiated
	tag                  keyTag        // of the pre-shared key
	more                 *moreIdentity // nil: nothing else
}

// moreIdentity is what few sessions have.
type moreIdentity struct {
	identity  handshake.Identity // without a PSK identity that is stored in place
	resumable *resumableState    // nil: the session cannot be resumed
}

// set notes who the peer is. It keeps what who refers to.
func (c *compactIdentity) set(who handshake.Identity) {
	if len(who.PSKIdentity) <= len(c.short) {
		c.size = uint8(copy(c.short[:], who.PSKIdentity))
		who.PSKIdentity = nil
	}
	if who.PSKIdentity != nil || len(who.Certificates) > 0 || who.Protocol != "" || who.ServerName != "" {
		c.more = &moreIdentity{identity: who}
	}
}

// setResumable notes how the session can be resumed, if r is not nil.
func (c *compactIdentity) setResumable(r *resumableState) {
	switch {
	case r == nil:
	case c.more == nil:
		c.more = &moreIdentity{resumable: r}
	default:
		c.more.resumable = r
	}
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

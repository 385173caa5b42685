// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"

	"github.com/go-dsm/dsm/internal/handshake"
	"github.com/go-dsm/dsm/internal/lockorder"
)

// DefaultIdentityKey is the Config.IdentityKey of a Config without one. It returns "psk:" and
// the PSK identity. Without a PSK identity it returns "spki:" and the SHA-256, in lower-case
// hexadecimal digits, of the SubjectPublicKeyInfo of the leaf certificate (RFC 5280 section
// 4.1): a renewed certificate with the same public key has the same identity key. It returns ""
// if there is neither, or if the leaf cannot be parsed.
func DefaultIdentityKey(who Identity) string {
	if len(who.PSKIdentity) > 0 {
		return "psk:" + string(who.PSKIdentity)
	}
	if len(who.Certificates) == 0 {
		return ""
	}
	leaf, err := x509.ParseCertificate(who.Certificates[0])
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	return "spki:" + hex.EncodeToString(sum[:])
}

// IdentityKey returns what Config.IdentityKey says of the session's Identity. With
// Config.SessionsPerIdentity it returns, until the session ends, the key that the session is
// counted under.
func (c *Conn) IdentityKey() string {
	c.peer.mu.Lock()
	entry := c.quota
	c.peer.mu.Unlock()
	if entry != nil {
		return entry.group.key
	}
	return c.peer.listener.identityKey(c.identity.all())
}

// identityKey asks Config.IdentityKey. No lock may be held.
func (l *Listener) identityKey(who handshake.Identity) string {
	lockorder.AssertNone("Config.IdentityKey")
	return l.config.IdentityKey(copyIdentity(who))
}

// copyIdentity returns what the user is told of an identity. It shares no memory with who.
func copyIdentity(who handshake.Identity) Identity {
	who = who.Clone()
	return Identity{PSKIdentity: who.PSKIdentity, Certificates: who.Certificates, Verified: who.Verified}
}

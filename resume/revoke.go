// SPDX-License-Identifier: MIT

package resume

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
)

// ErrRevoked is the error of Put for a session that was revoked.
var ErrRevoked = errors.New("resume: the session was revoked")

// Revoke deletes a session as Delete does, and from then on this Store neither stores
// nor returns that session. Delete alone does not suffice if a Put is in flight, or if
// another user of the Store still has the Session and puts it again.
//
// A Store remembers 1024 revoked sessions and identities, each for Lifetime. Beyond that number
// it forgets the least recently used one.
func (s *Store) Revoke(ctx context.Context, id []byte, session *Session) error {
	sum := sha256.Sum256(session.Secret)
	// The error is ignored: it means that the id has a length that Put refuses too.
	_ = s.revoked.Put(context.Background(), id, sum[:], s.config.Lifetime)
	return s.Delete(ctx, id, session)
}

// isRevoked reports whether Revoke was called for a session. A session under the same id
// with another Secret is another session.
func (s *Store) isRevoked(id []byte, session *Session) bool {
	revokedSum, ok, _ := s.revoked.Get(context.Background(), id)
	sum := sha256.Sum256(session.Secret)
	return ok && subtle.ConstantTimeCompare(revokedSum, sum[:]) == 1
}

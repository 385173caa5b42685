// SPDX-License-Identifier: MIT

package resume

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// A tombstone is an entry of the Backend that says until when the sessions of an identity
// are revoked. All Stores that share a Backend must agree on its id and its value.
//
// The id is the first 24 bytes of the SHA-256 of tombstoneDomain, the length of the scope
// in 8 bytes, the scope and the key, followed by tombstoneMark. Because of the mark, Get,
// Put and Delete recognize the id of a tombstone without asking the Backend. A random
// session id ends in the mark with a probability of 2^-64.
//
// The value is tombstoneVersion and the time in Unix milliseconds, in 8 bytes. Numbers are
// big endian. A session starts with 0x30, the tag of a SEQUENCE.
const (
	tombstoneDomain  = "github.com/go-dsm/dsm/resume tombstone\x00"
	tombstoneMark    = "\x00revoked"
	tombstoneVersion = 1
	tombstoneLen     = 1 + 8 // bytes of the value
)

// RevokeIdentity makes all sessions of an identity that were created until now impossible
// to resume, in every process whose Store shares the Backend. The identity has the name
// key within scope; both may be any strings of the caller's choice. RevokeIdentity stores
// the current time under that name. It does not delete the sessions: a server must call
// IdentityRevoked before it resumes one.
//
// Sessions that are created in the next minute are revoked too, because the clocks of two
// servers may differ by up to a minute. A later call moves the time forward. No call moves
// it backward, even on a server whose clock is behind. Two calls that overlap may leave
// the earlier of their times, which the minute covers; a call that has timed out lasts
// until the Backend has executed it. The revocation is kept for Lifetime and a minute: each
// of these sessions has expired by then, provided that all Stores have the same Lifetime.
// A Backend that evicts entries, as Memory does when it is full, can lose the revocation
// earlier. The Store itself remembers it, too, among the 1024 of Revoke.
//
// RevokeIdentity returns ErrBusy if too many writes are in flight, and an error if the
// Backend fails. After an error other Stores may still resume the sessions, and the call should
// be repeated. RevokeIdentity calls the Backend twice. Each of these calls may take
// LookupTimeout.
func (s *Store) RevokeIdentity(ctx context.Context, scope, key string) error {
	outcome, err := s.revokeIdentity(ctx, tombstoneID(scope, key))
	if err != nil {
		err = fmt.Errorf("resume: revoking the sessions of an identity: %w", err)
	}
	s.count(&s.stats.Revocations, outcome, err)
	return err
}

func (s *Store) revokeIdentity(ctx context.Context, id []byte) (outcome *uint64, err error) {
	until := time.Now()
	ttl := s.config.Lifetime + clockSkew // the last session that the tombstone revokes expires then
	_ = s.revoked.Put(context.Background(), id, marshalTombstone(until), ttl)
	value, ok, err := s.readToWrite(ctx, id)
	if err != nil {
		return s.outcomeOf(ctx, err), err
	}
	if ok {
		// A tombstone that cannot be decoded is replaced.
		if earlier, err := parseTombstone(value); err == nil && earlier.After(until) {
			until = earlier
		}
	}
	err = s.write(ctx, func(ctx context.Context) error {
		return s.config.Backend.Put(ctx, id, marshalTombstone(until), ttl)
	})
	if err != nil {
		return s.outcomeOf(ctx, err), err
	}
	return &s.stats.Revoked, nil
}

// IdentityRevoked reports whether a session must not be resumed because RevokeIdentity was
// called for its identity after the session was created, or up to a minute before. session
// is a session as Get returned it. scope and key name the identity as in RevokeIdentity.
// source is the network of the client, as in Get.
//
// IdentityRevoked also reports true if the answer is not known: if the Backend fails or
// takes longer than LookupTimeout, if the stored time cannot be decoded, or if too many
// lookups are in flight. That only means a full handshake.
func (s *Store) IdentityRevoked(ctx context.Context, source netip.Prefix, scope, key string, session *Session) bool {
	revoked, outcome, err := s.identityRevoked(ctx, source, tombstoneID(scope, key), session)
	s.count(&s.stats.IdentityChecks, outcome, err)
	return revoked
}

func (s *Store) identityRevoked(ctx context.Context, source netip.Prefix, id []byte, session *Session) (revoked bool, outcome *uint64, err error) {
	c := &s.stats
	if value, ok, _ := s.revoked.Get(context.Background(), id); ok { // a Backend can have evicted its tombstone
		if until, err := parseTombstone(value); err == nil && !session.Created.After(until.Add(clockSkew)) {
			return true, &c.RevokedSessions, nil
		}
	}
	value, ok, err := s.lookUp(ctx, source, id)
	if err != nil {
		return true, s.outcomeOf(ctx, err), err
	}
	if !ok {
		return false, &c.UnrevokedSessions, nil
	}
	until, err := parseTombstone(value)
	switch {
	case err != nil:
		return true, &c.Garbage, err
	case session.Created.After(until.Add(clockSkew)):
		return false, &c.UnrevokedSessions, nil
	}
	return true, &c.RevokedSessions, nil
}

// tombstoneID returns the id of the tombstone of an identity. The length of the scope
// keeps scope and key apart.
func tombstoneID(scope, key string) []byte {
	name := binary.BigEndian.AppendUint64([]byte(tombstoneDomain), uint64(len(scope)))
	name = append(append(name, scope...), key...)
	id := sha256.Sum256(name)
	copy(id[sessionIDLen-len(tombstoneMark):], tombstoneMark)
	return id[:]
}

// isTombstoneID reports whether an id is reserved for tombstones.
func isTombstoneID(id []byte) bool { return bytes.HasSuffix(id, []byte(tombstoneMark)) }

func marshalTombstone(until time.Time) []byte {
	return binary.BigEndian.AppendUint64([]byte{tombstoneVersion}, uint64(until.UnixMilli()))
}

func parseTombstone(value []byte) (until time.Time, err error) {
	if len(value) != tombstoneLen || value[0] != tombstoneVersion {
		return until, errors.New("resume: not the revocation of an identity")
	}
	return time.UnixMilli(int64(binary.BigEndian.Uint64(value[1:]))), nil
}

// SPDX-License-Identifier: MIT

package resume

import (
	"bytes"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// Store keeps Sessions in a Backend and bounds the time and the concurrent calls that
// it spends on the Backend. Make one with New; the zero Store cannot be used. A Store is
// safe for concurrent use, must not be copied and needs no closing.
type Store struct {
	// Set in New, never changed.
	config  Config
	revoked *Memory // session id to the SHA-256 of the revoked session's Secret

	mu sync.Mutex
	// mu guards the following. The Backend and the Logger are called without it.
	stats           Stats
	lookupsBySource map[netip.Prefix]int // lookups in flight; a network without any has no entry
	lastWarnStats   Stats                // stats at the time of the last warning
	lastWarn        time.Time            // zero until the first warning
}

// New returns a Store.
func New(config Config) (*Store, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	revoked, err := NewMemory(maxRevoked)
	if err != nil {
		return nil, err
	}
	return &Store{config: config, revoked: revoked, lookupsBySource: map[netip.Prefix]int{}}, nil
}

// Get returns the session with an id, for a client in the network source, such as an
// IPv4 /24 or an IPv6 /64. The caller may modify the Session.
//
// Get reports false if the session does not exist, has expired or was revoked, if the
// Backend fails or takes longer than LookupTimeout, or if too many lookups are in flight.
// Get does not know the session's identity: see IdentityRevoked.
func (s *Store) Get(ctx context.Context, source netip.Prefix, id []byte) (*Session, bool) {
	session, outcome, err := s.get(ctx, source, id)
	s.count(&s.stats.Gets, outcome, err)
	return session, session != nil
}

// get does the work of Get. outcome is the counter in s.stats for how the call ended,
// as it is for put and remove.
func (s *Store) get(ctx context.Context, source netip.Prefix, id []byte) (session *Session, outcome *uint64, err error) {
	c := &s.stats
	switch {
	case len(id) != sessionIDLen:
		return nil, &c.WrongIDs, nil
	case isTombstoneID(id):
		return nil, &c.Misses, nil
	}
	value, ok, err := s.lookUp(ctx, source, bytes.Clone(id))
	if err != nil {
		return nil, s.outcomeOf(ctx, err), err
	}
	if !ok {
		return nil, &c.Misses, nil
	}
	session, err = Unmarshal(value)
	switch {
	case err != nil:
		return nil, &c.Garbage, err
	case !time.Now().Before(s.expiry(session)): // the Store that stored it may have a longer Lifetime
		return nil, &c.Expired, nil
	case s.isRevoked(id, session):
		return nil, &c.Misses, nil
	}
	return session, &c.Hits, nil
}

// Put stores a session under an id of 32 bytes. It sets session.Created to the current
// time if it is zero, and session.Expires to Lifetime after Created if it is zero or
// later than that. Storing the same Session again therefore does not extend its life.
//
// Put returns ErrRevoked if the session was revoked, ErrBusy if too many writes are in
// flight, and an error if the id has another length, if the session has expired, or if
// Marshal or the Backend fails. Put also returns an error for an id that is reserved for
// RevokeIdentity, which one of 2^64 random ids is. After a timeout the Backend may still store the session.
func (s *Store) Put(ctx context.Context, id []byte, session *Session) error {
	outcome, err := s.put(ctx, id, session)
	s.count(&s.stats.Puts, outcome, err)
	return err
}

func (s *Store) put(ctx context.Context, id []byte, session *Session) (outcome *uint64, err error) {
	c := &s.stats
	if len(id) != sessionIDLen {
		return &c.WrongIDs, fmt.Errorf("resume: an id of %d bytes: want %d", len(id), sessionIDLen)
	}
	switch {
	case isTombstoneID(id):
		return &c.Invalid, errors.New("resume: the id is reserved")
	case s.isRevoked(id, session):
		return &c.Invalid, ErrRevoked
	}
	now := time.Now()
	if session.Created.IsZero() {
		session.Created = now.UTC().Truncate(time.Millisecond) // the precision of the encoding
	}
	session.Expires = s.expiry(session)
	ttl := min(session.Expires.Sub(now), s.config.Lifetime) // Created may come from a clock that runs ahead
	if ttl <= 0 {
		return &c.Invalid, errors.New("resume: the session has expired")
	}
	value, err := session.Marshal()
	if err != nil {
		return &c.Invalid, err
	}
	id = bytes.Clone(id) // an abandoned call may read the id after Put has returned
	err = s.write(ctx, func(ctx context.Context) error { return s.config.Backend.Put(ctx, id, value, ttl) })
	if err != nil {
		return s.outcomeOf(ctx, err), fmt.Errorf("resume: storing a session: %w", err)
	}
	return &c.Stored, nil
}

// expiry returns the time at which a session expires: Expires if it is set, but at most
// Lifetime after Created.
func (s *Store) expiry(session *Session) time.Time {
	limit := session.Created.Add(s.config.Lifetime)
	if session.Expires.IsZero() || session.Expires.After(limit) {
		return limit
	}
	return session.Expires
}

// Delete removes a session, even if its Data has changed since it was read. It returns
// nil if there is no entry, or if the entry under the id has another Secret and so
// belongs to another session.
//
// Delete returns an error if the entry cannot be decoded: it may be this session in the
// encoding of another version. Delete calls the Backend twice, and up to eight times if
// the entry is replaced meanwhile. Each of these calls may take LookupTimeout.
func (s *Store) Delete(ctx context.Context, id []byte, session *Session) error {
	outcome, err := s.remove(ctx, id, session)
	if err != nil {
		err = fmt.Errorf("resume: removing a session: %w", err)
	}
	s.count(&s.stats.Deletes, outcome, err)
	return err
}

func (s *Store) remove(ctx context.Context, id []byte, session *Session) (outcome *uint64, err error) {
	c := &s.stats
	switch {
	case len(id) != sessionIDLen:
		return &c.WrongIDs, nil
	case isTombstoneID(id):
		return &c.Absent, nil
	}
	id = bytes.Clone(id) // an abandoned call may read the id after Delete has returned
	for range maxDeleteAttempts {
		value, ok, err := s.readToWrite(ctx, id)
		if err != nil {
			return s.outcomeOf(ctx, err), err
		}
		if !ok {
			return &c.Absent, nil
		}
		found, err := Unmarshal(value)
		if err != nil {
			return &c.Garbage, err
		}
		if subtle.ConstantTimeCompare(found.Secret, session.Secret) != 1 {
			return &c.Absent, nil
		}
		var deleted bool
		err = s.write(ctx, func(ctx context.Context) (err error) {
			deleted, err = s.config.Backend.Delete(ctx, id, value)
			return err
		})
		if err != nil {
			return s.outcomeOf(ctx, err), err
		}
		if deleted {
			return &c.Deleted, nil
		}
	}
	return &c.Contended, errors.New("the entry changed during each attempt")
}

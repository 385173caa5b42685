// SPDX-License-Identifier: MIT

package resume

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"time"
)

// What Config means where it is zero, and the longest Lifetime there can be.
const (
	DefaultEntries       = 10000
	DefaultLookupTimeout = 50 * time.Millisecond
	DefaultLookups       = 256
	MaxLifetime          = 24 * time.Hour // RFC 5246 appendix F.1.4
	minShare             = 4
)

// Bounds that are not for the user to choose.
const (
	idLen       = 32          // bytes: pion's session ids
	deleteTries = 4           // for Delete, when the entry changes under it
	maxRevoked  = 1024        // sessions that are remembered as such: an authentic fatal alert each
	warnEvery   = time.Minute // at most one line
)

// ErrRevoked is Put's error for a session that was revoked.
var ErrRevoked = errors.New("resume: the session was revoked")

// ErrBusy is Put's and Delete's error when as many writes are in flight as there
// may be.
var ErrBusy = errors.New("resume: too many writes are in flight")

// Config says where a Store keeps its entries, and what it spends on them. The zero
// Config is usable. Negative numbers are errors, but where a field says what they
// mean.
type Config struct {
	// Backend keeps the entries. Nil means a Memory of DefaultEntries. It is the
	// caller's to close, after the last call of the Store.
	Backend Backend
	// Lifetime is for how long after its full handshake a session can be resumed.
	// Zero means MaxLifetime, and more is an error.
	Lifetime time.Duration
	// LookupTimeout bounds each call of the Backend. One that has not returned by
	// then is left behind, and counts as in flight until it does return. Zero means
	// DefaultLookupTimeout.
	LookupTimeout time.Duration
	// Lookups is how many Gets can be in flight at one time, and also how many
	// writes: calls of the Backend for Put and Delete. Zero means DefaultLookups.
	Lookups int
	// LookupsPerSource bounds the Gets of one network. Zero means a quarter of
	// Lookups, and at least 4; negative means no bound but Lookups.
	LookupsPerSource int
	// Logger is told, at most once a minute, of failures, timeouts and garbage
	// (Warn). Nil: nobody is.
	Logger *slog.Logger
}

// fill returns the Config with what its zero values mean.
func (c Config) fill() (Config, error) {
	for _, field := range []struct {
		name  string
		value int64
	}{
		{"Lifetime", int64(c.Lifetime)}, {"LookupTimeout", int64(c.LookupTimeout)}, {"Lookups", int64(c.Lookups)},
	} {
		if field.value < 0 {
			return c, fmt.Errorf("resume: Config.%s is negative", field.name)
		}
	}
	if c.Lifetime > MaxLifetime {
		return c, fmt.Errorf("resume: Config.Lifetime is %s, more than %s", c.Lifetime, MaxLifetime)
	}
	if c.Lifetime == 0 {
		c.Lifetime = MaxLifetime
	}
	if c.LookupTimeout == 0 {
		c.LookupTimeout = DefaultLookupTimeout
	}
	if c.Lookups == 0 {
		c.Lookups = DefaultLookups
	}
	switch {
	case c.LookupsPerSource == 0:
		c.LookupsPerSource = max(minShare, c.Lookups/4)
	case c.LookupsPerSource < 0:
		c.LookupsPerSource = c.Lookups
	}
	if c.Backend == nil {
		var err error
		if c.Backend, err = NewMemory(DefaultEntries); err != nil {
			return c, err
		}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// Store keeps Sessions in a Backend, with bounds on time and on work in flight. Make
// one with New; the zero Store cannot be used. It is safe for concurrent use and must
// not be copied. It needs no closing.
type Store struct {
	// Set in New, never changed.
	config  Config
	revoked *Memory // a hash of the Secret of each session that was revoked lately

	mu sync.Mutex
	// mu guards the following. Nothing is called under it.
	stats    Stats
	sources  map[netip.Prefix]int // Gets in flight, of networks that have any
	warned   Stats                // as they were at the last line
	warnedAt time.Time
}

// New returns a Store.
func New(config Config) (*Store, error) {
	config, err := config.fill()
	if err != nil {
		return nil, err
	}
	revoked, err := NewMemory(maxRevoked)
	if err != nil {
		return nil, err
	}
	return &Store{config: config, revoked: revoked, sources: map[netip.Prefix]int{}}, nil
}

// isRevoked is whether Revoke was called for a session.
func (s *Store) isRevoked(id []byte, session *Session) bool {
	grave, ok, _ := s.revoked.Get(context.Background(), id)
	sum := sha256.Sum256(session.Secret)
	return ok && subtle.ConstantTimeCompare(grave, sum[:]) == 1
}

// Stats are a Store's counts at one moment. The totals never decrease. Every call
// counts once when it returns, and once by how it ended:
//
//	Gets + Puts + Deletes = Hits + Misses + Expired + Garbage + Stored + Invalid +
//		Deleted + Absent + Contended + WrongIDs + Failures + TimedOut + Canceled + Refused
//
// Get gave a session for Hits, and none for the rest of Gets.
type Stats struct {
	Lookups int // Gets in flight, with those left behind
	Writes  int // the Backend's calls in flight for Put and Delete, with those left behind
	Sources int // networks that have Gets in flight

	Gets, Puts, Deletes uint64

	// Of Get alone.
	Hits    uint64
	Misses  uint64 // there was no entry, or that of a session that was revoked
	Expired uint64 // the Backend still had the entry, but its time was over

	// Of Put alone.
	Stored  uint64
	Invalid uint64 // a session that cannot be stored

	// Of Delete alone.
	Deleted   uint64
	Absent    uint64 // there was no entry, or another session's
	Contended uint64 // the entry was another each time

	// Of several.
	Garbage  uint64 // Get and Delete: the entry is no session
	WrongIDs uint64 // the id is not 32 bytes long
	Failures uint64 // the Backend gave an error
	TimedOut uint64 // it took LookupTimeout, or gave up itself for lack of time
	Canceled uint64 // the caller's context ended first
	Refused  uint64 // too many were in flight
}

// Stats returns the counts.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	stats := s.stats
	stats.Sources = len(s.sources)
	s.mu.Unlock()
	return stats
}

// Get looks a session up, for a client in the network source: an IPv4 /24 or an IPv6
// /64, say. It is false if there is none, or it has expired, and whatever else the
// reason: it takes no longer than LookupTimeout. The Session is the caller's.
func (s *Store) Get(ctx context.Context, source netip.Prefix, id []byte) (*Session, bool) {
	session, end, err := s.get(ctx, source.Masked(), id)
	s.count(&s.stats.Gets, end, err)
	return session, session != nil
}

// get returns the count for how it ended, as put and remove do.
func (s *Store) get(ctx context.Context, source netip.Prefix, id []byte) (*Session, *uint64, error) {
	c := &s.stats
	if len(id) != idLen {
		return nil, &c.WrongIDs, nil
	}
	if !s.beginLookup(source) {
		return nil, &c.Refused, nil
	}
	value, ok, err := s.fetch(ctx, bytes.Clone(id), func() { s.endLookup(source) })
	if err != nil {
		return nil, s.endOf(ctx, err), err
	}
	if !ok {
		return nil, &c.Misses, nil
	}
	session, err := Unmarshal(value)
	switch {
	case err != nil:
		return nil, &c.Garbage, err
	case !time.Now().Before(s.expiry(session)): // who stored it may allow a longer life
		return nil, &c.Expired, nil
	case s.isRevoked(id, session):
		return nil, &c.Misses, nil
	}
	return session, &c.Hits, nil
}

// Put stores a session. It fills in what is not set, so that storing the Session again
// gives it no longer life: Created is now, and Expires is Lifetime after Created; no
// later Expires is kept either.
//
// It is an error if the id is not 32 bytes long, the Session has expired, or Marshal
// refuses it; ErrRevoked if it was; ErrBusy if too many writes are in flight; or the Backend's. If that took
// LookupTimeout, the session may still be stored.
func (s *Store) Put(ctx context.Context, id []byte, session *Session) error {
	end, err := s.put(ctx, id, session)
	s.count(&s.stats.Puts, end, err)
	return err
}

func (s *Store) put(ctx context.Context, id []byte, session *Session) (*uint64, error) {
	c := &s.stats
	if len(id) != idLen {
		return &c.WrongIDs, fmt.Errorf("resume: an id of %d bytes: want %d", len(id), idLen)
	}
	if s.isRevoked(id, session) {
		return &c.Invalid, ErrRevoked
	}
	now := time.Now()
	if session.Created.IsZero() {
		session.Created = now.UTC().Truncate(time.Millisecond) // what will be read again
	}
	session.Expires = s.expiry(session)
	ttl := min(session.Expires.Sub(now), s.config.Lifetime) // Created is another's, and may lie ahead
	if ttl <= 0 {
		return &c.Invalid, errors.New("resume: the session has expired")
	}
	value, err := session.Marshal()
	if err != nil {
		return &c.Invalid, err
	}
	id = bytes.Clone(id) // the call may be left behind, and the caller use its id again
	err = s.write(ctx, func(ctx context.Context) error { return s.config.Backend.Put(ctx, id, value, ttl) })
	if err != nil {
		return s.endOf(ctx, err), fmt.Errorf("resume: storing a session: %w", err)
	}
	return &c.Stored, nil
}

// expiry is when a session expires: Lifetime after it was created, or before.
func (s *Store) expiry(session *Session) time.Time {
	limit := session.Created.Add(s.config.Lifetime)
	if session.Expires.IsZero() || session.Expires.After(limit) {
		return limit
	}
	return session.Expires
}

// Revoke is Delete, after which this Store never stores or gives the session again,
// whatever becomes of the Backend's entry: a Put can be under way, or another Conn know
// the session still. It remembers the last 1024.
func (s *Store) Revoke(ctx context.Context, id []byte, session *Session) error {
	sum := sha256.Sum256(session.Secret)
	// An id of another length is found nowhere anyway.
	_ = s.revoked.Put(context.Background(), id, sum[:], s.config.Lifetime)
	return s.Delete(ctx, id, session)
}

// Delete removes a session, whatever its Data is now. It is no error if it is not
// there, or the id belongs to another session: one with another Secret. It is one if
// the entry cannot be decoded, which may be this session as another version stores it.
// Each call of the Backend may take LookupTimeout: there are two, and more if others
// store under this id meanwhile.
func (s *Store) Delete(ctx context.Context, id []byte, session *Session) error {
	end, err := s.remove(ctx, id, session)
	if err != nil {
		err = fmt.Errorf("resume: removing a session: %w", err)
	}
	s.count(&s.stats.Deletes, end, err)
	return err
}

func (s *Store) remove(ctx context.Context, id []byte, session *Session) (*uint64, error) {
	c := &s.stats
	if len(id) != idLen {
		return &c.WrongIDs, nil
	}
	id = bytes.Clone(id)
	for range deleteTries {
		if !s.beginWrite() {
			return &c.Refused, ErrBusy
		}
		value, ok, err := s.fetch(ctx, id, s.endWrite)
		if err != nil {
			return s.endOf(ctx, err), err
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
			return s.endOf(ctx, err), err
		}
		if deleted {
			return &c.Deleted, nil
		}
	}
	return &c.Contended, errors.New("the entry is another each time")
}

// fetch gets an entry of the Backend, as ask does. The id must stay as it is: the call
// may be left behind.
func (s *Store) fetch(ctx context.Context, id []byte, end func()) ([]byte, bool, error) {
	var value []byte
	var ok bool
	err := s.ask(ctx, end, func(ctx context.Context) (err error) {
		value, ok, err = s.config.Backend.Get(ctx, id)
		return err
	})
	if err != nil {
		return nil, false, err // and value may still be written
	}
	return value, ok, nil
}

// write asks the Backend if there is room for one more write.
func (s *Store) write(ctx context.Context, call func(context.Context) error) error {
	if !s.beginWrite() {
		return ErrBusy
	}
	return s.ask(ctx, s.endWrite, call)
}

// ask waits for a call of the Backend, but not longer than LookupTimeout, whether the
// Backend heeds its context or not. end is called when the call has returned, and
// before ask does if that is in time. After an error the call may still be running.
func (s *Store) ask(ctx context.Context, end func(), call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.config.LookupTimeout)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		err := call(ctx)
		end()
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// endOf returns the count for an error of ask or write. The context is the caller's.
func (s *Store) endOf(ctx context.Context, err error) *uint64 {
	switch {
	case errors.Is(err, ErrBusy):
		return &s.stats.Refused
	case ctx.Err() != nil:
		return &s.stats.Canceled
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return &s.stats.TimedOut
	}
	return &s.stats.Failures
}

func (s *Store) beginLookup(source netip.Prefix) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.sources[source]
	if s.stats.Lookups >= s.config.Lookups || n >= s.config.LookupsPerSource {
		return false
	}
	s.stats.Lookups++
	s.sources[source] = n + 1
	return true
}

func (s *Store) endLookup(source netip.Prefix) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Lookups--
	if s.sources[source]--; s.sources[source] == 0 {
		delete(s.sources, source)
	}
}

func (s *Store) beginWrite() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stats.Writes >= s.config.Lookups {
		return false
	}
	s.stats.Writes++
	return true
}

func (s *Store) endWrite() {
	s.mu.Lock()
	s.stats.Writes--
	s.mu.Unlock()
}

// count counts a call and how it ended, and warns if it is time.
func (s *Store) count(call, end *uint64, err error) {
	c := &s.stats
	trouble := end == &c.Failures || end == &c.TimedOut || end == &c.Garbage
	var failures, timedOut, garbage uint64

	s.mu.Lock()
	*call++
	*end++
	warn := trouble && (s.warnedAt.IsZero() || time.Since(s.warnedAt) >= warnEvery)
	if warn {
		failures, timedOut, garbage = c.Failures-s.warned.Failures, c.TimedOut-s.warned.TimedOut, c.Garbage-s.warned.Garbage
		s.warned, s.warnedAt = *c, time.Now()
	}
	s.mu.Unlock()

	if warn {
		s.config.Logger.Warn("resumption is impaired", "failures", failures, "timeouts", timedOut, "garbage", garbage, "error", err)
	}
}

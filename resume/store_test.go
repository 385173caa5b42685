// SPDX-License-Identifier: MIT

package resume

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	source4 = netip.MustParsePrefix("192.0.2.0/24")
	source6 = netip.MustParsePrefix("2001:db8::/64")
)

// fakeBackend is a Memory whose methods a test can replace. A test replaces them only
// while no call is starting; after a timeout, synctest.Wait makes sure of that.
type fakeBackend struct {
	*Memory
	get    func(ctx context.Context, id []byte) ([]byte, bool, error)
	put    func(ctx context.Context, id, value []byte, ttl time.Duration) error
	delete func(ctx context.Context, id, value []byte) (bool, error)
}

func (f *fakeBackend) Get(ctx context.Context, id []byte) ([]byte, bool, error) {
	if f.get != nil {
		return f.get(ctx, id)
	}
	return f.Memory.Get(ctx, id)
}

func (f *fakeBackend) Put(ctx context.Context, id, value []byte, ttl time.Duration) error {
	if f.put != nil {
		return f.put(ctx, id, value, ttl)
	}
	return f.Memory.Put(ctx, id, value, ttl)
}

func (f *fakeBackend) Delete(ctx context.Context, id, value []byte) (bool, error) {
	if f.delete != nil {
		return f.delete(ctx, id, value)
	}
	return f.Memory.Delete(ctx, id, value)
}

func newStore(t testing.TB, config Config) (*Store, *fakeBackend) {
	f := &fakeBackend{Memory: newMemory(t, 100)}
	config.Backend = f
	s, err := New(config)
	require.NoError(t, err)
	return s, f
}

// checkStats returns the Stats. It checks that their sums agree and how many calls are in
// flight.
func checkStats(t testing.TB, s *Store, lookups, writes int) Stats {
	c := s.Stats()
	assert.Equal(t, c.Gets+c.Puts+c.Deletes+c.Revocations+c.IdentityChecks, c.Hits+c.Misses+c.Expired+c.Garbage+c.Stored+c.Invalid+
		c.Deleted+c.Absent+c.Contended+c.Revoked+c.RevokedSessions+c.UnrevokedSessions+c.WrongIDs+c.Failures+c.TimedOut+c.Canceled+c.Refused, "%+v", c)
	assert.Equal(t, []int{lookups, writes}, []int{c.Lookups, c.Writes}, "in flight")
	if lookups == 0 {
		assert.Zero(t, c.Sources)
	}
	return c
}

func TestStoreRoundTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newStore(t, Config{})
		put := fullSession()
		put.Created, put.Expires = time.Time{}, time.Time{}
		time.Sleep(1234567) // so that the current time has a fraction of a millisecond
		now := time.Now().UTC().Truncate(time.Millisecond)
		require.NoError(t, s.Put(background, testID(1), put))
		assert.Equal(t, []time.Time{now, now.Add(24 * time.Hour)}, []time.Time{put.Created, put.Expires})

		got, ok := s.Get(background, source4, testID(1))
		require.True(t, ok)
		assert.Equal(t, put, got)
		_, ok = s.Get(background, source4, testID(2))
		assert.False(t, ok)

		got.Secret[0]++ // the caller may modify it
		got, _ = s.Get(background, source4, testID(1))
		assert.Equal(t, put, got)

		assert.NoError(t, s.Delete(background, testID(1), &Session{Secret: testSecret('x')}), "another session's secret")
		assert.NoError(t, s.Delete(background, testID(1), &Session{}))
		assert.NoError(t, s.Delete(background, testID(2), put))
		_, ok = s.Get(background, source4, testID(1))
		assert.True(t, ok)
		put.Data = []byte("not what is stored")
		assert.NoError(t, s.Delete(background, testID(1), put))
		_, ok = s.Get(background, source4, testID(1))
		assert.False(t, ok)

		assert.Equal(t, Stats{Gets: 5, Puts: 1, Deletes: 4, Hits: 3, Misses: 2, Stored: 1, Deleted: 1, Absent: 3}, checkStats(t, s, 0, 0))
	})
}

// A session expires Lifetime after its full handshake, however often it is stored.
func TestStoringAgainDoesNotExtendLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f := newStore(t, Config{Lifetime: time.Hour})
		var ttl time.Duration
		f.put = func(ctx context.Context, id, value []byte, d time.Duration) error {
			ttl = d
			return f.Memory.Put(ctx, id, value, MaxLifetime) // so that only the Store can expire it
		}
		has := func() bool {
			_, ok := s.Get(background, source4, testID(1))
			return ok
		}
		session := &Session{Secret: testSecret(1)}
		require.NoError(t, s.Put(background, testID(1), session))
		assert.Equal(t, time.Hour, ttl)
		time.Sleep(45 * time.Minute)
		session.Data = []byte("new")
		require.NoError(t, s.Put(background, testID(1), session))
		assert.Equal(t, 15*time.Minute, ttl)
		time.Sleep(15*time.Minute - 1)
		assert.True(t, has())
		time.Sleep(time.Nanosecond)
		assert.False(t, has())
		assert.ErrorContains(t, s.Put(background, testID(1), session), "has expired")
		assert.EqualValues(t, 1, s.Stats().Expired)

		now := time.Now().UTC()
		for name, c := range map[string]struct{ created, expires, want time.Time }{
			"expires sooner":                     {now, now.Add(time.Minute), now.Add(time.Minute)},
			"expires too late":                   {now, now.Add(2 * time.Hour), now.Add(time.Hour)},
			"created by a clock that runs ahead": {now.Add(time.Minute), time.Time{}, now.Add(time.Hour + time.Minute)},
		} {
			session := &Session{Secret: testSecret(1), Created: c.created, Expires: c.expires}
			require.NoError(t, s.Put(background, testID(1), session), name)
			assert.Equal(t, c.want, session.Expires, name)
			assert.Equal(t, min(c.want.Sub(now), time.Hour), ttl, name)
		}

		// The longer Lifetime of another server does not apply to this Store.
		longer, _ := newStore(t, Config{})
		longer.config.Backend = f
		require.NoError(t, longer.Put(background, testID(1), &Session{Secret: testSecret(1)}))
		time.Sleep(time.Hour - 1)
		assert.True(t, has())
		time.Sleep(time.Nanosecond)
		assert.False(t, has())
		_, ok := longer.Get(background, source4, testID(1))
		assert.True(t, ok)
		checkStats(t, s, 0, 0)
	})
}

func TestStoreRefusesIDsOfWrongLength(t *testing.T) {
	s, f := newStore(t, Config{})
	f.get = func(context.Context, []byte) ([]byte, bool, error) {
		t.Error("the backend was called")
		return nil, false, nil
	}
	for n := range 50 {
		id := make([]byte, n)
		if n == sessionIDLen {
			continue
		}
		_, ok := s.Get(background, source4, id)
		assert.False(t, ok)
		assert.ErrorContains(t, s.Put(background, id, &Session{Secret: testSecret(1)}), fmt.Sprintf("an id of %d bytes: want 32", n))
		assert.NoError(t, s.Delete(background, id, &Session{Secret: testSecret(1)}))
	}
	assert.Zero(t, f.Len())
	assert.EqualValues(t, 3*49, checkStats(t, s, 0, 0).WrongIDs)
}

func TestPutRefusesInvalidSessions(t *testing.T) {
	s, f := newStore(t, Config{})
	assert.ErrorContains(t, s.Put(background, testID(1), &Session{}), "a secret of 0 bytes: want 48")
	assert.ErrorContains(t, s.Put(background, testID(1), &Session{Secret: testSecret(1), Data: make([]byte, MaxData+1)}), "1025 bytes of data")
	assert.ErrorContains(t, s.Put(background, testID(1), &Session{Secret: testSecret(1), Scope: string(make([]byte, MaxEncoded))}), "want at most 65536")
	assert.ErrorContains(t, s.Put(background, testID(1), &Session{Secret: testSecret(1), Created: time.Now().Add(-25 * time.Hour)}), "has expired")
	assert.Zero(t, f.Len())
	assert.EqualValues(t, 4, checkStats(t, s, 0, 0).Invalid)
}

func TestUndecodableEntryIsMissForGetAndErrorForDelete(t *testing.T) {
	s, f := newStore(t, Config{LookupTimeout: time.Minute})
	valid, err := (&Session{Secret: testSecret(1)}).Marshal()
	require.NoError(t, err)
	for _, value := range [][]byte{nil, []byte("garbage"), valid[1:], append(valid, 0), make([]byte, MaxEncoded)} {
		require.NoError(t, f.Memory.Put(background, testID(1), value, time.Hour))
		_, ok := s.Get(background, source4, testID(1))
		assert.False(t, ok)
		assert.ErrorContains(t, s.Delete(background, testID(1), &Session{Secret: testSecret(1)}), "resume: removing a session")
	}
	assert.EqualValues(t, 10, checkStats(t, s, 0, 0).Garbage)
}

// The entry changes after Delete has read it and before Delete removes it.
func TestDeleteWhileEntryChanges(t *testing.T) {
	session := &Session{Secret: testSecret(1)}
	newData := func(n int) *Session { return &Session{Secret: testSecret(1), Data: []byte{byte(n)}} }
	for name, c := range map[string]struct {
		changes int                  // before that many removals
		replace func(n int) *Session // nil: the entry is removed
		want    string               // Delete's error
		stats   Stats
		found   bool // whether there is an entry afterwards
	}{
		"new data":        {3, newData, "", Stats{Deleted: 1}, false},
		"always new data": {99, newData, "changed during each attempt", Stats{Contended: 1}, true},
		"another session": {1, func(int) *Session { return &Session{Secret: testSecret(2)} }, "", Stats{Absent: 1}, true},
		"removed":         {1, nil, "", Stats{Absent: 1}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s, f := newStore(t, Config{LookupTimeout: time.Minute})
			require.NoError(t, s.Put(background, testID(1), session))
			changes := 0
			f.delete = func(ctx context.Context, id, value []byte) (bool, error) {
				if changes++; changes <= c.changes {
					if c.replace == nil {
						_, err := f.Memory.Delete(ctx, id, value)
						require.NoError(t, err)
					} else {
						require.NoError(t, s.Put(ctx, id, c.replace(changes)))
					}
				}
				return f.Memory.Delete(ctx, id, value)
			}
			err := s.Delete(background, testID(1), session)
			if c.want == "" {
				assert.NoError(t, err)
			} else {
				assert.ErrorContains(t, err, c.want)
			}
			_, ok := s.Get(background, source4, testID(1))
			assert.Equal(t, c.found, ok)
			stats := checkStats(t, s, 0, 0)
			assert.Equal(t, c.stats, Stats{Deleted: stats.Deleted, Absent: stats.Absent, Contended: stats.Contended})
		})
	}
}

// Many goroutines call a Store whose backend is slow, hangs, fails and returns garbage in
// turn.
func TestStoreStress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f := newStore(t, Config{Lookups: 20, Lifetime: time.Minute})
		delayOrFail := func() error {
			switch n := rand.IntN(20); n {
			case 0:
				time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond)
			case 1:
				return errors.New("down")
			default:
				time.Sleep(time.Duration(n) * time.Millisecond)
			}
			return nil
		}
		f.get = func(_ context.Context, id []byte) ([]byte, bool, error) {
			if err := delayOrFail(); err != nil {
				return nil, false, err
			}
			if rand.IntN(20) == 0 {
				return id, true, nil
			}
			return f.Memory.Get(background, id)
		}
		f.put = func(_ context.Context, id, value []byte, ttl time.Duration) error {
			return errors.Join(delayOrFail(), f.Memory.Put(background, id, value, ttl))
		}
		f.delete = func(_ context.Context, id, value []byte) (bool, error) {
			if err := delayOrFail(); err != nil {
				return false, err
			}
			return f.Memory.Delete(background, id, value)
		}
		var callers sync.WaitGroup
		for i := range 60 {
			callers.Go(func() {
				source := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i % 5), byte(i)}), 24)
				for n := range 200 {
					id := testID(uint32(n % 10))
					session := &Session{Secret: testSecret(byte(n % 10)), Data: []byte{byte(i), byte(n)}}
					switch i % 5 {
					case 0:
						s.Put(background, id, session)
					case 1:
						s.Delete(background, id, session)
					case 2:
						if found, ok := s.Get(background, source, id); ok {
							assert.Equal(t, session.Secret, found.Secret)
						}
					case 3:
						s.RevokeIdentity(background, "stress", fmt.Sprint(n%10))
					case 4: // half of the identities are never revoked
						s.IdentityRevoked(background, source, "stress", fmt.Sprint(n%20), session)
					}
					stats := s.Stats()
					assert.True(t, stats.Lookups >= 0 && stats.Lookups <= 20 && stats.Writes >= 0 && stats.Writes <= 20 && stats.Sources <= 5, "%+v", stats)
					clear(id)
					time.Sleep(time.Duration(rand.IntN(50)) * time.Millisecond)
				}
			})
		}
		callers.Wait()
		time.Sleep(time.Second)
		synctest.Wait()
		stats := checkStats(t, s, 0, 0)
		assert.Equal(t, []uint64{2400, 2400, 2400, 2400, 2400}, []uint64{stats.Gets, stats.Puts, stats.Deletes, stats.Revocations, stats.IdentityChecks})
		for _, field := range []string{"Hits", "Misses", "Garbage", "Stored", "Deleted", "Absent", "Revoked", "RevokedSessions", "UnrevokedSessions",
			"Failures", "TimedOut", "Refused"} {
			assert.NotZero(t, reflect.ValueOf(stats).FieldByName(field).Uint(), field)
		}
	})
}

func BenchmarkStore(b *testing.B) {
	s, err := New(Config{})
	require.NoError(b, err)
	session := &Session{Secret: testSecret(1), Suite: 0xc0a8, PSKIdentity: []byte("device-17"), Scope: "devices"}
	require.NoError(b, s.Put(background, testID(1), session))
	require.NoError(b, s.RevokeIdentity(background, "devices", "revoked"))
	for name, call := range map[string]func(){
		"Hit":               func() { s.Get(background, source4, testID(1)) },
		"Miss":              func() { s.Get(background, source4, testID(2)) },
		"Put":               func() { s.Put(background, testID(1), session) },
		"IdentityRevoked":   func() { s.IdentityRevoked(background, source4, "devices", "revoked", session) },
		"IdentityUnrevoked": func() { s.IdentityRevoked(background, source4, "devices", "device-17", session) },
		"RevokeIdentity":    func() { s.RevokeIdentity(background, "devices", "revoked") },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				call()
			}
		})
	}
}

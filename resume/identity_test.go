// SPDX-License-Identifier: MIT

package resume

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// createdAt returns a session that was created at a time.
func createdAt(created time.Time) *Session {
	return &Session{Secret: testSecret(1), Created: created}
}

// tombstoneTime returns the time in the tombstone of an identity in the Memory of f.
func tombstoneTime(t testing.TB, f *fakeBackend, scope, key string) time.Time {
	value, ok, err := f.Memory.Get(background, tombstoneID(scope, key))
	require.NoError(t, err)
	require.True(t, ok, "there is no tombstone")
	until, err := parseTombstone(value)
	require.NoError(t, err)
	return until
}

func TestRevokeIdentityRevokesSessionsOfBeforeAndOfNextMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newStore(t, Config{})
		revoked := func(session *Session) bool {
			return s.IdentityRevoked(background, source4, "devices", "psk:17", session)
		}
		require.NoError(t, s.Put(background, testID(1), &Session{Secret: testSecret(1)}))
		before, ok := s.Get(background, source4, testID(1))
		require.True(t, ok)
		assert.False(t, revoked(before), "no identity is revoked")

		time.Sleep(1500 * time.Microsecond)
		now := time.Now().Truncate(time.Millisecond) // the precision of both times
		require.NoError(t, s.RevokeIdentity(background, "devices", "psk:17"))
		assert.True(t, revoked(before))
		for sinceRevocation, want := range map[time.Duration]bool{
			-24 * time.Hour: true, -time.Millisecond: true, 0: true, time.Minute: true,
			time.Minute + time.Millisecond: false, time.Hour: false,
		} {
			assert.Equal(t, want, revoked(createdAt(now.Add(sinceRevocation))), "%s after the revocation", sinceRevocation)
		}
		assert.True(t, revoked(&Session{}), "an unknown time of creation")

		// The identity itself is not barred: its sessions can be resumed again after a minute.
		time.Sleep(time.Minute + time.Millisecond)
		require.NoError(t, s.Put(background, testID(2), &Session{Secret: testSecret(2)}))
		after, ok := s.Get(background, source4, testID(2))
		require.True(t, ok)
		assert.False(t, revoked(after))
		assert.True(t, revoked(before))

		assert.Equal(t, Stats{Puts: 2, Stored: 2, Gets: 2, Hits: 2, Revocations: 1, Revoked: 1,
			IdentityChecks: 11, RevokedSessions: 7, UnrevokedSessions: 4}, checkStats(t, s, 0, 0))
	})
}

// The tombstone outlives each session that it revokes, also one that is stored again, and
// one of a server whose clock is a minute ahead.
func TestTombstoneOutlivesRevokedSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f := newStore(t, Config{Lifetime: time.Hour})
		var ttls []time.Duration
		f.put = func(ctx context.Context, id, value []byte, ttl time.Duration) error {
			if isTombstoneID(id) {
				ttls = append(ttls, ttl)
			}
			return f.Memory.Put(ctx, id, value, ttl)
		}
		session := createdAt(time.Now().Add(time.Minute)) // as the server ahead sees it
		require.NoError(t, s.RevokeIdentity(background, "devices", "psk:17"))
		time.Sleep(2 * time.Minute)
		require.NoError(t, s.Put(background, testID(1), session))
		time.Sleep(time.Hour - time.Minute - 1)
		found, ok := s.Get(background, source4, testID(1))
		require.True(t, ok, "the last moment of the session")
		assert.True(t, s.IdentityRevoked(background, source4, "devices", "psk:17", found))
		time.Sleep(time.Nanosecond)
		_, ok = s.Get(background, source4, testID(1))
		assert.False(t, ok)
		assert.False(t, s.IdentityRevoked(background, source4, "devices", "psk:17", found), "the tombstone has expired too")

		// A second call starts the time anew.
		require.NoError(t, s.RevokeIdentity(background, "devices", "psk:17"))
		time.Sleep(time.Hour)
		require.NoError(t, s.RevokeIdentity(background, "devices", "psk:17"))
		time.Sleep(time.Hour)
		assert.True(t, s.IdentityRevoked(background, source4, "devices", "psk:17", found))
		assert.Equal(t, []time.Duration{time.Hour + time.Minute, time.Hour + time.Minute, time.Hour + time.Minute}, ttls)
		checkStats(t, s, 0, 0)
	})
}

func TestScopeAndKeyAreKeptApart(t *testing.T) {
	s, f := newStore(t, Config{LookupTimeout: time.Minute})
	names := [][2]string{
		{"a", "bc"}, {"ab", "c"}, {"abc", ""}, {"", "abc"}, {"", ""}, {"a", "bC"}, {"a\x00", "bc"}, {"a", "\x00bc"}, {"bc", "a"},
		{"", "\x00\x00\x00\x00\x00\x00\x00\x00"}, {"\x00\x00\x00\x00\x00\x00\x00\x00", ""},
	}
	for i, revoked := range names {
		require.NoError(t, s.RevokeIdentity(background, revoked[0], revoked[1]))
		assert.Equal(t, i+1, f.Len())
		for n, name := range names {
			assert.Equal(t, n <= i, s.IdentityRevoked(background, source4, name[0], name[1], createdAt(testTime)), "%q", name)
		}
	}
	checkStats(t, s, 0, 0)
}

// Servers of different versions share tombstones.
func TestFormatOfTombstone(t *testing.T) {
	id := tombstoneID("devices", "psk:device-17")
	assert.Equal(t, "a8b603f65a3f524b5553cef64e99b2ae96561689621ffd05007265766f6b6564", hex.EncodeToString(id))
	value := marshalTombstone(testTime)
	assert.Equal(t, "010000019ca96133ae", hex.EncodeToString(value))
	_, err := Unmarshal(value)
	assert.ErrorContains(t, err, "not a session")

	for _, want := range []time.Time{testTime, time.UnixMilli(-1), time.UnixMilli(math.MaxInt64), time.UnixMilli(math.MinInt64)} {
		until, err := parseTombstone(marshalTombstone(want))
		require.NoError(t, err)
		assert.True(t, want.Equal(until))
	}
}

// Clients know how the id is made, and may guess the name of an identity.
func TestClientThatNamesTombstoneGetsMiss(t *testing.T) {
	var log bytes.Buffer
	s, f := newStore(t, Config{LookupTimeout: time.Minute, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	require.NoError(t, s.RevokeIdentity(background, "devices", "psk:17"))
	f.get = func(context.Context, []byte) ([]byte, bool, error) {
		t.Error("the backend was called")
		return nil, false, nil
	}
	for _, key := range []string{"psk:17", "psk:18"} {
		_, ok := s.Get(background, source4, tombstoneID("devices", key))
		assert.False(t, ok)
	}
	assert.Equal(t, Stats{Revocations: 1, Revoked: 1, Gets: 2, Misses: 2}, checkStats(t, s, 0, 0))
	assert.Empty(t, log.String())
}

func TestSessionsNeitherReplaceNorRemoveTombstones(t *testing.T) {
	s, f := newStore(t, Config{LookupTimeout: time.Minute})
	id := tombstoneID("devices", "psk:17")
	session := &Session{Secret: testSecret(1)}
	assert.ErrorContains(t, s.Put(background, id, session), "reserved", "before there is a tombstone")
	assert.Zero(t, f.Len())
	require.NoError(t, s.RevokeIdentity(background, "devices", "psk:17"))
	value, _, err := f.Memory.Get(background, id)
	require.NoError(t, err)

	assert.ErrorContains(t, s.Put(background, id, session), "reserved")
	assert.NoError(t, s.Delete(background, id, session))
	assert.NoError(t, s.Revoke(background, id, session))
	after, ok, err := f.Memory.Get(background, id)
	require.NoError(t, err)
	assert.True(t, ok)
	assert.Equal(t, value, after)
	assert.Equal(t, Stats{Revocations: 1, Revoked: 1, Puts: 2, Invalid: 2, Deletes: 2, Absent: 2}, checkStats(t, s, 0, 0))

	id[sessionIDLen-1]++ // an id that is not reserved
	assert.NoError(t, s.Put(background, id, session))
}

// Each server has a clock of its own. What the other has stored is in the backend.
func TestRevocationNeverMovesBackward(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f := newStore(t, Config{})
		revoke := func() { require.NoError(t, s.RevokeIdentity(background, "devices", "psk:17")) }
		start := time.Now()
		revoke()
		assert.True(t, start.Equal(tombstoneTime(t, f, "devices", "psk:17")))
		time.Sleep(time.Hour)
		revoke()
		assert.True(t, start.Add(time.Hour).Equal(tombstoneTime(t, f, "devices", "psk:17")), "forward")

		ahead := start.Add(time.Hour + 50*time.Second) // by the clock of another server
		require.NoError(t, f.Memory.Put(background, tombstoneID("devices", "psk:17"), marshalTombstone(ahead), time.Hour))
		revoke()
		assert.True(t, ahead.Equal(tombstoneTime(t, f, "devices", "psk:17")), "not backward")
		time.Sleep(51 * time.Second)
		revoke()
		assert.True(t, start.Add(time.Hour+51*time.Second).Equal(tombstoneTime(t, f, "devices", "psk:17")), "forward again")
		checkStats(t, s, 0, 0)
	})
}

// An entry that cannot be decoded revokes all sessions, until RevokeIdentity replaces it.
func TestUndecodableTombstoneRevokesAllSessions(t *testing.T) {
	var log bytes.Buffer
	s, f := newStore(t, Config{LookupTimeout: time.Minute, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	session, err := fullSession().Marshal()
	require.NoError(t, err)
	valid := marshalTombstone(testTime)
	later := createdAt(time.Now().Add(time.Hour))
	garbage := [][]byte{nil, valid[:8], append(bytes.Clone(valid), 0), append([]byte{2}, valid[1:]...), session, []byte("123456789")}
	for _, value := range garbage {
		require.NoError(t, f.Memory.Put(background, tombstoneID("devices", "psk:17"), value, time.Hour))
		assert.True(t, s.IdentityRevoked(background, source4, "devices", "psk:17", later), "%q", value)
		require.NoError(t, s.RevokeIdentity(background, "devices", "psk:17"))
		assert.False(t, s.IdentityRevoked(background, source4, "devices", "psk:17", later), "%q", value)
	}
	assert.EqualValues(t, len(garbage), checkStats(t, s, 0, 0).Garbage)
	assert.Contains(t, log.String(), "not the revocation of an identity")
}

func TestUnknownRevocationMeansRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f := newStore(t, Config{})
		session := createdAt(time.Now())
		revoked := func(ctx context.Context) bool { return s.IdentityRevoked(ctx, source4, "devices", "psk:17", session) }
		hang := func(ctx context.Context, _ []byte) ([]byte, bool, error) { <-ctx.Done(); return nil, false, ctx.Err() }

		f.get = func(context.Context, []byte) ([]byte, bool, error) { return nil, false, errors.New("down") }
		assert.True(t, revoked(background))
		f.get = hang
		start := time.Now()
		assert.True(t, revoked(background))
		assert.Equal(t, DefaultLookupTimeout, time.Since(start))
		ctx, cancel := context.WithTimeout(background, time.Millisecond)
		defer cancel()
		assert.True(t, revoked(ctx))
		assert.Equal(t, DefaultLookupTimeout+time.Millisecond, time.Since(start))
		synctest.Wait()
		assert.Equal(t, Stats{IdentityChecks: 3, Failures: 1, TimedOut: 1, Canceled: 1}, checkStats(t, s, 0, 0))
		f.get = nil
		assert.False(t, revoked(background), "the backend works again")
	})
}

// Get and IdentityRevoked have one bound, in total and for each network.
func TestHungIdentityChecksAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f := newStore(t, Config{Lookups: 5, LookupsPerSource: 2})
		session := createdAt(time.Now())
		revoked := func(source netip.Prefix) bool {
			return s.IdentityRevoked(background, source, "devices", "psk:17", session)
		}
		release := make(chan struct{})
		f.get = func(context.Context, []byte) ([]byte, bool, error) { <-release; return nil, false, nil }
		assert.True(t, revoked(source4))
		assert.True(t, revoked(netip.MustParsePrefix("192.0.2.200/24")), "the same network")
		checkStats(t, s, 2, 0)

		synctest.Wait()
		f.get = nil // what follows would find that no identity is revoked
		assert.True(t, revoked(source4), "LookupsPerSource is reached")
		assert.True(t, revoked(netip.MustParsePrefix("192.0.2.7/24")), "the same network")
		assert.False(t, revoked(source6))
		_, ok := s.Get(background, source4, testID(1))
		assert.False(t, ok)
		assert.EqualValues(t, 3, checkStats(t, s, 2, 0).Refused)

		f.get = func(context.Context, []byte) ([]byte, bool, error) { <-release; return nil, false, nil }
		for i := range 3 {
			s.Get(background, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i), 0}), 24), testID(1))
		}
		synctest.Wait()
		f.get = nil
		start := time.Now()
		assert.True(t, revoked(source6), "Lookups is reached")
		assert.Zero(t, time.Since(start))
		assert.NoError(t, s.RevokeIdentity(background, "devices", "psk:18"), "writes have a separate bound")
		stats := checkStats(t, s, 5, 0)
		assert.Equal(t, []uint64{4, 5, 1}, []uint64{stats.Refused, stats.TimedOut, stats.UnrevokedSessions})

		close(release)
		synctest.Wait()
		checkStats(t, s, 0, 0)
		assert.False(t, revoked(source4))
	})
}

func TestRevokeIdentityReturnsErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s, f := newStore(t, Config{Lookups: 2, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		revoke := func(ctx context.Context) error { return s.RevokeIdentity(ctx, "devices", "psk:17") }
		errDown := errors.New("it is down")
		f.get = func(context.Context, []byte) ([]byte, bool, error) { return nil, true, errDown }
		assert.ErrorIs(t, revoke(background), errDown)
		assert.Contains(t, log.String(), "resume: revoking the sessions of an identity: it is down")
		assert.Zero(t, f.Len(), "an earlier time could have been replaced")
		f.get = nil
		f.put = func(context.Context, []byte, []byte, time.Duration) error { return errDown }
		assert.ErrorIs(t, revoke(background), errDown)
		ctx, cancel := context.WithCancel(background)
		cancel()
		assert.ErrorIs(t, revoke(ctx), context.Canceled)
		synctest.Wait()
		assert.Equal(t, Stats{Revocations: 3, Failures: 2, Canceled: 1}, checkStats(t, s, 0, 0))

		// The calls of the backend are writes, and bounded as those of Put and Delete.
		release := make(chan struct{})
		f.get = func(context.Context, []byte) ([]byte, bool, error) { <-release; return nil, false, nil }
		assert.ErrorIs(t, revoke(background), context.DeadlineExceeded)
		synctest.Wait()
		f.get = nil
		f.put = func(context.Context, []byte, []byte, time.Duration) error { <-release; return nil }
		assert.ErrorIs(t, revoke(background), context.DeadlineExceeded)
		checkStats(t, s, 0, 2)
		start := time.Now()
		assert.ErrorIs(t, revoke(background), ErrBusy)
		assert.ErrorIs(t, s.Put(background, testID(1), &Session{Secret: testSecret(1)}), ErrBusy)
		assert.Zero(t, time.Since(start))
		assert.False(t, s.IdentityRevoked(background, source4, "devices", "psk:18", createdAt(start)), "lookups have a separate bound")
		assert.True(t, s.IdentityRevoked(background, source4, "devices", "psk:17", createdAt(start)), "the Store itself knows it")
		close(release)
		synctest.Wait()
		stats := checkStats(t, s, 0, 0)
		assert.Equal(t, []uint64{6, 2, 2}, []uint64{stats.Revocations, stats.TimedOut, stats.Refused})
		f.put = nil
		assert.NoError(t, revoke(background))
	})
}

func TestIdentityCallsFitBoundOfOne(t *testing.T) {
	s, _ := newStore(t, Config{Lookups: 1, LookupTimeout: time.Minute})
	for n := range 1000 {
		key := fmt.Sprint("psk:", n)
		require.False(t, s.IdentityRevoked(background, source4, "devices", key, createdAt(testTime)))
		require.NoError(t, s.RevokeIdentity(background, "devices", key))
		require.True(t, s.IdentityRevoked(background, source4, "devices", key, createdAt(testTime)))
	}
	checkStats(t, s, 0, 0)
}

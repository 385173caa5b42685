// SPDX-License-Identifier: MIT

package resume

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	transport "github.com/pion/transport/v2/test"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	here  = netip.MustParsePrefix("192.0.2.0/24")
	there = netip.MustParsePrefix("2001:db8::/64")
)

// fake is a Memory whose calls can be replaced, when none is just beginning: after a
// timeout synctest.Wait makes sure.
type fake struct {
	*Memory
	get func(ctx context.Context, id []byte) ([]byte, bool, error)
	put func(ctx context.Context, id, value []byte, ttl time.Duration) error
	del func(ctx context.Context, id, value []byte) (bool, error)
}

func (f *fake) Get(ctx context.Context, id []byte) ([]byte, bool, error) {
	if f.get != nil {
		return f.get(ctx, id)
	}
	return f.Memory.Get(ctx, id)
}

func (f *fake) Put(ctx context.Context, id, value []byte, ttl time.Duration) error {
	if f.put != nil {
		return f.put(ctx, id, value, ttl)
	}
	return f.Memory.Put(ctx, id, value, ttl)
}

func (f *fake) Delete(ctx context.Context, id, value []byte) (bool, error) {
	if f.del != nil {
		return f.del(ctx, id, value)
	}
	return f.Memory.Delete(ctx, id, value)
}

func newStore(t testing.TB, config Config) (*Store, *fake) {
	f := &fake{Memory: newMemory(t, 100)}
	config.Backend = f
	s, err := New(config)
	require.NoError(t, err)
	return s, f
}

// checkStats checks the sum, and that nothing is in flight but that many calls.
func checkStats(t testing.TB, s *Store, lookups, writes int) Stats {
	c := s.Stats()
	assert.Equal(t, c.Gets+c.Puts+c.Deletes, c.Hits+c.Misses+c.Expired+c.Garbage+c.Stored+c.Invalid+
		c.Deleted+c.Absent+c.Contended+c.WrongIDs+c.Failures+c.TimedOut+c.Canceled+c.Refused, "%+v", c)
	assert.Equal(t, []int{lookups, writes}, []int{c.Lookups, c.Writes}, "in flight")
	if lookups == 0 {
		assert.Zero(t, c.Sources)
	}
	return c
}

func TestConfig(t *testing.T) {
	for _, c := range []struct {
		config Config
		want   string
	}{
		{Config{Lifetime: -1}, "Config.Lifetime is negative"},
		{Config{LookupTimeout: -1}, "Config.LookupTimeout is negative"},
		{Config{Lookups: -1}, "Config.Lookups is negative"},
		{Config{Lifetime: MaxLifetime + 1}, "more than 24h0m0s"},
	} {
		s, err := New(c.config)
		assert.ErrorContains(t, err, c.want)
		assert.Nil(t, s)
	}
	s, err := New(Config{})
	require.NoError(t, err)
	assert.Equal(t, DefaultEntries, s.config.Backend.(*Memory).table.MaxSlots())
	assert.Equal(t, []any{24 * time.Hour, 50 * time.Millisecond, 256, 64},
		[]any{s.config.Lifetime, s.config.LookupTimeout, s.config.Lookups, s.config.LookupsPerSource})
	for lookups, want := range map[int]int{1: 4, 16: 4, 20: 5} {
		s, err := New(Config{Lookups: lookups})
		require.NoError(t, err)
		assert.Equal(t, want, s.config.LookupsPerSource)
	}
	s, err = New(Config{Lookups: 7, LookupsPerSource: -1})
	require.NoError(t, err)
	assert.Equal(t, 7, s.config.LookupsPerSource)
}

func TestStoreRoundTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newStore(t, Config{})
		put := fullSession()
		put.Created, put.Expires = time.Time{}, time.Time{}
		time.Sleep(1234567) // so that now has microseconds
		now := time.Now().UTC().Truncate(time.Millisecond)
		require.NoError(t, s.Put(background, idOf(1), put))
		assert.Equal(t, []time.Time{now, now.Add(24 * time.Hour)}, []time.Time{put.Created, put.Expires})

		got, ok := s.Get(background, here, idOf(1))
		require.True(t, ok)
		assert.Equal(t, put, got)
		_, ok = s.Get(background, here, idOf(2))
		assert.False(t, ok)

		got.Secret[0]++ // it is the caller's
		again, _ := s.Get(background, here, idOf(1))
		assert.Equal(t, put, again)

		assert.NoError(t, s.Delete(background, idOf(1), &Session{Secret: secretOf('x')}), "another session's secret")
		assert.NoError(t, s.Delete(background, idOf(1), &Session{}))
		assert.NoError(t, s.Delete(background, idOf(2), put))
		_, ok = s.Get(background, here, idOf(1))
		assert.True(t, ok)
		put.Data = []byte("not what is stored")
		assert.NoError(t, s.Delete(background, idOf(1), put))
		_, ok = s.Get(background, here, idOf(1))
		assert.False(t, ok)

		assert.Equal(t, Stats{Gets: 5, Puts: 1, Deletes: 4, Hits: 3, Misses: 2, Stored: 1, Deleted: 1, Absent: 3}, checkStats(t, s, 0, 0))
	})
}

// A session lives for Lifetime from its full handshake on, however often it is stored.
func TestStoreLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f := newStore(t, Config{Lifetime: time.Hour})
		var ttl time.Duration
		f.put = func(ctx context.Context, id, value []byte, d time.Duration) error {
			ttl = d
			return f.Memory.Put(ctx, id, value, MaxLifetime) // it does not count its time
		}
		has := func() bool {
			_, ok := s.Get(background, here, idOf(1))
			return ok
		}
		session := &Session{Secret: secretOf(1)}
		require.NoError(t, s.Put(background, idOf(1), session))
		assert.Equal(t, time.Hour, ttl)
		time.Sleep(45 * time.Minute)
		session.Data = []byte("new")
		require.NoError(t, s.Put(background, idOf(1), session))
		assert.Equal(t, 15*time.Minute, ttl)
		time.Sleep(15*time.Minute - 1)
		assert.True(t, has())
		time.Sleep(time.Nanosecond)
		assert.False(t, has())
		assert.ErrorContains(t, s.Put(background, idOf(1), session), "has expired")
		assert.EqualValues(t, 1, s.Stats().Expired)

		now := time.Now().UTC()
		for name, c := range map[string]struct{ created, expires, want time.Time }{
			"sooner":  {now, now.Add(time.Minute), now.Add(time.Minute)},
			"too far": {now, now.Add(2 * time.Hour), now.Add(time.Hour)},
			"ahead":   {now.Add(time.Minute), time.Time{}, now.Add(time.Hour + time.Minute)}, // of another clock
		} {
			session := &Session{Secret: secretOf(1), Created: c.created, Expires: c.expires}
			require.NoError(t, s.Put(background, idOf(1), session), name)
			assert.Equal(t, c.want, session.Expires, name)
			assert.Equal(t, min(c.want.Sub(now), time.Hour), ttl, name)
		}

		// Another server allows a longer life: it is none of ours.
		longer, _ := newStore(t, Config{})
		longer.config.Backend = f
		require.NoError(t, longer.Put(background, idOf(1), &Session{Secret: secretOf(1)}))
		time.Sleep(time.Hour - 1)
		assert.True(t, has())
		time.Sleep(time.Nanosecond)
		assert.False(t, has())
		_, ok := longer.Get(background, here, idOf(1))
		assert.True(t, ok)
		checkStats(t, s, 0, 0)
	})
}

func TestStoreRefusesIDs(t *testing.T) {
	s, f := newStore(t, Config{})
	f.get = func(context.Context, []byte) ([]byte, bool, error) {
		t.Error("the backend was asked")
		return nil, false, nil
	}
	for n := range 50 {
		id := make([]byte, n)
		if n == idLen {
			continue
		}
		_, ok := s.Get(background, here, id)
		assert.False(t, ok)
		assert.ErrorContains(t, s.Put(background, id, &Session{Secret: secretOf(1)}), fmt.Sprintf("an id of %d bytes: want 32", n))
		assert.NoError(t, s.Delete(background, id, &Session{Secret: secretOf(1)}))
	}
	assert.Zero(t, f.Len())
	assert.EqualValues(t, 3*49, checkStats(t, s, 0, 0).WrongIDs)
}

func TestStoreRefusesSessions(t *testing.T) {
	s, f := newStore(t, Config{})
	assert.ErrorContains(t, s.Put(background, idOf(1), &Session{}), "a secret of 0 bytes: want 48")
	assert.ErrorContains(t, s.Put(background, idOf(1), &Session{Secret: secretOf(1), Data: make([]byte, MaxData+1)}), "1025 bytes of data")
	assert.ErrorContains(t, s.Put(background, idOf(1), &Session{Secret: secretOf(1), Scope: string(make([]byte, MaxEncoded))}), "want at most 65536")
	assert.ErrorContains(t, s.Put(background, idOf(1), &Session{Secret: secretOf(1), Created: time.Now().Add(-25 * time.Hour)}), "has expired")
	assert.Zero(t, f.Len())
	assert.EqualValues(t, 4, checkStats(t, s, 0, 0).Invalid)
}

func TestStoreGarbage(t *testing.T) {
	s, f := newStore(t, Config{LookupTimeout: time.Minute})
	good, err := (&Session{Secret: secretOf(1)}).Marshal()
	require.NoError(t, err)
	for _, value := range [][]byte{nil, []byte("garbage"), good[1:], append(good, 0), make([]byte, MaxEncoded)} {
		require.NoError(t, f.Memory.Put(background, idOf(1), value, time.Hour))
		_, ok := s.Get(background, here, idOf(1))
		assert.False(t, ok)
		assert.ErrorContains(t, s.Delete(background, idOf(1), &Session{Secret: secretOf(1)}), "resume: removing a session")
	}
	assert.EqualValues(t, 10, checkStats(t, s, 0, 0).Garbage)
}

func TestStoreFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f := newStore(t, Config{})
		session := &Session{Secret: secretOf(1)}
		require.NoError(t, s.Put(background, idOf(1), session))
		down := errors.New("it is down")
		f.put = func(context.Context, []byte, []byte, time.Duration) error { return down }
		f.del = func(context.Context, []byte, []byte) (bool, error) { return false, down }
		assert.ErrorIs(t, s.Put(background, idOf(1), session), down)
		assert.ErrorIs(t, s.Delete(background, idOf(1), session), down)
		f.get = func(context.Context, []byte) ([]byte, bool, error) { return nil, true, down }
		_, ok := s.Get(background, here, idOf(1))
		assert.False(t, ok)
		assert.ErrorIs(t, s.Delete(background, idOf(1), session), down)
		assert.EqualValues(t, 4, checkStats(t, s, 0, 0).Failures)

		// Deadlines of its own are timeouts.
		f.put = func(context.Context, []byte, []byte, time.Duration) error { return os.ErrDeadlineExceeded }
		assert.ErrorIs(t, s.Put(background, idOf(1), session), os.ErrDeadlineExceeded)
		f.put = func(ctx context.Context, _, _ []byte, _ time.Duration) error { <-ctx.Done(); return ctx.Err() }
		began := time.Now()
		assert.ErrorIs(t, s.Put(background, idOf(1), session), context.DeadlineExceeded)
		assert.Equal(t, DefaultLookupTimeout, time.Since(began))
		synctest.Wait()
		assert.EqualValues(t, 2, checkStats(t, s, 0, 0).TimedOut)

		// The caller's end is nobody's fault.
		ctx, cancel := context.WithTimeout(background, time.Millisecond)
		defer cancel()
		f.get = func(ctx context.Context, _ []byte) ([]byte, bool, error) { <-ctx.Done(); return nil, false, ctx.Err() }
		began = time.Now()
		_, ok = s.Get(ctx, here, idOf(1))
		assert.False(t, ok)
		assert.Equal(t, time.Millisecond, time.Since(began))
		assert.ErrorIs(t, s.Put(ctx, idOf(1), session), context.DeadlineExceeded)
		assert.ErrorIs(t, s.Delete(ctx, idOf(1), session), context.DeadlineExceeded)
		synctest.Wait()
		assert.EqualValues(t, 3, checkStats(t, s, 0, 0).Canceled)
	})
}

// A Backend that hangs, heeding nothing, holds nobody for longer than LookupTimeout,
// and no more goroutines than Lookups.
func TestStoreHungGet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f := newStore(t, Config{Lookups: 10, LookupsPerSource: 4, LookupTimeout: time.Second})
		release := make(chan struct{})
		var asked [][]byte
		var mu sync.Mutex
		f.get = func(_ context.Context, id []byte) ([]byte, bool, error) {
			<-release
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, id)
			return []byte("late"), true, nil
		}
		get := func(source netip.Prefix) time.Duration {
			began := time.Now()
			id := idOf(7)
			_, ok := s.Get(background, source, id)
			assert.False(t, ok)
			clear(id) // the caller's again
			return time.Since(began)
		}
		prefix := func(a string) netip.Prefix { return netip.PrefixFrom(netip.MustParseAddr(a), 24) }
		for n := 1; n <= 4; n++ {
			assert.Equal(t, time.Second, get(here))
			checkStats(t, s, n, 0)
		}
		assert.Zero(t, get(here), "over the bound of one source")
		assert.Zero(t, get(prefix("192.0.2.200")), "the same source")
		for range 4 {
			assert.Equal(t, time.Second, get(there))
		}
		assert.Zero(t, get(there))
		assert.Equal(t, time.Second, get(prefix("198.51.100.1")))
		assert.Equal(t, time.Second, get(netip.Prefix{}))
		assert.Zero(t, get(prefix("203.0.113.1")), "over the bound of all")
		stats := checkStats(t, s, 10, 0)
		assert.Equal(t, []uint64{10, 4}, []uint64{stats.TimedOut, stats.Refused})
		assert.Equal(t, 4, stats.Sources)

		// Writes have a bound of their own.
		assert.NoError(t, s.Put(background, idOf(1), &Session{Secret: secretOf(1)}))

		close(release)
		synctest.Wait()
		checkStats(t, s, 0, 0)
		assert.Empty(t, s.sources)
		assert.Len(t, asked, 10)
		for _, id := range asked {
			assert.Equal(t, idOf(7), id)
		}
		f.get = nil
		_, ok := s.Get(background, here, idOf(1))
		assert.True(t, ok, "all is well again")
	})
}

func TestStoreHungWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f := newStore(t, Config{Lookups: 3})
		session := &Session{Secret: secretOf(1), Data: []byte("data")}
		require.NoError(t, s.Put(background, idOf(1), session))
		stored, _, err := f.Memory.Get(background, idOf(1))
		require.NoError(t, err)
		release := make(chan struct{})
		f.put = func(_ context.Context, id, value []byte, _ time.Duration) error {
			<-release
			assert.Equal(t, idOf(1), id)
			assert.Equal(t, stored, value)
			return nil
		}
		f.del = func(_ context.Context, id, value []byte) (bool, error) {
			<-release
			assert.Equal(t, idOf(1), id)
			assert.Equal(t, stored, value)
			return true, nil
		}
		id := idOf(1)
		assert.ErrorIs(t, s.Put(background, id, session), context.DeadlineExceeded)
		clear(id)
		id = idOf(1)
		assert.ErrorIs(t, s.Delete(background, id, session), context.DeadlineExceeded)
		clear(id)
		checkStats(t, s, 0, 2)
		f.get = func(context.Context, []byte) ([]byte, bool, error) { <-release; return nil, false, nil }
		assert.ErrorIs(t, s.Delete(background, idOf(1), session), context.DeadlineExceeded)
		checkStats(t, s, 0, 3)

		began := time.Now()
		assert.ErrorIs(t, s.Put(background, idOf(1), session), ErrBusy)
		assert.ErrorIs(t, s.Delete(background, idOf(1), session), ErrBusy)
		assert.Zero(t, time.Since(began))
		stats := checkStats(t, s, 0, 3)
		assert.Equal(t, []uint64{3, 2}, []uint64{stats.TimedOut, stats.Refused})

		synctest.Wait()
		f.get = nil
		_, ok := s.Get(background, here, idOf(1))
		assert.True(t, ok, "Gets have a bound of their own")
		close(release)
		synctest.Wait()
		checkStats(t, s, 0, 0)
	})
}

// Between Delete's look and its removal the entry changes.
func TestStoreDeleteRaces(t *testing.T) {
	session := &Session{Secret: secretOf(1)}
	for name, c := range map[string]struct {
		changes int // how often
		to      func(n int) *Session
		want    string
		stats   Stats
		kept    bool
	}{
		"new data":        {3, func(n int) *Session { return &Session{Secret: secretOf(1), Data: []byte{byte(n)}} }, "", Stats{Deleted: 1}, false},
		"always new data": {99, func(n int) *Session { return &Session{Secret: secretOf(1), Data: []byte{byte(n)}} }, "another each time", Stats{Contended: 1}, true},
		"another session": {1, func(int) *Session { return &Session{Secret: secretOf(2)} }, "", Stats{Absent: 1}, true},
		"none":            {1, nil, "", Stats{Absent: 1}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s, f := newStore(t, Config{LookupTimeout: time.Minute})
			require.NoError(t, s.Put(background, idOf(1), session))
			changes := 0
			f.del = func(ctx context.Context, id, value []byte) (bool, error) {
				if changes++; changes <= c.changes {
					if c.to == nil {
						_, err := f.Memory.Delete(ctx, id, value)
						require.NoError(t, err)
					} else {
						require.NoError(t, s.Put(ctx, id, c.to(changes)))
					}
				}
				return f.Memory.Delete(ctx, id, value)
			}
			err := s.Delete(background, idOf(1), session)
			if c.want == "" {
				assert.NoError(t, err)
			} else {
				assert.ErrorContains(t, err, c.want)
			}
			_, ok := s.Get(background, here, idOf(1))
			assert.Equal(t, c.kept, ok)
			stats := checkStats(t, s, 0, 0)
			assert.Equal(t, c.stats, Stats{Deleted: stats.Deleted, Absent: stats.Absent, Contended: stats.Contended})
		})
	}
}

// Trouble is told of once a minute, with how much there was.
func TestStoreWarns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s, f := newStore(t, Config{Logger: slog.New(slog.NewJSONHandler(&log, nil))})
		lines := func() (lines []map[string]any) {
			for line := range bytes.Lines(log.Bytes()) {
				var fields map[string]any
				require.NoError(t, json.Unmarshal(line, &fields))
				delete(fields, "time")
				lines = append(lines, fields)
			}
			log.Reset()
			return lines
		}
		line := func(failures, timeouts, garbage float64, err string) []map[string]any {
			return []map[string]any{{"level": "WARN", "msg": "resumption is impaired",
				"failures": failures, "timeouts": timeouts, "garbage": garbage, "error": err}}
		}
		get := func() { s.Get(background, here, idOf(1)) }

		get()
		s.Get(background, here, nil)
		require.Error(t, s.Put(background, idOf(1), &Session{}))
		assert.Empty(t, lines(), "all of these are no trouble")

		f.get = func(context.Context, []byte) ([]byte, bool, error) { return nil, false, errors.New("down") }
		get()
		assert.Equal(t, line(1, 0, 0, "down"), lines())
		get()
		get()
		f.get = func(ctx context.Context, _ []byte) ([]byte, bool, error) { <-ctx.Done(); return nil, false, ctx.Err() }
		get()
		time.Sleep(time.Minute - DefaultLookupTimeout - 1)
		synctest.Wait()
		f.get = func(context.Context, []byte) ([]byte, bool, error) {
			return []byte("garbage of 32 bytes and a secret"), true, nil
		}
		get()
		assert.Empty(t, lines(), "not yet a minute")
		time.Sleep(time.Nanosecond)
		get()
		got := lines()
		require.Len(t, got, 1)
		assert.Contains(t, got[0]["error"], "not a session")
		got[0]["error"] = ""
		assert.Equal(t, line(2, 1, 2, ""), got)

		time.Sleep(time.Hour)
		f.get = nil
		get()
		assert.Empty(t, lines())
		f.put = func(context.Context, []byte, []byte, time.Duration) error { return errors.New("down") }
		require.Error(t, s.Put(background, idOf(1), &Session{Secret: secretOf(1)}))
		assert.Equal(t, line(1, 0, 0, "resume: storing a session: down"), lines())
	})
}

// Many goroutines, and a Backend that is now slow, now hangs, now fails, now lies.
func TestStoreStress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f := newStore(t, Config{Lookups: 20, Lifetime: time.Minute})
		trouble := func() error {
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
			if err := trouble(); err != nil {
				return nil, false, err
			}
			if rand.IntN(20) == 0 {
				return id, true, nil
			}
			return f.Memory.Get(background, id)
		}
		f.put = func(_ context.Context, id, value []byte, ttl time.Duration) error {
			return errors.Join(trouble(), f.Memory.Put(background, id, value, ttl))
		}
		f.del = func(_ context.Context, id, value []byte) (bool, error) {
			if err := trouble(); err != nil {
				return false, err
			}
			return f.Memory.Delete(background, id, value)
		}
		var done sync.WaitGroup
		for i := range 60 {
			done.Go(func() {
				source := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i % 5), byte(i)}), 24)
				for n := range 200 {
					id := idOf(uint32(n % 10))
					session := &Session{Secret: secretOf(byte(n % 10)), Data: []byte{byte(i), byte(n)}}
					switch i % 3 {
					case 0:
						s.Put(background, id, session)
					case 1:
						s.Delete(background, id, session)
					case 2:
						if found, ok := s.Get(background, source, id); ok {
							assert.Equal(t, session.Secret, found.Secret)
						}
					}
					stats := s.Stats()
					assert.True(t, stats.Lookups >= 0 && stats.Lookups <= 20 && stats.Writes >= 0 && stats.Writes <= 20 && stats.Sources <= 5, "%+v", stats)
					clear(id)
					time.Sleep(time.Duration(rand.IntN(50)) * time.Millisecond)
				}
			})
		}
		done.Wait()
		time.Sleep(time.Second)
		synctest.Wait()
		stats := checkStats(t, s, 0, 0)
		assert.EqualValues(t, []uint64{4000, 4000, 4000}, []uint64{stats.Gets, stats.Puts, stats.Deletes})
		for _, field := range []string{"Hits", "Misses", "Garbage", "Stored", "Deleted", "Absent", "Failures", "TimedOut", "Refused"} {
			assert.NotZero(t, reflect.ValueOf(stats).FieldByName(field).Uint(), field)
		}
	})
}

// Who calls one after the other never meets himself.
func TestStoreInTurn(t *testing.T) {
	s, _ := newStore(t, Config{Lookups: 1, LookupTimeout: time.Minute})
	session := &Session{Secret: secretOf(1)}
	for range 1000 {
		require.NoError(t, s.Put(background, idOf(1), session))
		_, ok := s.Get(background, here, idOf(1))
		require.True(t, ok)
		require.NoError(t, s.Delete(background, idOf(1), session))
	}
	checkStats(t, s, 0, 0)
}

// A revoked session does not come back, by whoever stores it again, nor by a write that
// was under way; another under the same id is another.
func TestStoreRevoke(t *testing.T) {
	s, f := newStore(t, Config{})
	session := &Session{Secret: secretOf(1)}
	require.NoError(t, s.Put(background, idOf(1), session))
	late, err := session.Marshal()
	require.NoError(t, err)
	require.NoError(t, s.Revoke(background, idOf(1), session))
	assert.EqualValues(t, 1, checkStats(t, s, 0, 0).Deleted)
	assert.ErrorIs(t, s.Put(background, idOf(1), session), ErrRevoked)
	require.NoError(t, f.Memory.Put(background, idOf(1), late, time.Hour))
	_, ok := s.Get(background, here, idOf(1))
	assert.False(t, ok)
	require.NoError(t, s.Put(background, idOf(1), &Session{Secret: secretOf(2)}))
	_, ok = s.Get(background, here, idOf(1))
	assert.True(t, ok)
	assert.NoError(t, s.Revoke(background, []byte("short"), session))
	checkStats(t, s, 0, 0)
}

// On the real clock: no goroutine stays.
func TestStoreLeavesNoGoroutine(t *testing.T) {
	defer transport.CheckRoutines(t)()
	s, f := newStore(t, Config{LookupTimeout: time.Millisecond})
	release := make(chan struct{})
	f.get = func(context.Context, []byte) ([]byte, bool, error) { <-release; return nil, false, nil }
	for range 10 {
		_, ok := s.Get(background, here, idOf(1))
		assert.False(t, ok)
	}
	assert.EqualValues(t, 10, checkStats(t, s, 10, 0).TimedOut)
	close(release)
}

func BenchmarkStore(b *testing.B) {
	s, err := New(Config{})
	require.NoError(b, err)
	session := &Session{Secret: secretOf(1), Suite: 0xc0a8, PSKIdentity: []byte("device-17"), Scope: "devices"}
	require.NoError(b, s.Put(background, idOf(1), session))
	for name, call := range map[string]func(){
		"Hit":  func() { s.Get(background, here, idOf(1)) },
		"Miss": func() { s.Get(background, here, idOf(2)) },
		"Put":  func() { s.Put(background, idOf(1), session) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				call()
			}
		})
	}
}

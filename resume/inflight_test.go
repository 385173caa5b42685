// SPDX-License-Identifier: MIT

package resume

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestBackendErrorsAreCountedByCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f := newStore(t, Config{})
		session := &Session{Secret: testSecret(1)}
		require.NoError(t, s.Put(background, testID(1), session))
		errDown := errors.New("it is down")
		f.put = func(context.Context, []byte, []byte, time.Duration) error { return errDown }
		f.delete = func(context.Context, []byte, []byte) (bool, error) { return false, errDown }
		assert.ErrorIs(t, s.Put(background, testID(1), session), errDown)
		assert.ErrorIs(t, s.Delete(background, testID(1), session), errDown)
		f.get = func(context.Context, []byte) ([]byte, bool, error) { return nil, true, errDown }
		_, ok := s.Get(background, source4, testID(1))
		assert.False(t, ok)
		assert.ErrorIs(t, s.Delete(background, testID(1), session), errDown)
		assert.EqualValues(t, 4, checkStats(t, s, 0, 0).Failures)

		// A timeout of the backend's own counts as a timeout.
		f.put = func(context.Context, []byte, []byte, time.Duration) error { return os.ErrDeadlineExceeded }
		assert.ErrorIs(t, s.Put(background, testID(1), session), os.ErrDeadlineExceeded)
		f.put = func(ctx context.Context, _, _ []byte, _ time.Duration) error { <-ctx.Done(); return ctx.Err() }
		start := time.Now()
		assert.ErrorIs(t, s.Put(background, testID(1), session), context.DeadlineExceeded)
		assert.Equal(t, DefaultLookupTimeout, time.Since(start))
		synctest.Wait()
		assert.EqualValues(t, 2, checkStats(t, s, 0, 0).TimedOut)

		// The end of the caller's context does not count as a timeout of the backend.
		ctx, cancel := context.WithTimeout(background, time.Millisecond)
		defer cancel()
		f.get = func(ctx context.Context, _ []byte) ([]byte, bool, error) { <-ctx.Done(); return nil, false, ctx.Err() }
		start = time.Now()
		_, ok = s.Get(ctx, source4, testID(1))
		assert.False(t, ok)
		assert.Equal(t, time.Millisecond, time.Since(start))
		assert.ErrorIs(t, s.Put(ctx, testID(1), session), context.DeadlineExceeded)
		assert.ErrorIs(t, s.Delete(ctx, testID(1), session), context.DeadlineExceeded)
		synctest.Wait()
		assert.EqualValues(t, 3, checkStats(t, s, 0, 0).Canceled)
	})
}

// The backend hangs and ignores its context. Each Get returns after LookupTimeout, and the
// abandoned calls are bounded by LookupsPerSource and Lookups.
func TestHungGetsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f := newStore(t, Config{Lookups: 10, LookupsPerSource: 4, LookupTimeout: time.Second})
		release := make(chan struct{})
		var ids [][]byte // passed to the backend
		var mu sync.Mutex
		f.get = func(_ context.Context, id []byte) ([]byte, bool, error) {
			<-release
			mu.Lock()
			defer mu.Unlock()
			ids = append(ids, id)
			return []byte("late"), true, nil
		}
		timeGet := func(source netip.Prefix) time.Duration {
			start := time.Now()
			id := testID(7)
			_, ok := s.Get(background, source, id)
			assert.False(t, ok)
			clear(id) // the caller may reuse it
			return time.Since(start)
		}
		prefix := func(a string) netip.Prefix { return netip.PrefixFrom(netip.MustParseAddr(a), 24) }
		for n := 1; n <= 4; n++ {
			assert.Equal(t, time.Second, timeGet(source4))
			checkStats(t, s, n, 0)
		}
		assert.Zero(t, timeGet(source4), "LookupsPerSource is reached")
		assert.Zero(t, timeGet(prefix("192.0.2.200")), "the same network")
		for range 4 {
			assert.Equal(t, time.Second, timeGet(source6))
		}
		assert.Zero(t, timeGet(source6))
		assert.Equal(t, time.Second, timeGet(prefix("198.51.100.1")))
		assert.Equal(t, time.Second, timeGet(netip.Prefix{}))
		assert.Zero(t, timeGet(prefix("203.0.113.1")), "Lookups is reached")
		stats := checkStats(t, s, 10, 0)
		assert.Equal(t, []uint64{10, 4}, []uint64{stats.TimedOut, stats.Refused})
		assert.Equal(t, 4, stats.Sources)

		assert.NoError(t, s.Put(background, testID(1), &Session{Secret: testSecret(1)}), "writes have a separate bound")

		close(release)
		synctest.Wait()
		checkStats(t, s, 0, 0)
		assert.Empty(t, s.lookupsBySource)
		assert.Len(t, ids, 10)
		for _, id := range ids {
			assert.Equal(t, testID(7), id)
		}
		f.get = nil
		_, ok := s.Get(background, source4, testID(1))
		assert.True(t, ok, "the backend works again")
	})
}

// As TestHungGetsAreBounded, for Put, for Delete's lookup and for its removal.
func TestHungWritesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f := newStore(t, Config{Lookups: 3})
		session := &Session{Secret: testSecret(1), Data: []byte("data")}
		require.NoError(t, s.Put(background, testID(1), session))
		stored, _, err := f.Memory.Get(background, testID(1))
		require.NoError(t, err)
		release := make(chan struct{})
		f.put = func(_ context.Context, id, value []byte, _ time.Duration) error {
			<-release
			assert.Equal(t, testID(1), id)
			assert.Equal(t, stored, value)
			return nil
		}
		f.delete = func(_ context.Context, id, value []byte) (bool, error) {
			<-release
			assert.Equal(t, testID(1), id)
			assert.Equal(t, stored, value)
			return true, nil
		}
		id := testID(1)
		assert.ErrorIs(t, s.Put(background, id, session), context.DeadlineExceeded)
		clear(id) // the caller may reuse it
		id = testID(1)
		assert.ErrorIs(t, s.Delete(background, id, session), context.DeadlineExceeded)
		clear(id)
		checkStats(t, s, 0, 2)
		f.get = func(context.Context, []byte) ([]byte, bool, error) { <-release; return nil, false, nil }
		assert.ErrorIs(t, s.Delete(background, testID(1), session), context.DeadlineExceeded)
		checkStats(t, s, 0, 3)

		start := time.Now()
		assert.ErrorIs(t, s.Put(background, testID(1), session), ErrBusy)
		assert.ErrorIs(t, s.Delete(background, testID(1), session), ErrBusy)
		assert.Zero(t, time.Since(start))
		stats := checkStats(t, s, 0, 3)
		assert.Equal(t, []uint64{3, 2}, []uint64{stats.TimedOut, stats.Refused})

		synctest.Wait()
		f.get = nil
		_, ok := s.Get(background, source4, testID(1))
		assert.True(t, ok, "Gets have a separate bound")
		close(release)
		synctest.Wait()
		checkStats(t, s, 0, 0)
	})
}

// synctest.Test fails if a goroutine of the bubble is still blocked at the end.
func TestAbandonedCallsLeaveNoGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f := newStore(t, Config{LookupTimeout: time.Millisecond})
		release := make(chan struct{})
		f.get = func(context.Context, []byte) ([]byte, bool, error) { <-release; return nil, false, nil }
		for range 10 {
			_, ok := s.Get(background, source4, testID(1))
			assert.False(t, ok)
		}
		assert.EqualValues(t, 10, checkStats(t, s, 10, 0).TimedOut)
		close(release)
		synctest.Wait()
		checkStats(t, s, 0, 0)
	})
}

func TestSequentialCallsFitBoundOfOne(t *testing.T) {
	s, _ := newStore(t, Config{Lookups: 1, LookupTimeout: time.Minute})
	session := &Session{Secret: testSecret(1)}
	for range 1000 {
		require.NoError(t, s.Put(background, testID(1), session))
		_, ok := s.Get(background, source4, testID(1))
		require.True(t, ok)
		require.NoError(t, s.Delete(background, testID(1), session))
	}
	checkStats(t, s, 0, 0)
}

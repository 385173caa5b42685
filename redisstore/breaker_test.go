// SPDX-License-Identifier: MIT

package redisstore

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sony/gobreaker/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fake answers instead of a server.
type fake struct {
	answer func(ctx context.Context) error
	asked  int
}

func (*fake) DialHook(next redis.DialHook) redis.DialHook { return next }
func (*fake) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
func (f *fake) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		f.asked++
		err := f.answer(ctx)
		cmd.SetErr(err)
		return err
	}
}

type errorReply string

func (e errorReply) Error() string { return string(e) }
func (errorReply) RedisError()     {}

// onFake is a Backend on a fake, for a synctest bubble.
func onFake(t *testing.T, config Config) (*Backend, *fake) {
	t.Helper()
	f := new(fake)
	config.Client = redis.NewUniversalClient(Options("127.0.0.1:1"))
	t.Cleanup(func() { require.NoError(t, config.Client.Close()) })
	config.Client.AddHook(f)
	config.Keys = []Key{testKey(1)}
	return newBackend(t, config), f
}

func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, f := onFake(t, Config{})
		ctx, id := t.Context(), []byte("id")
		dead := errors.New("connection refused")
		get := func() error {
			_, ok, err := b.Get(ctx, id)
			assert.False(t, ok)
			return err
		}

		// An answer between them begins the count anew.
		for _, n := range []int{DefaultFailures - 1, DefaultFailures} {
			f.answer = func(context.Context) error { return redis.Nil }
			require.NoError(t, get())
			f.answer = func(context.Context) error { return dead }
			for range n {
				require.ErrorIs(t, get(), dead)
			}
			assert.Equal(t, n == DefaultFailures, b.Stats().Down)
		}
		// Now nobody waits, nor asks.
		asked := f.asked
		for _, call := range []func() error{
			get,
			func() error { return b.Put(ctx, id, nil, time.Minute) },
			func() error { _, err := b.Delete(ctx, id, nil); return err },
		} {
			err := call()
			require.ErrorIs(t, err, gobreaker.ErrOpenState)
			assert.ErrorContains(t, err, "redisstore: not asked, for the last calls had no answer: ")
		}
		time.Sleep(DefaultCooldown)
		require.ErrorIs(t, get(), gobreaker.ErrOpenState)
		assert.Equal(t, asked, f.asked)

		// One tries, and it is too early.
		time.Sleep(time.Nanosecond)
		require.ErrorIs(t, get(), dead)
		require.ErrorIs(t, get(), gobreaker.ErrOpenState)
		time.Sleep(DefaultCooldown + 1)
		// One tries, and nobody waits for it.
		f.answer = func(context.Context) error { time.Sleep(time.Second); return redis.Nil }
		var wg sync.WaitGroup
		wg.Go(func() { assert.NoError(t, get()) })
		synctest.Wait()
		require.ErrorIs(t, get(), gobreaker.ErrTooManyRequests)
		assert.True(t, b.Stats().Down)
		wg.Wait()
		require.NoError(t, get())
		assert.Equal(t, asked+3, f.asked)
		assert.Equal(t, Stats{Absent: 4, Failures: 2 * DefaultFailures, Refused: 6}, b.Stats())
	})
}

func TestBreakerSettings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, f := onFake(t, Config{Failures: 1, Cooldown: time.Second})
		dead := errors.New("connection refused")
		f.answer = func(context.Context) error { return dead }
		require.ErrorIs(t, b.Put(t.Context(), nil, nil, 1), dead)
		require.ErrorIs(t, b.Put(t.Context(), nil, nil, 1), gobreaker.ErrOpenState)
		time.Sleep(time.Second + 1)
		f.answer = func(context.Context) error { return nil }
		require.NoError(t, b.Put(t.Context(), nil, nil, 1))
		assert.False(t, b.Stats().Down)
	})
}

// What is nobody's failure does not open the breaker.
func TestNoFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, f := onFake(t, Config{Failures: 1})
		for range 10 {
			f.answer = func(context.Context) error { return redis.Nil }
			_, ok, err := b.Get(t.Context(), nil)
			require.NoError(t, err)
			require.False(t, ok)

			f.answer = func(context.Context) error { return errorReply("OOM command not allowed") }
			require.ErrorContains(t, b.Put(t.Context(), nil, nil, 1), "redisstore: OOM")

			// The caller goes while it waits.
			ctx, cancel := context.WithCancel(t.Context())
			f.answer = func(context.Context) error { cancel(); return os.ErrDeadlineExceeded }
			require.ErrorIs(t, b.Put(ctx, nil, nil, 1), context.Canceled)
			// And had gone before.
			asked := f.asked
			require.ErrorIs(t, b.Put(ctx, nil, nil, 1), context.Canceled)
			late, cancel := context.WithTimeout(t.Context(), 0)
			require.ErrorIs(t, b.Put(late, nil, nil, 1), context.DeadlineExceeded)
			cancel()
			assert.Equal(t, asked, f.asked)
		}
		assert.Equal(t, Stats{Absent: 10, Failures: 10}, b.Stats())

		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		f.answer = func(ctx context.Context) error { <-ctx.Done(); return os.ErrDeadlineExceeded }
		err := b.Put(ctx, nil, nil, 1)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		assert.True(t, b.Stats().Down, "too late is a failure")
	})
}

// A server that takes what it is sent and says nothing.
func TestSilentServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		options := Options("127.0.0.1:1")
		options.Dialer = func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go func() {
				for buffer := make([]byte, 1024); ; {
					if _, err := theirs.Read(buffer); err != nil {
						_ = theirs.Close()
						return
					}
				}
			}()
			return ours, nil
		}
		client := redis.NewUniversalClient(options)
		defer func() { require.NoError(t, client.Close()) }()
		b := newBackend(t, Config{Client: client, Keys: []Key{testKey(1)}})
		for n := range DefaultFailures + 1 {
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			_, ok, err := b.Get(ctx, nil)
			cancel()
			assert.False(t, ok)
			require.Error(t, err)
			if n < DefaultFailures {
				assert.Equal(t, 50*time.Millisecond, time.Since(began))
			} else {
				assert.Zero(t, time.Since(began))
			}
		}
		// Whoever has no deadline waits for Options' own.
		time.Sleep(DefaultCooldown + 1)
		began := time.Now()
		_, _, err := b.Get(t.Context(), nil)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		assert.LessOrEqual(t, time.Since(began), callTimeout)
	})
}

func TestKilledServer(t *testing.T) {
	b, s := onServer(t)
	ctx, id := t.Context(), []byte("id")
	require.NoError(t, b.Put(ctx, id, []byte("value"), time.Minute))
	s.kill()
	for range DefaultFailures {
		_, ok, err := b.Get(ctx, id)
		assert.False(t, ok)
		require.Error(t, err)
		require.NotErrorIs(t, err, gobreaker.ErrOpenState)
	}
	asked := b.Stats().Failures
	assert.Equal(t, uint64(DefaultFailures), asked)
	began := time.Now()
	for range 1000 {
		_, _, err := b.Get(ctx, id)
		require.Error(t, err)
	}
	// The cooldown of the tests is 20 ms, after which one tries and is refused at once.
	assert.Less(t, time.Since(began), time.Second)
	assert.Greater(t, b.Stats().Refused, uint64(900))

	require.True(t, s.run(t))
	assert.Eventually(t, func() bool {
		_, ok, err := b.Get(ctx, id)
		return err == nil && !ok
	}, patience, time.Millisecond)
	assert.False(t, b.Stats().Down)
	require.NoError(t, b.Put(ctx, id, []byte("value"), time.Minute))
}

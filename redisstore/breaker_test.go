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

// fakeServer is a hook that replies to commands in place of a server.
type fakeServer struct {
	reply func(ctx context.Context) error
	calls int
}

func (*fakeServer) DialHook(next redis.DialHook) redis.DialHook { return next }
func (*fakeServer) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
func (f *fakeServer) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		f.calls++
		err := f.reply(ctx)
		cmd.SetErr(err)
		return err
	}
}

type errorReply string

func (e errorReply) Error() string { return string(e) }
func (errorReply) RedisError()     {}

// onFakeServer returns a Backend on a fakeServer, for use in a synctest bubble.
func onFakeServer(t *testing.T, config Config) (*Backend, *fakeServer) {
	t.Helper()
	f := new(fakeServer)
	config.Client = redis.NewUniversalClient(Options("127.0.0.1:1"))
	t.Cleanup(func() { require.NoError(t, config.Client.Close()) })
	config.Client.AddHook(f)
	config.Keys = []Key{testKey(1)}
	return newBackend(t, config), f
}

func TestBreakerOpensAfterConsecutiveFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, f := onFakeServer(t, Config{})
		ctx, id := t.Context(), []byte("id")
		errRefused := errors.New("connection refused")
		get := func() error {
			_, ok, err := b.Get(ctx, id)
			assert.False(t, ok)
			return err
		}

		// A reply resets the count of failures.
		for _, failures := range []int{DefaultFailures - 1, DefaultFailures} {
			f.reply = func(context.Context) error { return redis.Nil }
			require.NoError(t, get())
			f.reply = func(context.Context) error { return errRefused }
			for range failures {
				require.ErrorIs(t, get(), errRefused)
			}
			assert.Equal(t, failures == DefaultFailures, b.Stats().Down)
		}
		// The breaker is open: no call is sent.
		calls := f.calls
		for _, call := range []func() error{
			get,
			func() error { return b.Put(ctx, id, nil, time.Minute) },
			func() error { _, err := b.Delete(ctx, id, nil); return err },
		} {
			err := call()
			require.ErrorIs(t, err, gobreaker.ErrOpenState)
			assert.ErrorContains(t, err, "redisstore: not sent, because the last calls had no reply: ")
		}
		time.Sleep(DefaultCooldown)
		require.ErrorIs(t, get(), gobreaker.ErrOpenState)
		assert.Equal(t, calls, f.calls)

		// After the cooldown one call is sent. It fails, and the next cooldown begins.
		time.Sleep(time.Nanosecond)
		require.ErrorIs(t, get(), errRefused)
		require.ErrorIs(t, get(), gobreaker.ErrOpenState)
		time.Sleep(DefaultCooldown + 1)
		// While one call is under way, other calls fail at once.
		f.reply = func(context.Context) error { time.Sleep(time.Second); return redis.Nil }
		var wg sync.WaitGroup
		wg.Go(func() { assert.NoError(t, get()) })
		synctest.Wait()
		require.ErrorIs(t, get(), gobreaker.ErrTooManyRequests)
		assert.True(t, b.Stats().Down)
		wg.Wait()
		require.NoError(t, get())
		assert.Equal(t, calls+3, f.calls)
		assert.Equal(t, Stats{Absent: 4, Failures: 2 * DefaultFailures, Refused: 6}, b.Stats())
	})
}

func TestConfigSetsFailuresAndCooldown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, f := onFakeServer(t, Config{Failures: 1, Cooldown: time.Second})
		errRefused := errors.New("connection refused")
		f.reply = func(context.Context) error { return errRefused }
		require.ErrorIs(t, b.Put(t.Context(), nil, nil, 1), errRefused)
		require.ErrorIs(t, b.Put(t.Context(), nil, nil, 1), gobreaker.ErrOpenState)
		time.Sleep(time.Second + 1)
		f.reply = func(context.Context) error { return nil }
		require.NoError(t, b.Put(t.Context(), nil, nil, 1))
		assert.False(t, b.Stats().Down)
	})
}

// A miss, an error reply and a cancelled context do not open the breaker. A deadline that
// passes during a call does.
func TestBreakerIgnoresRepliesAndCancellation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, f := onFakeServer(t, Config{Failures: 1})
		for range 10 {
			f.reply = func(context.Context) error { return redis.Nil }
			_, ok, err := b.Get(t.Context(), nil)
			require.NoError(t, err)
			require.False(t, ok)

			f.reply = func(context.Context) error { return errorReply("OOM command not allowed") }
			require.ErrorContains(t, b.Put(t.Context(), nil, nil, 1), "redisstore: OOM")

			// The context is cancelled during the call.
			ctx, cancel := context.WithCancel(t.Context())
			f.reply = func(context.Context) error { cancel(); return os.ErrDeadlineExceeded }
			require.ErrorIs(t, b.Put(ctx, nil, nil, 1), context.Canceled)
			// The context has ended before the call.
			calls := f.calls
			require.ErrorIs(t, b.Put(ctx, nil, nil, 1), context.Canceled)
			expired, cancel := context.WithTimeout(t.Context(), 0)
			require.ErrorIs(t, b.Put(expired, nil, nil, 1), context.DeadlineExceeded)
			cancel()
			assert.Equal(t, calls, f.calls)
		}
		assert.Equal(t, Stats{Absent: 10, Failures: 10}, b.Stats())

		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		f.reply = func(ctx context.Context) error { <-ctx.Done(); return os.ErrDeadlineExceeded }
		err := b.Put(ctx, nil, nil, 1)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		assert.True(t, b.Stats().Down, "a timeout is a failure")
	})
}

func TestErrorReplyDoesNotOpenBreaker(t *testing.T) {
	b, _ := onServer(t)
	ctx, id := t.Context(), []byte("id")
	require.NoError(t, b.client.LPush(ctx, b.name(id), "a list").Err())
	for range 2 * DefaultFailures {
		_, ok, err := b.Get(ctx, id)
		assert.False(t, ok)
		require.ErrorContains(t, err, "redisstore: WRONGTYPE")
		deleted, err := b.Delete(ctx, id, nil)
		assert.False(t, deleted)
		require.ErrorContains(t, err, "redisstore: WRONGTYPE")
	}
	assert.Equal(t, Stats{Failures: 4 * DefaultFailures}, b.Stats())
	require.NoError(t, b.Put(ctx, id, []byte("value"), time.Minute))
}

// The server accepts connections, reads what it is sent and never replies.
func TestCallsToSilentServerEndAtDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		options := Options("127.0.0.1:1")
		options.Dialer = func(context.Context, string, string) (net.Conn, error) {
			clientEnd, serverEnd := net.Pipe()
			go func() {
				for buffer := make([]byte, 1024); ; {
					if _, err := serverEnd.Read(buffer); err != nil {
						_ = serverEnd.Close()
						return
					}
				}
			}()
			return clientEnd, nil
		}
		client := redis.NewUniversalClient(options)
		defer func() { require.NoError(t, client.Close()) }()
		b := newBackend(t, Config{Client: client, Keys: []Key{testKey(1)}})
		for n := range DefaultFailures + 1 {
			start := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			_, ok, err := b.Get(ctx, nil)
			cancel()
			assert.False(t, ok)
			require.Error(t, err)
			if n < DefaultFailures {
				assert.Equal(t, 50*time.Millisecond, time.Since(start))
			} else {
				assert.Zero(t, time.Since(start))
			}
		}
		// Without a deadline, the timeout of Options applies.
		time.Sleep(DefaultCooldown + 1)
		start := time.Now()
		_, _, err := b.Get(t.Context(), nil)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		assert.LessOrEqual(t, time.Since(start), callTimeout)
	})
}

func TestKilledServerOpensBreaker(t *testing.T) {
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
	assert.Equal(t, uint64(DefaultFailures), b.Stats().Failures)
	start := time.Now()
	for range 1000 {
		_, _, err := b.Get(ctx, id)
		require.Error(t, err)
	}
	// The cooldown of onServer is 20 ms. After each cooldown one call is sent, and the
	// system refuses its connection at once.
	assert.Less(t, time.Since(start), time.Second)
	assert.Greater(t, b.Stats().Refused, uint64(900))

	require.True(t, s.run(t))
	assert.Eventually(t, func() bool {
		_, ok, err := b.Get(ctx, id)
		return err == nil && !ok
	}, patience, time.Millisecond)
	assert.False(t, b.Stats().Down)
	require.NoError(t, b.Put(ctx, id, []byte("value"), time.Minute))
}

// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// newCallbacks returns the calls of a callback, so many at one time.
func newCallbacks(most int, callback func(context.Context, string) (int, error)) *callbacks[string, int] {
	c := new(callbacks[string, int])
	c.init("Config.Test", most, callback)
	return c
}

// TestCallThatDoesNotReturnIsNotWaitedFor beyond its context, and further calls are refused at
// once, until it has returned.
func TestCallThatDoesNotReturnIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const most = 2
		release := make(chan struct{})
		var calls atomic.Int32
		c := newCallbacks(most, func(context.Context, string) (int, error) { calls.Add(1); <-release; return 7, nil })
		for range 2 * most {
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			_, err := c.call(ctx, "")
			cancel()
			var noAnswer *noAnswerError
			require.ErrorAs(t, err, &noAnswer)
			assert.LessOrEqual(t, time.Since(began), time.Minute)
			assert.Equal(t, time.Since(began) == time.Minute, errors.Is(err, context.DeadlineExceeded))
		}
		assert.EqualValues(t, most, calls.Load())
		close(release)
		synctest.Wait()
		got, err := c.call(t.Context(), "")
		require.NoError(t, err)
		assert.Equal(t, 7, got)
	})
}

// endingContext is a context that ends when the test says so, and wakes nobody.
type endingContext struct {
	context.Context
	ended atomic.Bool
}

func (*endingContext) Done() <-chan struct{} { return nil }

func (c *endingContext) Err() error {
	if c.ended.Load() {
		return context.Canceled
	}
	return nil
}

// TestErrorAfterTheEndIsNoAnswer: a callback that obeys its context has not decided anything,
// also if it is faster than its caller.
func TestErrorAfterTheEndIsNoAnswer(t *testing.T) {
	t.Parallel()
	ctx := &endingContext{Context: t.Context()}
	c := newCallbacks(1, func(context.Context, string) (int, error) { ctx.ended.Store(true); return 0, errors.New("too late") })
	_, err := c.call(ctx, "")
	var noAnswer *noAnswerError
	require.ErrorAs(t, err, &noAnswer)
	assert.ErrorIs(t, err, context.Canceled)
	_, err = c.call(ctx, "")
	require.ErrorAs(t, err, &noAnswer)
	assert.ErrorContains(t, err, "was not called")
}

// TestGoexitIsAnError, and not the answer that the callback would have given.
func TestGoexitIsAnError(t *testing.T) {
	t.Parallel()
	c := newCallbacks(1, func(context.Context, string) (int, error) { runtime.Goexit(); return 0, nil })
	for range 3 { // no call is left over
		_, err := c.call(t.Context(), "")
		require.ErrorIs(t, err, errGoexit)
	}
}

// TestPanicInCallbackEndsTheProgram as it does in any goroutine: in a process of its own.
func TestPanicInCallbackEndsTheProgram(t *testing.T) {
	t.Parallel()
	const variable = "DSM_TEST_PANIC"
	if os.Getenv(variable) != "" {
		c := newCallbacks(1, func(context.Context, string) (int, error) { panic("a mistake in the callback") })
		_, _ = c.call(context.Background(), "")
		select {} // the panic is another goroutine's
	}
	program, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), program, "-test.run=^TestPanicInCallbackEndsTheProgram$", "-test.timeout=20s")
	cmd.Env = append(os.Environ(), variable+"=1")
	output, err := cmd.CombinedOutput()
	require.Error(t, err)
	assert.Contains(t, string(output), "panic: a mistake in the callback")
}

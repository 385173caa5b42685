// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// newPSKCalls returns the calls of a callback, so many at one time.
func newPSKCalls(handshakes int, callback func(context.Context, PSKRequest) ([]byte, error)) *pskCalls {
	c := new(pskCalls)
	c.init(&Config{Handshakes: handshakes, PSK: callback})
	return c
}

// The callback may change its identity, and may go on to use the key that it has returned.
func TestPSKCallbackSharesNoMemory(t *testing.T) {
	t.Parallel()
	key := []byte("key")
	c := newPSKCalls(1, func(_ context.Context, r PSKRequest) ([]byte, error) {
		clear(r.Identity)
		return key, nil
	})
	identity := []byte("device")
	got, err := c.key(t.Context(), PSKRequest{Identity: identity})
	require.NoError(t, err)
	assert.Equal(t, "device", string(identity))
	clear(key)
	assert.Equal(t, "key", string(got))
}

func TestPSKCallWithoutKeyIsAnError(t *testing.T) {
	t.Parallel()
	database := errors.New("no database")
	for name, test := range map[string]struct {
		callback func(context.Context, PSKRequest) ([]byte, error)
		want     error
	}{
		"nil":            {func(context.Context, PSKRequest) ([]byte, error) { return nil, nil }, ErrUnknownPSKIdentity},
		"empty":          {func(context.Context, PSKRequest) ([]byte, error) { return []byte{}, nil }, ErrUnknownPSKIdentity},
		"an error":       {func(context.Context, PSKRequest) ([]byte, error) { return nil, database }, database},
		"both":           {func(context.Context, PSKRequest) ([]byte, error) { return []byte("key"), database }, database},
		"Goexit":         {func(context.Context, PSKRequest) ([]byte, error) { runtime.Goexit(); return nil, nil }, ErrUnknownPSKIdentity},
		"no callback":    {nil, errNoPSK},
		"the same error": {func(context.Context, PSKRequest) ([]byte, error) { return nil, ErrUnknownPSKIdentity }, ErrUnknownPSKIdentity},
	} {
		c := newPSKCalls(1, test.callback)
		for range 3 { // no call is left over
			key, err := c.key(t.Context(), PSKRequest{Identity: []byte("device")})
			assert.ErrorIs(t, err, test.want, name)
			assert.Empty(t, key, name)
		}
	}
}

// A callback that ignores its context holds up its caller no longer than that. It counts
// until it has returned.
func TestPSKCallsThatHaveNotReturnedAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const most = 3
		release := make(chan struct{})
		started := 0
		c := newPSKCalls(most, func(context.Context, PSKRequest) ([]byte, error) {
			started++
			<-release
			return []byte("key"), nil
		})
		for range most {
			ctx, cancel := context.WithCancel(t.Context())
			failed := make(chan error)
			go func() {
				_, err := c.key(ctx, PSKRequest{})
				failed <- err
			}()
			synctest.Wait()
			cancel()
			assert.ErrorIs(t, <-failed, context.Canceled)
		}
		_, err := c.key(t.Context(), PSKRequest{})
		assert.ErrorContains(t, err, "3 calls of it have not returned")
		assert.Equal(t, most, started)

		close(release)
		synctest.Wait()
		key, err := c.key(t.Context(), PSKRequest{})
		require.NoError(t, err)
		assert.Equal(t, "key", string(key))
	})
}

func TestPSKIsNotCalledAfterTheHandshake(t *testing.T) {
	t.Parallel()
	called := false
	c := newPSKCalls(1, func(context.Context, PSKRequest) ([]byte, error) { called = true; return []byte("key"), nil })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := c.key(ctx, PSKRequest{})
	assert.ErrorIs(t, err, context.Canceled)
	assert.False(t, called)
}

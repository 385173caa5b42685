// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestEstablishedAfterAuthorize: the time for which a session waits for Authorize is not its own.
func TestEstablishedAfterAuthorize(t *testing.T) {
	t.Parallel()
	cfg := dtlsserver.Config{Authorize: func(context.Context, *dtlsserver.AuthRequest) (any, error) {
		time.Sleep(slowness)
		return nil, nil
	}}
	inBubble(t, cfg, func(t *testing.T, l memory) {
		_, c := l.connect(t)
		assert.WithinDuration(t, time.Now(), c.Established(), slowness/2)
		used := c.LastUsed()
		assert.WithinDuration(t, time.Now(), used, slowness/2)
		state, err := c.Detach()
		require.NoError(t, err)
		c, err = l.Attach(state)
		require.NoError(t, err)
		assert.WithinDuration(t, time.Now(), c.Established(), slowness/2)
		assert.Equal(t, used, c.LastUsed())
	})
}

// TestAuthorizeMayReturnErrorOfAnotherListener: its cause is not this listener's.
func TestAuthorizeMayReturnErrorOfAnotherListener(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		network := dtlstest.NewNetwork(1)
		hangs := dtlsserver.Config{AuthorizeTimeout: time.Second, Authorize: func(ctx context.Context, r *dtlsserver.AuthRequest) (any, error) {
			if r.Restored {
				<-ctx.Done()
			}
			return nil, nil
		}}
		one := memory{listenOn(t, network.Listen(netip.AddrPort{}), psk(), hangs), network}
		_, c := one.connect(t)
		state, err := c.Detach()
		require.NoError(t, err)
		_, foreign := one.Attach(state)
		require.ErrorIs(t, foreign, dtlsserver.ErrStateDenied)
		cfg := dtlsserver.Config{Authorize: func(context.Context, *dtlsserver.AuthRequest) (any, error) { return nil, foreign }}
		other := memory{listenOn(t, network.Listen(secondAddr), psk(), cfg), network}
		other.dialRefused(t)
		synctest.Wait()
		assert.EqualValues(t, 1, other.Stats().Denied)
	})
}

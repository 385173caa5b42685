// SPDX-License-Identifier: MIT

package redisstore

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/go-dsm/dsm/resume"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Two servers, each with a Store, a Backend and a client of its own, share one Redis.
func TestServersSeeEachOthersRevokedIdentities(t *testing.T) {
	redisServer := startServer(t)
	ctx, source := t.Context(), netip.MustParsePrefix("192.0.2.0/24")
	var stores [2]*resume.Store
	var backends [2]*Backend
	for i := range stores {
		var err error
		backends[i] = newBackend(t, Config{Client: newClient(t, Options(redisServer.addr())), Keys: []Key{testKey(1)}})
		stores[i], err = resume.New(resume.Config{Backend: backends[i], Lifetime: time.Hour, LookupTimeout: patience})
		require.NoError(t, err)
	}
	id := bytes.Repeat([]byte{7}, 32)
	require.NoError(t, stores[0].Put(ctx, id, &resume.Session{Secret: make([]byte, 48)}))
	for i, key := range []string{"psk:device-17", "psk:device-18"} {
		revoker, other := stores[i], stores[1-i]
		session, ok := other.Get(ctx, source, id)
		require.True(t, ok)
		assert.False(t, other.IdentityRevoked(ctx, source, "devices", key, session))
		require.NoError(t, revoker.RevokeIdentity(ctx, "devices", key))
		for _, s := range stores {
			assert.True(t, s.IdentityRevoked(ctx, source, "devices", key, session))
			assert.False(t, s.IdentityRevoked(ctx, source, "other scope", key, session))
		}
		later := &resume.Session{Created: time.Now().Add(time.Minute + time.Second)}
		assert.False(t, other.IdentityRevoked(ctx, source, "devices", key, later))
	}

	names, err := backends[0].client.Keys(ctx, "*").Result()
	require.NoError(t, err)
	require.Len(t, names, 3, "a session and two revocations")
	for _, name := range names {
		ttl, err := backends[0].client.PTTL(ctx, name).Result()
		require.NoError(t, err)
		if name != backends[0].name(id) {
			assert.Greater(t, ttl, time.Hour, "the revocation outlives the session")
		}
		assert.LessOrEqual(t, ttl, time.Hour+time.Minute)
		assert.Positive(t, ttl)
	}

	session, ok := stores[0].Get(ctx, source, id)
	require.True(t, ok)
	redisServer.kill()
	for _, s := range stores {
		assert.Error(t, s.RevokeIdentity(ctx, "devices", "psk:device-19"))
		assert.True(t, s.IdentityRevoked(ctx, source, "devices", "psk:device-19", session), "Redis is down")
	}
}

// SPDX-License-Identifier: MIT

package resume

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestRevocationOutlivesItsEntryInMemory: a Memory evicts the entry when others are stored, and
// has the session, which is stored again by a server where it lives on.
func TestRevocationOutlivesItsEntryInMemory(t *testing.T) {
	backend, err := NewMemory(4)
	require.NoError(t, err)
	s, err := New(Config{Backend: backend})
	require.NoError(t, err)
	revoked := &Session{Secret: testSecret(1)}
	require.NoError(t, s.Put(background, testID(1), revoked))
	require.NoError(t, s.RevokeIdentity(background, "devices", "psk:17"))
	for n := range byte(8) {
		require.NoError(t, s.Put(background, testID(1), revoked)) // its data have changed
		require.NoError(t, s.Put(background, testID(uint32(10+n)), &Session{Secret: testSecret(10 + n)}))
	}
	_, ok, err := backend.Get(background, tombstoneID("devices", "psk:17"))
	require.NoError(t, err)
	require.False(t, ok, "it is evicted")
	session, ok := s.Get(background, source4, testID(1))
	require.True(t, ok)
	assert.True(t, s.IdentityRevoked(background, source4, "devices", "psk:17", session))
	assert.False(t, s.IdentityRevoked(background, source4, "devices", "psk:18", session))
}

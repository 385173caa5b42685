// SPDX-License-Identifier: MIT

package resume

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A revoked session is neither stored again nor returned from an entry that a late write
// has brought back. Another session under the same id is not affected.
func TestRevokedSessionIsNeitherStoredNorReturned(t *testing.T) {
	s, f := newStore(t, Config{})
	session := &Session{Secret: testSecret(1)}
	require.NoError(t, s.Put(background, testID(1), session))
	lateWrite, err := session.Marshal()
	require.NoError(t, err)
	require.NoError(t, s.Revoke(background, testID(1), session))
	assert.EqualValues(t, 1, checkStats(t, s, 0, 0).Deleted)
	assert.ErrorIs(t, s.Put(background, testID(1), session), ErrRevoked)
	require.NoError(t, f.Memory.Put(background, testID(1), lateWrite, time.Hour))
	_, ok := s.Get(background, source4, testID(1))
	assert.False(t, ok)
	require.NoError(t, s.Put(background, testID(1), &Session{Secret: testSecret(2)}))
	_, ok = s.Get(background, source4, testID(1))
	assert.True(t, ok)
	assert.NoError(t, s.Revoke(background, []byte("short"), session))
	checkStats(t, s, 0, 0)
}

// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestPSKIdentityOfAnyLength has identities that are stored in place and longer ones.
func TestPSKIdentityOfAnyLength(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		for _, size := range []int{1, 47, 48, 200} {
			config := psk()
			config.PSKIdentityHint = bytes.Repeat([]byte("i"), size)
			client := l.network.DialClient(t, netip.AddrPort{}, l.addr(), config)
			s, err := l.AcceptConn(t.Context())
			require.NoError(t, err)
			identity := s.Identity()
			assert.Equal(t, string(config.PSKIdentityHint), string(identity.PSKIdentity))
			assert.Empty(t, identity.Certificates)
			assert.True(t, identity.Verified.IsZero())
			require.NoError(t, client.Close())
			<-s.Done()
			assert.Equal(t, identity, s.Identity(), "it stays known")
		}
		assert.Equal(t, "device", dtlstest.Identity)
	})
}

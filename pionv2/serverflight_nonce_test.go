// SPDX-License-Identifier: MIT

package pionv2

import (
	"testing"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestNonceOfPionThatTheSessionCouldUse: pion draws the nonces of its last flight at
// random. If the session could use one of them again, there is no session.
func TestNonceOfPionThatTheSessionCouldUse(t *testing.T) {
	t.Parallel()
	for nonce, refused := range map[[8]byte]bool{
		{0, epoch, 0, 0, 1}:                            true,
		{0, epoch, 0, 0xff, 0xff, 0xff, 0xff, 0xff}:    true, // LastSequence
		{0, epoch, 1, 0, 0, 0, 0, 0}:                   true, // for the last alert
		{0, epoch, 1, 0, 0, 0, 0, 1}:                   false,
		{0, epoch, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}: false,
		{0xff, 0xff, 1}:                                false,
		{0, epoch + 1, 0, 0, 1}:                        false,
	} {
		records, err := record.New(record.Config{Suite: dtlstest.Suite, MasterSecret: make([]byte, 48), Epoch: epoch})
		require.NoError(t, err)
		h := newServerHandshake(dtlstest.PSKConfig("key"), false, record.ClientHello{}, func([]byte) {})
		h.records = records
		h.server.lastStarted, h.server.nextProtected = true, 7
		h.server.nonces = [][8]byte{{0xff, 0xff, 1}, nonce}
		result, err := h.result(dtls.State{})
		if refused {
			assert.ErrorContains(t, err, "nonce that the session could use", "%x", nonce)
			assert.Nil(t, result)
			continue
		}
		require.NoError(t, err, "%x", nonce)
		assert.EqualValues(t, 7, result.Records.Config().NextSequence)
	}
	for nonce, ours := range map[[8]byte]bool{{0, epoch}: true, {0, epoch, 0, 0xff, 0xff}: true, {0, 2}: false, {1, epoch}: false} {
		_, got := nonceSequence(nonce)
		assert.Equal(t, ours, got, nonce)
	}
}

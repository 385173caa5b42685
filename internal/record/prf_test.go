// SPDX-License-Identifier: MIT

package record

import (
	"testing"

	"github.com/pion/dtls/v2/pkg/crypto/prf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestKeysOfEachSuiteArePions(t *testing.T) {
	master := make([]byte, masterSecretSize)
	for i := range master {
		master[i] = byte(i)
	}
	client, server := Random{1, 2, 3}, Random{4, 5, 6}
	for _, s := range suites {
		want, err := prf.GenerateEncryptionKeys(master, client[:], server[:], s.macLen, s.keyLen, s.ivLen(), s.prf)
		require.NoError(t, err)
		ofClient, ofServer := s.keyBlock(master, client, server)
		assert.Equal(t, directionKeys{want.ClientMACKey, want.ClientWriteKey, want.ClientWriteIV}, ofClient, "suite %#04x", uint16(s.id))
		assert.Equal(t, directionKeys{want.ServerMACKey, want.ServerWriteKey, want.ServerWriteIV}, ofServer, "suite %#04x", uint16(s.id))
	}
}

func TestPHashOfEachLengthIsPions(t *testing.T) {
	secret, seed := []byte("secret"), []byte("label and seed")
	for _, s := range suites {
		for n := 1; n <= 150; n++ {
			want, err := prf.PHash(secret, seed, n, s.prf)
			require.NoError(t, err)
			require.Equal(t, want, pHash(s.prf, secret, seed, n), "suite %#04x, %d bytes", uint16(s.id), n)
		}
	}
}

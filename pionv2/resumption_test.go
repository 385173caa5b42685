// SPDX-License-Identifier: MIT

package pionv2

import (
	"crypto/tls"
	"testing"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/resume"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The configuration for an abbreviated handshake has the session's suite alone, and what
// pion needs for that suite alone: it refuses all else.
func TestResumingConfig(t *testing.T) {
	t.Parallel()
	config := dtlstest.PSKConfig("key", dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, dtls.TLS_PSK_WITH_AES_128_GCM_SHA256)
	config.Certificates = []tls.Certificate{dtlstest.SelfSigned(t, dtlstest.ECDSA).Certificate}
	id := make([]byte, 32)
	for _, suite := range config.CipherSuites {
		got := resumingConfig(*config, id, &resume.Session{Suite: uint16(suite), Secret: make([]byte, 48)})
		require.NotNil(t, got)
		assert.Equal(t, []dtls.CipherSuiteID{suite}, got.CipherSuites)
		assert.Equal(t, record.SuiteID(suite).PSK(), got.PSK != nil)
		assert.Equal(t, record.SuiteID(suite).PSK(), len(got.Certificates) == 0)
	}
	assert.Nil(t, resumingConfig(*config, id, &resume.Session{Suite: 0x1301}), "a suite that pion does not have")
	assert.Len(t, config.CipherSuites, 2, "the listener's configuration is unchanged")
}

// Pion finds the session that was looked up, and no other. What it sets or deletes has no
// effect.
func TestPionStore(t *testing.T) {
	t.Parallel()
	id, secret := make([]byte, 32), make([]byte, 48)
	store := pionStore{id, &resume.Session{Secret: secret}}
	find := func(store pionStore, id []byte) dtls.Session {
		found, err := store.Get(id)
		require.NoError(t, err)
		return found
	}
	require.NoError(t, store.Set(id, dtls.Session{}))
	require.NoError(t, store.Del(id))
	assert.Equal(t, dtls.Session{ID: id, Secret: secret}, find(store, id))
	assert.Empty(t, find(store, []byte("another")))
	assert.Empty(t, find(pionStore{}, id), "a full handshake")
	find(store, id).Secret[0] = 1
	assert.Zero(t, secret[0], "pion gets a copy")
}

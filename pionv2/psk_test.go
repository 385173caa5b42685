// SPDX-License-Identifier: MIT

package pionv2

import (
	"context"
	"crypto/tls"
	"errors"
	"testing"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// keyFor is a Config.PSK with one key for all.
func keyFor(key string) func(context.Context, PSKRequest) ([]byte, error) {
	return func(context.Context, PSKRequest) ([]byte, error) { return []byte(key), nil }
}

// The policy for resumption does not depend on where the callback is.
func TestPolicyIsTheSameWithConfigPSK(t *testing.T) {
	t.Parallel()
	cert := dtlstest.SelfSigned(t, dtlstest.ECDSA)
	keys := &dtls.Config{CipherSuites: dtlstest.PSKConfig("key").CipherSuites}
	both := &dtls.Config{
		CipherSuites: append([]dtls.CipherSuiteID{certificateSuite}, keys.CipherSuites...), Certificates: []tls.Certificate{cert.Certificate},
	}
	for name, config := range map[string]*dtls.Config{"keys": keys, "both": both} {
		here, cfg, err := newHandshaker(config, Config{PSK: keyFor("key")})
		require.NoError(t, err)
		assert.NotNil(t, cfg.PSK)
		there := *config
		there.PSK = dtlstest.PSKConfig("key").PSK
		moved, cfg, err := newHandshaker(&there, Config{})
		require.NoError(t, err)
		assert.NotNil(t, cfg.PSK)
		assert.Equal(t, moved.PolicyID(), here.PolicyID(), name)
		assert.Equal(t, name == "both", hasCertificates(&here.config), name)
		_, err = here.config.PSK(nil)
		assert.Error(t, err, "pion never has this one")
	}
}

// The errors of dtls.Config.PSK are what they were.
func TestPSKOfDTLSConfigIsMoved(t *testing.T) {
	t.Parallel()
	refuse := errors.New("refused")
	config := dtlstest.PSKConfig("key")
	config.PSK = func(identity []byte) ([]byte, error) { return identity, refuse }
	var cfg Config
	require.NoError(t, movePSK(config, &cfg))
	key, err := cfg.PSK(t.Context(), PSKRequest{Identity: []byte("device"), ServerName: "a.example"})
	assert.Equal(t, "device", string(key))
	assert.ErrorIs(t, err, refuse)
}

// The hint is empty and not nil only with an ECDHE_PSK suite, and never replaces one.
func TestPSKIdentityHintIsSetForECDHE(t *testing.T) {
	t.Parallel()
	const plain, ecdhe = dtls.TLS_PSK_WITH_AES_128_GCM_SHA256, dtls.TLS_ECDHE_PSK_WITH_AES_128_CBC_SHA256
	hintOf := func(hint []byte, suites ...dtls.CipherSuiteID) []byte {
		m, _, err := newHandshaker(&dtls.Config{CipherSuites: suites, PSKIdentityHint: hint}, Config{PSK: keyFor("key")})
		require.NoError(t, err)
		return m.config.PSKIdentityHint
	}
	assert.Nil(t, hintOf(nil, plain))
	assert.Equal(t, []byte{}, hintOf(nil, ecdhe))
	assert.Equal(t, []byte{}, hintOf(nil, plain, ecdhe))
	assert.Equal(t, "hint", string(hintOf([]byte("hint"), plain, ecdhe)))
}

// SPDX-License-Identifier: MIT

package pionv2

import (
	"context"
	"crypto/tls"
	"errors"
	"strings"
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

func TestBothPSKCallbacksAreRefused(t *testing.T) {
	t.Parallel()
	_, err := Listen("udp", "127.0.0.1:0", dtlstest.PSKConfig("key"), Config{PSK: keyFor("key")})
	assert.ErrorContains(t, err, "pionv2: both dtls.Config.PSK and Config.PSK are set")
}

// With Config.PSK alone there are PSK suites, also beside those for certificates. The
// policy for resumption does not depend on where the callback is.
func TestConfigPSKEnablesPSKSuites(t *testing.T) {
	t.Parallel()
	cert := dtlstest.SelfSigned(t, dtlstest.ECDSA)
	keys := &dtls.Config{CipherSuites: dtlstest.PSKConfig("key").CipherSuites}
	both := &dtls.Config{
		CipherSuites: append([]dtls.CipherSuiteID{certificateSuite}, keys.CipherSuites...), Certificates: []tls.Certificate{cert.Certificate},
	}
	for name, config := range map[string]*dtls.Config{"keys": keys, "both": both} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := listen(t, config, Config{PSK: keyFor("key")})
			dtlstest.ServeEcho[*Conn](t, l)
			dtlstest.Echo(t, dtlstest.Dial(t, l.Addr(), nil, dtlstest.PSKConfig("key")), "with a key")
			assert.Nil(t, config.PSK, "the caller's stays as it was")

			here, cfg, err := newHandshaker(config, Config{PSK: keyFor("key")})
			require.NoError(t, err)
			assert.NotNil(t, cfg.PSK)
			there := *config
			there.PSK = dtlstest.PSKConfig("key").PSK
			moved, cfg, err := newHandshaker(&there, Config{})
			require.NoError(t, err)
			assert.NotNil(t, cfg.PSK)
			assert.Equal(t, moved.PolicyID(), here.PolicyID())
			assert.Equal(t, name == "both", hasCertificates(&here.config))
			_, err = here.config.PSK(nil)
			assert.Error(t, err, "pion never has this one")
		})
	}
	l := listen(t, both, Config{PSK: keyFor("key")})
	dtlstest.ServeEcho[*Conn](t, l)
	dtlstest.Echo(t, dtlstest.Dial(t, l.Addr(), nil, &dtls.Config{InsecureSkipVerify: true}), "with a certificate")
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

// OpenSSL understands the ServerKeyExchange without a hint, or that there is none.
func TestOpenSSLWithoutPSKIdentityHint(t *testing.T) {
	t.Parallel()
	dtlstest.NeedCommand(t, "openssl")
	const plain, ecdhe = dtls.TLS_PSK_WITH_AES_128_GCM_SHA256, dtls.TLS_ECDHE_PSK_WITH_AES_128_CBC_SHA256
	const plainName, ecdheName = "PSK-AES128-GCM-SHA256", "ECDHE-PSK-AES128-CBC-SHA256"
	var clients []*dtlstest.Process
	for _, test := range []struct {
		suites []dtls.CipherSuiteID
		name   string
	}{
		{[]dtls.CipherSuiteID{plain}, plainName},
		{[]dtls.CipherSuiteID{ecdhe}, ecdheName},
		{[]dtls.CipherSuiteID{plain, ecdhe}, plainName},
		{[]dtls.CipherSuiteID{plain, ecdhe}, ecdheName},
	} {
		l := listen(t, &dtls.Config{CipherSuites: test.suites}, Config{PSK: func(_ context.Context, r PSKRequest) ([]byte, error) {
			if r.ServerName != "a.example" {
				return nil, ErrUnknownPSKIdentity
			}
			return []byte(opensslKey), nil
		}})
		dtlstest.ServeEcho[*Conn](t, l)
		args := append([]string{"-servername", "a.example", "-cipher", test.name + ":@SECLEVEL=0"}, opensslPSK...)
		client := startOpenSSL(t, l, args...)
		echoOfProcess(client, "hello of "+strings.ToLower(test.name))
		client.Line("Q")
		clients = append(clients, client)
	}
	awaitEnds(clients...)
}

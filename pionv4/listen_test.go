// SPDX-License-Identifier: MIT

package pionv4

import (
	"testing"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	v2 "github.com/pion/dtls/v2"
	"github.com/pion/dtls/v4/pkg/crypto/ciphersuite"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { dtlstest.Main(m) }

func pskConfig(suites ...ciphersuite.ID) Config {
	return Config{PSK: func([]byte) ([]byte, error) { return []byte("key"), nil }, CipherSuites: suites}
}

func listen(t *testing.T, config Config, cfg dtlsserver.Config) *dtlsserver.Listener {
	t.Helper()
	l, err := Listen("udp", "127.0.0.1:0", config, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// TestClientsOfEachSuiteGetIn with each cipher suite that has a PSK.
func TestClientsOfEachSuiteGetIn(t *testing.T) {
	t.Parallel()
	for _, suite := range []v2.CipherSuiteID{
		v2.TLS_PSK_WITH_AES_128_CCM, v2.TLS_PSK_WITH_AES_128_CCM_8, v2.TLS_PSK_WITH_AES_256_CCM_8,
		v2.TLS_PSK_WITH_AES_128_GCM_SHA256, v2.TLS_PSK_WITH_AES_128_CBC_SHA256, v2.TLS_ECDHE_PSK_WITH_AES_128_CBC_SHA256,
	} {
		t.Run(suite.String(), func(t *testing.T) {
			t.Parallel()
			l := listen(t, pskConfig(ciphersuite.ID(suite)), dtlsserver.Config{})
			conns := dtlstest.ServeEcho[*dtlsserver.Conn](t, l)
			client := dtlstest.Dial(t, l.Addr(), nil, dtlstest.PSKConfig("key", suite))
			dtlstest.Echo(t, client, "x")
			c := dtlstest.Receive(t, conns)
			assert.Equal(t, dtlstest.Identity, string(c.Identity().PSKIdentity))
			assert.EqualValues(t, 1, l.Stats().HelloVerifyRequests)
			assert.EqualValues(t, 1, l.Stats().Started)
		})
	}
}

// SPDX-License-Identifier: MIT

package pionv2

import (
	"testing"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { dtlstest.Main(m) }

// listen opens a listener on a free port of 127.0.0.1, and closes it when the test
// ends.
func listen(t *testing.T, config *dtls.Config, cfg Config) *Listener {
	t.Helper()
	l, err := Listen("udp", "127.0.0.1:0", config, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// SPDX-License-Identifier: MIT

package pionv2

import (
	"math"
	"net"
	"testing"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestWrapConfigErrors(t *testing.T) {
	t.Parallel()
	table, err := dsm.New[*WrappedConn](1)
	require.NoError(t, err)
	inner, err := dtls.Listen("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}, dtlstest.PSKConfig("key"))
	require.NoError(t, err)
	defer inner.Close()
	for _, config := range []WrapConfig{{Sessions: -1}, {WhenFull: 9}, {Table: table, Sessions: 1}, {Sessions: math.MaxInt32}} {
		l, err := Wrap(inner, config)
		assert.Nil(t, l)
		assert.Error(t, err, "%+v", config)
	}
	_, err = Wrap(nil, WrapConfig{})
	assert.Error(t, err)

	// inner is still open after all of these errors.
	l, err := Wrap(inner, WrapConfig{})
	require.NoError(t, err)
	assert.Equal(t, DefaultSessions, l.Table().MaxSlots())
	assert.NoError(t, l.Close())
}

// SPDX-License-Identifier: MIT

package pionv2

import (
	"context"
	"net"
	"testing"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// stateful is what code for pion v2 asks of its conns.
type stateful interface{ ConnectionState() dtls.State }

// TestWithStateAcceptsConnsWithTheirState: code that was written for pion's listener
// finds the method that it wants, and everything else is the Conn's.
func TestWithStateAcceptsConnsWithTheirState(t *testing.T) {
	t.Parallel()
	l := listen(t, dtlstest.PSKConfig("key"), Config{})
	var wrapped net.Listener = WithState(l)
	assert.Equal(t, l.Addr(), wrapped.Addr())
	client := dtlstest.Dial(t, l.Addr(), nil, dtlstest.PSKConfig("key"))
	conn, err := wrapped.Accept()
	require.NoError(t, err)

	s, ok := conn.(stateful)
	require.True(t, ok)
	state := s.ConnectionState()
	assert.Equal(t, dtlstest.Identity, string(state.IdentityHint))
	want, err := state.ExportKeyingMaterial("EXPORTER-test", nil, 32)
	require.NoError(t, err)
	clientState := client.ConnectionState()
	got, err := clientState.ExportKeyingMaterial("EXPORTER-test", nil, 32)
	require.NoError(t, err)
	assert.Equal(t, want, got)

	c, ok := conn.(StateConn)
	require.True(t, ok)
	assert.Equal(t, ConnectionState(c.Conn).IdentityHint, state.IdentityHint)
	assert.Equal(t, client.Addr().String(), conn.RemoteAddr().String())
	_, ok = conn.(interface {
		HandshakeContext(context.Context) error
		Done() <-chan struct{}
		Identity() Identity
	})
	assert.True(t, ok, "the methods of Conn are there, too")
	_, err = conn.Write([]byte("x"))
	require.NoError(t, err)
	dtlstest.Expect(t, client, "x")
	require.NoError(t, conn.Close())
	assert.Equal(t, ClosedByUs, c.EndReason())

	require.NoError(t, wrapped.Close())
	conn, err = wrapped.Accept()
	assert.ErrorIs(t, err, net.ErrClosed)
	assert.Nil(t, conn, "no StateConn without a Conn")
	assert.ErrorIs(t, l.Close(), net.ErrClosed, "it is the same listener")
}

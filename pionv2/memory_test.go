// SPDX-License-Identifier: MIT

package pionv2

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/require"
)

// memory is a listener on a network in memory.
type memory struct {
	*Listener
	network *dtlstest.Network
	config  *dtls.Config // of the listener and its clients
}

// inBubble runs a test in a bubble of testing/synctest, where time is virtual.
func inBubble(t *testing.T, config *dtls.Config, cfg Config, test func(t *testing.T, l memory)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		network := dtlstest.NewNetwork(1)
		l, err := NewListener([]net.PacketConn{network.Listen(netip.AddrPort{})}, config, cfg)
		require.NoError(t, err)
		t.Cleanup(func() { _ = l.Close() })
		test(t, memory{l, network, config})
	})
}

func (l memory) addr() netip.AddrPort { return dtlstest.AddrPort(l.Addr()) }

// dial has a client connect over the transport that through returns for its socket. The
// client dies when the test ends.
func (l memory) dial(t *testing.T, through func(net.Conn) net.Conn) *dtlstest.Client {
	t.Helper()
	c, err := dtlstest.Handshake(through(l.network.Dial(netip.AddrPort{}, l.addr())), l.config)
	require.NoError(t, err)
	t.Cleanup(c.Kill)
	return c
}

// stall has a client return its cookie and fall silent, until the test ends.
func (l memory) stall(t *testing.T) net.Conn {
	t.Helper()
	socket := l.network.Dial(netip.AddrPort{}, l.addr())
	validated := make(chan struct{})
	var once sync.Once
	l.network.SetHook(dtlstest.ToClient, func(datagram []byte) bool {
		for _, r := range dtlstest.Records(datagram) {
			if m, _, ok := record.NextHandshake(r.Fragment()); ok && m.Type == record.MessageServerHello {
				once.Do(func() { close(validated) })
			}
		}
		return true
	})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = dtls.ClientWithContext(ctx, dtlstest.Stall(socket), l.config) })
	t.Cleanup(func() { cancel(); _ = socket.Close(); wg.Wait() })
	<-validated
	synctest.Wait()
	return socket
}

// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"net/netip"
	"testing"
	"testing/synctest"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/require"
)

// memory is a listener on a network in memory.
type memory struct {
	*dtlsserver.Listener
	network *dtlstest.Network
}

// inBubble runs a test in a bubble of testing/synctest, where time is virtual, with a
// listener on a network in memory.
func inBubble(t *testing.T, cfg dtlsserver.Config, test func(t *testing.T, l memory)) {
	t.Helper()
	inBubbleWith(t, psk(), cfg, test)
}

// inBubbleWith is inBubble with a configuration of pion's for the listener.
func inBubbleWith(t *testing.T, config *dtls.Config, cfg dtlsserver.Config, test func(t *testing.T, l memory)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, listenInMemory(t, config, cfg)) })
}

// listenInMemory opens a listener on a network of its own.
func listenInMemory(t *testing.T, config *dtls.Config, cfg dtlsserver.Config) memory {
	t.Helper()
	network := dtlstest.NewNetwork(1)
	return memory{listenOn(t, network.Listen(netip.AddrPort{}), config, cfg), network}
}

// addr returns the listener's address.
func (l memory) addr() netip.AddrPort { return dtlstest.AddrPort(l.Addr()) }

// dial has a client connect, from a free address if from is zero.
func (l memory) dial(t *testing.T, from netip.AddrPort) *dtlstest.Client {
	t.Helper()
	return l.network.DialClient(t, from, l.addr(), psk())
}

// connect has a client connect, and accepts its session.
func (l memory) connect(t *testing.T) (*dtlstest.Client, *dtlsserver.Conn) {
	t.Helper()
	client := l.dial(t, netip.AddrPort{})
	c, err := l.AcceptConn(t.Context())
	require.NoError(t, err)
	return client, c
}

// dialRefused has a client connect whose session ends with its handshake. Pion's client
// gives an error then, or has missed the close_notify.
func (l memory) dialRefused(t *testing.T) {
	t.Helper()
	client, err := dtlstest.Handshake(l.network.Dial(netip.AddrPort{}, l.addr()), psk())
	if err == nil {
		client.Kill()
	}
}

// sendHello sends the first ClientHello of a client that never goes on. Its address is
// the n-th of a network.
func (l memory) sendHello(t *testing.T, n int) netip.AddrPort {
	t.Helper()
	from := dtlstest.NthAddr(10, n, 5684)
	require.True(t, l.network.Inject(from, l.addr(), dtlstest.Hello(byte(n))))
	return from
}

// write has a client send datagrams.
func write(t *testing.T, client *dtlstest.Client, texts ...string) {
	t.Helper()
	for _, text := range texts {
		_, err := client.Write([]byte(text))
		require.NoError(t, err)
	}
}

// read returns the next datagram of a session.
func read(t *testing.T, c *dtlsserver.Conn) string {
	t.Helper()
	buf := make([]byte, 1<<14)
	n, err := c.Read(buf)
	require.NoError(t, err)
	return string(buf[:n])
}

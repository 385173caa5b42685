// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"net/netip"
	"testing"
	"testing/synctest"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
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

// dialThrough has a client connect, with rewrite in its way to the server.
func (l memory) dialThrough(t *testing.T, config *dtls.Config, rewrite func(datagram []byte, send func([]byte) error) error) *dtlstest.Client {
	t.Helper()
	client, err := dtlstest.Handshake(dtlstest.Rewrite(l.network.Dial(netip.AddrPort{}, l.addr()), rewrite), config)
	require.NoError(t, err)
	t.Cleanup(client.Kill)
	return client
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

// unvalidated returns n, which counts something of clients that have not returned their cookie,
// or 0 if the server keeps nothing of them.
func unvalidated(n int) int {
	if statelessCookie {
		return 0
	}
	return n
}

// needUnvalidated skips a test that needs handshakes of clients that have not returned their
// cookie.
func needUnvalidated(t *testing.T) {
	t.Helper()
	if statelessCookie {
		t.Skip("nothing is kept of a client that has not returned its cookie")
	}
}

// occupy has a client begin a handshake and never go on: it takes a place and a slot. Its
// address is the n-th of a network.
func (l memory) occupy(t *testing.T, n int) netip.AddrPort {
	t.Helper()
	from := dtlstest.NthAddr(10, n, 5684)
	l.occupyFrom(t, from, dtlstest.RandomOf(byte(n)))
	return from
}

func (l memory) occupyFrom(t *testing.T, from netip.AddrPort, random record.Random) {
	t.Helper()
	require.True(t, l.network.Inject(from, l.addr(), opening(l.Listener, from, random)))
}

// opening returns the datagram at which a handshake begins: the first ClientHello of a client,
// or the one that has returned the server's cookie.
func opening(l *dtlsserver.Listener, from netip.AddrPort, random record.Random) []byte {
	hello := dtlstest.ClientHello{Random: random, Extensions: dtlstest.ExtendedMasterSecret()}
	if statelessCookie {
		hello.Sequence, hello.MessageSeq, hello.Cookie = 1, 1, l.CookieFor(from, hello.Body())
	}
	return hello.Datagram()
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

// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"context"
	"net"
	"os"
	"sync"
	"testing"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { dtlstest.Main(m) }

// listen opens a listener on a free port of 127.0.0.1, and closes it when the test ends.
func listen(t *testing.T, config *dtls.Config, cfg dtlsserver.Config) *dtlsserver.Listener {
	t.Helper()
	l, err := openListener("udp", "127.0.0.1:0", config, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// listenOn is listen on a socket of the test's.
func listenOn(t *testing.T, socket net.PacketConn, config *dtls.Config, cfg dtlsserver.Config) *dtlsserver.Listener {
	t.Helper()
	l, err := newListener(socket, config, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func newListener(socket net.PacketConn, config *dtls.Config, cfg dtlsserver.Config) (*dtlsserver.Listener, error) {
	return openListenerOn([]net.PacketConn{socket}, config, cfg)
}

// listenTap is listen on a socket whose datagrams the test can drop.
func listenTap(t *testing.T, config *dtls.Config, cfg dtlsserver.Config) (*dtlsserver.Listener, *dtlstest.Tap) {
	t.Helper()
	tap := dtlstest.ListenTap(t)
	return listenOn(t, tap, config, cfg), tap
}

// psk is the configuration of a listener and of its clients.
func psk() *dtls.Config { return dtlstest.PSKConfig("key") }

// echoServer has l echo all datagrams, and returns its sessions.
func echoServer(t *testing.T, l *dtlsserver.Listener) <-chan *dtlsserver.Conn {
	t.Helper()
	return dtlstest.ServeEcho[*dtlsserver.Conn](t, l)
}

// dial has a client of pion v2 connect to l, from a free port if from is nil.
func dial(t *testing.T, l *dtlsserver.Listener, from *net.UDPAddr) *dtlstest.Client {
	t.Helper()
	return dtlstest.Dial(t, l.Addr(), from, psk())
}

// serve runs l.Serve until the test ends.
func serve(t *testing.T, l *dtlsserver.Listener, handler func(*dtlsserver.Conn, []byte)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = l.Serve(ctx, handler) })
	t.Cleanup(func() { cancel(); wg.Wait() })
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	return content
}

func writeFile(t *testing.T, path string, content []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, content, 0o600))
}

// SPDX-License-Identifier: MIT

package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	restarts = 10
	interval = 20 * time.Millisecond // between two lines of a client, and two notifications
)

// startOpenSSL starts OpenSSL's client, which has its session when this returns.
func startOpenSSL(t *testing.T, server string) *dtlstest.Process {
	t.Helper()
	openssl := dtlstest.NeedCommand(t, "openssl")
	client := dtlstest.StartProcess(t, openssl, "s_client", "-dtls1_2", "-connect", server, "-psk_identity", dtlstest.Identity, "-psk", fmt.Sprintf("%x", key))
	client.Line("hello")
	client.Expect("hello")
	return client
}

// OpenSSL's client sends a line every 20 ms while the server restarts ten times. Each line is
// echoed once, and in order, and there is no handshake.
func TestEchoOverRestarts(t *testing.T) {
	t.Parallel()
	dtlstest.NeedCommand(t, "openssl")
	server := startServer(t, "-state", t.TempDir())
	relay := dtlstest.StartRelay(t, server.addr)
	client := startOpenSSL(t, relay.Addr().String())
	var seen wire
	seen.watch(relay)

	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	limit := time.Now().Add(dtlstest.Patience)
	lines, done := 0, 0
	line := func() {
		<-ticker.C
		client.Line(fmt.Sprint("line ", lines))
		lines++
	}
	for done < restarts {
		old := server.pid
		for range 5 {
			line()
		}
		server.signal(syscall.SIGHUP)
		for !server.Says(time.Now(), "msg=serving") { // the lines go on meanwhile
			require.True(t, time.Now().Before(limit), server.Output())
			line()
		}
		server.readServing()
		require.NotEqual(t, old, server.pid)
		done++
	}
	for range 5 {
		line()
	}
	client.Expect(fmt.Sprint("line ", lines-1))
	echoed := numbers(client.Output(), "line ")
	require.Len(t, echoed, lines)
	require.Zero(t, echoed[0])
	requireNoGap(t, echoed)
	assert.Equal(t, seen.in.Load(), seen.out.Load())
	assert.Greater(t, seen.in.Load(), int64(lines/2)) // a slow client sends several lines in one record
	assert.Zero(t, seen.handshakes.Load())
	t.Logf("%d lines over %d restarts", lines, restarts)
}

// One client of libcoap observes the count, and another one asks for it every second, while
// the server restarts ten times. The observer misses no number, each request is answered the
// first time, and there is no handshake.
func TestObservationOverRestarts(t *testing.T) {
	t.Parallel()
	command := dtlstest.NeedCommand(t, libcoap)
	server := startServer(t, "-state", t.TempDir(), "-protocol", "coap", "-every", interval.String())
	start := func(args ...string) (*dtlstest.Process, *wire) {
		relay := dtlstest.StartRelay(t, server.addr)
		args = append(args, "-w", "-k", key, "-u", dtlstest.Identity, "coaps://"+relay.Addr().String()+countPath)
		client := dtlstest.StartProcess(t, command, args...)
		client.Expect("")
		w := &wire{}
		w.watch(relay)
		return client, w
	}
	observer, observed := start("-s", "120")
	asker, asked := start("-G", "120")
	for range restarts {
		server.restart(2)
		for range 25 {
			observer.Expect("")
		}
	}
	counts := numbers(observer.Output(), "")
	require.Greater(t, len(counts), 25*restarts)
	requireNoGap(t, counts)
	assert.Zero(t, observed.handshakes.Load())
	assert.Zero(t, asked.handshakes.Load())
	dtlstest.Eventually(t, func() bool { return asked.in.Load() == asked.out.Load() }, "a request without an answer")
	assert.Greater(t, asked.in.Load(), int64(1))
	assert.Len(t, numbers(asker.Output(), ""), int(asked.in.Load())+1)
	t.Logf("%d notifications and %d requests over %d restarts", len(counts), asked.in.Load(), restarts)
}

// A server that cannot save its sessions serves on, and so does one whose successor does not
// start. Then it restarts.
func TestServesOnWithoutSuccessor(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	server := startServer(t, "-state", state)
	client := dtlstest.Dial(t, server.addr, nil, dtlstest.PSKConfig(key))
	dtlstest.Echo(t, client, "before")

	require.NoError(t, os.Mkdir(filepath.Join(state, "snapshot"), 0o700))
	server.signal(syscall.SIGHUP)
	server.Expect("not restarted")
	dtlstest.Echo(t, client, "not saved")
	require.NoError(t, os.Remove(filepath.Join(state, "snapshot")))

	secret, err := os.ReadFile(filepath.Join(state, "key"))
	require.NoError(t, err)
	require.NoError(t, os.Truncate(filepath.Join(state, "key"), 1))
	server.signal(syscall.SIGHUP)
	server.Expect("has 1 bytes")
	server.Expect("the successor is not ready")
	dtlstest.Echo(t, client, "no successor")
	require.NoError(t, os.WriteFile(filepath.Join(state, "key"), secret, 0o600))

	server.restart(1)
	dtlstest.Echo(t, client, "after")
}

// SIGTERM ends the server, and the next start has its sessions: on a socket that its parent
// has kept for it, as systemd does.
func TestStopAndStartWithInheritedSocket(t *testing.T) {
	t.Parallel()
	sh := dtlstest.NeedCommand(t, "sh")
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	socket, err := conn.File()
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	defer socket.Close()
	args := []string{"-c", "LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"", "sh", executable(t), "-listen", "nowhere", "-state", t.TempDir()}
	start := func() *program {
		cmd := exec.Command(sh, args...)
		cmd.ExtraFiles = []*os.File{socket}
		return startCommand(t, cmd)
	}
	server := start()
	client := dtlstest.Dial(t, server.addr, nil, dtlstest.PSKConfig(key))
	dtlstest.Echo(t, client, "before")
	server.signal(syscall.SIGTERM)
	server.Ends()
	_, err = client.Write([]byte("meanwhile"))
	require.NoError(t, err)
	server = start()
	require.NoError(t, client.SetReadDeadline(time.Now().Add(dtlstest.Patience)))
	answer := make([]byte, 100)
	n, err := client.Read(answer)
	require.NoError(t, err)
	require.Equal(t, "meanwhile", string(answer[:n]))
	server.restart(1) // as after a start without a socket
	dtlstest.Echo(t, client, "after")
}

// SPDX-License-Identifier: MIT

package redisstore

import (
	"context"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// patience bounds the time that a test waits for a condition. Only a failing test waits
// that long.
const patience = 20 * time.Second

// redisLogger passes the log of go-redis to a log.Logger.
type redisLogger struct{ *log.Logger }

func (l redisLogger) Printf(_ context.Context, format string, v ...any) {
	l.Logger.Printf(format, v...)
}

func TestMain(m *testing.M) {
	if addr := os.Getenv(serveRedis); addr != "" {
		serveDTLS(addr)
		return
	}
	redis.SetLogger(redisLogger{log.New(io.Discard, "", 0)}) // go-redis logs each failed dial
	os.Exit(m.Run())
}

// server is a Redis or Valkey server in a process that the test has started.
type server struct {
	port   int
	args   []string
	dir    string
	cmd    *exec.Cmd
	exited chan struct{} // closed when the process has exited
}

// startServer starts a server on a free port. If none is installed, the test is skipped, or
// fails in CI.
func startServer(t testing.TB, args ...string) *server {
	t.Helper()
	findLeaks(t)
	s := &server{args: args, dir: t.TempDir()}
	t.Cleanup(s.kill)
	for range 5 { // another process may take the port first
		s.port = freePort(t)
		if s.run(t) {
			return s
		}
	}
	output, err := os.ReadFile(s.log())
	require.NoError(t, err)
	require.FailNow(t, "the server does not start", string(output))
	return nil
}

// freePort returns a TCP port below the ephemeral ports, so that no outgoing connection
// takes it. The port for the cluster bus, 10000 above, is free and below them too.
func freePort(t testing.TB) int {
	t.Helper()
	for range 100 {
		port := 12000 + rand.IntN(10000)
		if canListen(port) && canListen(port+10000) {
			return port
		}
	}
	require.FailNow(t, "no free port")
	return 0
}

func canListen(port int) bool {
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return false
	}
	return l.Close() == nil
}

func (s *server) addr() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

func (s *server) log() string { return filepath.Join(s.dir, "log") }

// run starts the process and waits until it replies or exits. It reports whether the
// process replies.
func (s *server) run(t testing.TB) bool {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		path, err = exec.LookPath("valkey-server")
	}
	if err != nil {
		const missing = "neither redis-server nor valkey-server is installed"
		if os.Getenv("CI") != "" {
			require.FailNow(t, missing)
		}
		t.Skip(missing)
	}
	args := []string{"--port", fmt.Sprint(s.port), "--bind", "127.0.0.1", "--dir", s.dir, "--logfile", s.log(), "--save", "", "--appendonly", "no"}
	s.cmd, s.exited = exec.Command(path, append(args, s.args...)...), make(chan struct{})
	require.NoError(t, s.cmd.Start())
	go func(cmd *exec.Cmd, exited chan struct{}) {
		defer close(exited)
		_ = cmd.Wait() // the test kills it, or its log has the reason
	}(s.cmd, s.exited)

	client := redis.NewUniversalClient(Options(s.addr()))
	defer func() { require.NoError(t, client.Close()) }()
	processID := fmt.Sprintf("process_id:%d\r\n", s.cmd.Process.Pid) // not of another server on this port
	for start := time.Now(); time.Since(start) < patience; {
		select {
		case <-s.exited:
			return false
		case <-time.After(5 * time.Millisecond):
		}
		info, err := client.Info(t.Context(), "server").Result()
		if err == nil && strings.Contains(info, processID) {
			return true
		}
	}
	s.kill()
	return false
}

// kill ends the process and waits until it has exited.
func (s *server) kill() {
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	<-s.exited
}

// restart kills the server and starts an empty one on the same port.
func (s *server) restart(t testing.TB) {
	t.Helper()
	s.kill()
	require.True(t, s.run(t), "the server does not start again")
}

// findLeaks checks at the end of the test that the goroutines started since have ended.
// Call it before anything whose cleanup ends goroutines.
func findLeaks(t testing.TB) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		var err error
		// Some goroutines of go-redis sleep for up to a second after Close.
		for start := time.Now(); time.Since(start) < patience; {
			if err = goleak.Find(before); err == nil {
				return
			}
		}
		assert.NoError(t, err)
	})
}

// newClient returns a client that is closed at the end of the test.
func newClient(t testing.TB, options *redis.UniversalOptions) redis.UniversalClient {
	t.Helper()
	client := redis.NewUniversalClient(options)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	return client
}

// storedValue returns the value that the server has for a session id.
func storedValue(t testing.TB, b *Backend, id []byte) []byte {
	t.Helper()
	value, err := b.client.Get(t.Context(), b.name(id)).Bytes()
	require.NoError(t, err)
	return value
}

func newBackend(t testing.TB, config Config) *Backend {
	t.Helper()
	b, err := New(config)
	require.NoError(t, err)
	return b
}

func testKey(id uint32) Key {
	key := Key{ID: id}
	for i := range key.Secret {
		key.Secret[i] = byte(id) ^ byte(0x5a+i)
	}
	return key
}

// onServer starts a server and returns a Backend on it, with a cooldown of 20 ms.
func onServer(t testing.TB) (*Backend, *server) {
	t.Helper()
	s := startServer(t)
	return newBackend(t, Config{Client: newClient(t, Options(s.addr())), Keys: []Key{testKey(1)}, Cooldown: 20 * time.Millisecond}), s
}

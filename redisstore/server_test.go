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

// patience bounds what a test waits for; nothing waits for all of it but a failure.
const patience = 20 * time.Second

type quiet struct{ *log.Logger }

func (q quiet) Printf(_ context.Context, format string, v ...any) { q.Logger.Printf(format, v...) }

func TestMain(m *testing.M) {
	if addr := os.Getenv(serveRedis); addr != "" {
		serveDTLS(addr)
		return
	}
	redis.SetLogger(quiet{log.New(io.Discard, "", 0)}) // it tells of each failed dial
	os.Exit(m.Run())
}

// server is a process of our own.
type server struct {
	port   int
	args   []string
	dir    string
	cmd    *exec.Cmd
	exited chan struct{} // closed when it has
}

// startServer starts one on a port that nobody has; a test of it is skipped where
// there is none, but not in CI.
func startServer(t testing.TB, args ...string) *server {
	t.Helper()
	findLeaks(t)
	s := &server{args: args, dir: t.TempDir()}
	t.Cleanup(s.kill)
	for range 5 { // another process may be faster
		s.port = freePort(t)
		if s.run(t) {
			return s
		}
	}
	said, err := os.ReadFile(s.log())
	require.NoError(t, err)
	require.FailNow(t, "the server does not start", string(said))
	return nil
}

// freePort looks below the ports that systems choose themselves, so that nobody gets
// it by chance; and the port of a cluster's bus, 10000 above, is there too.
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

// run starts the process, and waits until it answers or has exited.
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
		_ = cmd.Wait() // killed, or it says why in its log
	}(s.cmd, s.exited)

	client := redis.NewUniversalClient(Options(s.addr()))
	defer func() { require.NoError(t, client.Close()) }()
	ours := fmt.Sprintf("process_id:%d\r\n", s.cmd.Process.Pid)
	for began := time.Now(); time.Since(began) < patience; {
		select {
		case <-s.exited:
			return false
		case <-time.After(5 * time.Millisecond):
		}
		info, err := client.Info(t.Context(), "server").Result()
		if err == nil && strings.Contains(info, ours) {
			return true
		}
	}
	s.kill()
	return false
}

// kill ends the process, and no other.
func (s *server) kill() {
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	<-s.exited
}

// restart starts it again, on the same port and with nothing in it.
func (s *server) restart(t testing.TB) {
	t.Helper()
	s.kill()
	require.True(t, s.run(t), "the server does not start again")
}

// findLeaks looks for goroutines of the test when all that it has opened later is closed.
func findLeaks(t testing.TB) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		var err error
		// After Close go-redis sleeps here and there, a second at most.
		for began := time.Now(); time.Since(began) < patience; {
			if err = goleak.Find(before); err == nil {
				return
			}
		}
		assert.NoError(t, err)
	})
}

// newClient's client is closed when the test is over.
func newClient(t testing.TB, options *redis.UniversalOptions) redis.UniversalClient {
	t.Helper()
	client := redis.NewUniversalClient(options)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	return client
}

// raw is what the server holds under a session id.
func raw(t testing.TB, b *Backend, id []byte) []byte {
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

// onServer is a Backend on a server of its own.
func onServer(t testing.TB) (*Backend, *server) {
	t.Helper()
	s := startServer(t)
	return newBackend(t, Config{Client: newClient(t, Options(s.addr())), Keys: []Key{testKey(1)}, Cooldown: 20 * time.Millisecond}), s
}

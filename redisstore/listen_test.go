// SPDX-License-Identifier: MIT

package redisstore

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-dsm/dsm/pionv2"
	"github.com/go-dsm/dsm/resume"
	"github.com/pion/dtls/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// serveRedis, in the environment, makes the test's binary a DTLS server with its
// sessions in the Redis at that address.
const serveRedis = "DSM_TEST_SERVE_REDIS"

func pskConfig() *dtls.Config {
	return &dtls.Config{
		PSK:             func([]byte) ([]byte, error) { return []byte("0123456789abcdef"), nil },
		PSKIdentityHint: []byte("device"),
		CipherSuites:    []dtls.CipherSuiteID{dtls.TLS_PSK_WITH_AES_128_GCM_SHA256},
		FlightInterval:  50 * time.Millisecond,
		ConnectContextMaker: func() (context.Context, func()) {
			return context.WithTimeout(context.Background(), patience)
		},
	}
}

// listenDTLS echoes, and says of each session who it is and whether it was resumed.
func listenDTLS(backend resume.Backend, say func(c *pionv2.Conn)) (*pionv2.Listener, error) {
	store, err := resume.New(resume.Config{Backend: backend, LookupTimeout: time.Second, LookupsPerSource: -1})
	if err != nil {
		return nil, err
	}
	return pionv2.Listen("udp", "127.0.0.1:0", pskConfig(), pionv2.Config{
		Resumption: store, HandshakesPerSource: -1, OnEstablished: say,
	})
}

func echoAll(l *pionv2.Listener) {
	_ = l.Serve(context.Background(), func(c *pionv2.Conn, datagram []byte) { _, _ = c.Write(datagram) })
}

// serveDTLS is the server process. It ends when its stdin does.
func serveDTLS(redisAddr string) {
	client := redis.NewUniversalClient(Options(redisAddr))
	backend, err := New(Config{Client: client, Keys: []Key{testKey(1)}})
	if err != nil {
		log.Fatal(err)
	}
	l, err := listenDTLS(backend, func(c *pionv2.Conn) {
		if !c.Resumed() {
			if err := c.SetSessionData([]byte("kept since the first server")); err != nil {
				log.Fatal(err)
			}
		}
		fmt.Printf("resumed %t, %s, %s\n", c.Resumed(), c.Identity().PSK, c.SessionData())
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(l.Addr())
	go echoAll(l)
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// process is one whose lines are read.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan string
}

func startProcess(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.Stderr = cmd.Stdout
	require.NoError(t, cmd.Start())
	p := &process{t, cmd, stdin, make(chan string, 1000)}
	go func() {
		defer close(p.lines)
		for s := bufio.NewScanner(stdout); s.Scan(); {
			p.lines <- s.Text()
		}
	}()
	t.Cleanup(p.kill)
	return p
}

// kill ends the process, if it has not ended yet.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	for range p.lines {
	}
	_ = p.cmd.Wait()
}

// expect waits for a line with text, and returns it.
func (p *process) expect(text string) string {
	p.t.Helper()
	var said []string
	timeout := time.After(patience)
	for {
		select {
		case line, ok := <-p.lines:
			said = append(said, line)
			if strings.Contains(line, text) {
				return line
			}
			require.True(p.t, ok, "it ended without %q:\n%s", text, strings.Join(said, "\n"))
		case <-timeout:
			require.FailNow(p.t, "no "+text, strings.Join(said, "\n"))
		}
	}
}

// OpenSSL's session of one server process is resumed by another, when the first one is
// gone: with who the client is, and what the application has attached.
func TestServers(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		if os.Getenv("CI") != "" {
			require.FailNow(t, "CI has no openssl")
		}
		t.Skip("openssl is not installed: not tested against it")
	}
	redisServer := startServer(t)
	file := t.TempDir() + "/session.pem"
	for n := range 3 {
		serverCmd := exec.Command(os.Args[0])
		serverCmd.Env = append(os.Environ(), serveRedis+"="+redisServer.addr())
		server := startProcess(t, serverCmd)
		addr := server.expect("127.0.0.1:")

		args := []string{"s_client", "-dtls1_2", "-connect", addr, "-psk_identity", "device", "-psk", "30313233343536373839616263646566"}
		args = append(args, [][]string{{"-sess_out", file}, {"-sess_in", file}}[min(n, 1)]...)
		client := startProcess(t, exec.Command(openssl, args...))
		client.expect([]string{"New, TLSv1.2", "Reused, TLSv1.2"}[min(n, 1)])
		_, err = fmt.Fprintf(client.stdin, "visit %d\n", n)
		require.NoError(t, err)
		client.expect(fmt.Sprint("visit ", n))
		server.expect(fmt.Sprintf("resumed %t, device, kept since the first server", n > 0))
		_, err = fmt.Fprintln(client.stdin, "Q")
		require.NoError(t, err)
		client.kill()
		server.kill()
	}
}

// clientStore keeps the session of one client.
type clientStore struct{ dtls.Session }

func (s *clientStore) Set(_ []byte, session dtls.Session) error {
	s.Session = dtls.Session{ID: bytes.Clone(session.ID), Secret: bytes.Clone(session.Secret)}
	return nil
}
func (s *clientStore) Get([]byte) (dtls.Session, error) { return s.Session, nil }
func (s *clientStore) Del([]byte) error                 { s.Session = dtls.Session{}; return nil }

// Redis is killed and restarted while clients come and come back: no handshake fails.
func TestRedisIsRestartedUnderLoad(t *testing.T) {
	backend, redisServer := onServer(t)
	var resumed atomic.Int64
	l, err := listenDTLS(backend, func(c *pionv2.Conn) {
		if c.Resumed() {
			resumed.Add(1)
		}
	})
	require.NoError(t, err)
	var serving sync.WaitGroup
	serving.Go(func() { echoAll(l) })
	t.Cleanup(func() { _ = l.Close(); serving.Wait() })

	const handshakes, workers = 200, 8
	var begun, done atomic.Int64
	var resumedBefore, resumedWithout int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			kept := &clientStore{}
			config := pskConfig()
			config.SessionStore = kept
			for begun.Add(1) <= handshakes {
				udp, err := net.DialUDP("udp", nil, l.Addr().(*net.UDPAddr))
				if !assert.NoError(t, err) {
					return
				}
				c, err := dtls.Client(udp, config)
				if !assert.NoError(t, err, "a handshake") {
					return
				}
				_ = c.SetDeadline(time.Now().Add(patience))
				_, err = c.Write([]byte("x"))
				assert.NoError(t, err)
				_, err = c.Read(make([]byte, 10))
				assert.NoError(t, err)
				_ = c.Close()
				done.Add(1)
			}
		})
	}
	wait := func(n int64) {
		require.Eventually(t, func() bool { return done.Load() >= n }, patience, time.Millisecond)
	}
	wait(handshakes / 3)
	redisServer.kill()
	resumedBefore = resumed.Load()
	wait(2 * handshakes / 3)
	resumedWithout = resumed.Load() - resumedBefore
	redisServer.restart(t)
	wg.Wait()
	assert.EqualValues(t, handshakes, done.Load())
	stats := l.Stats()
	assert.EqualValues(t, handshakes, stats.Completed)
	assert.Zero(t, stats.Failed)
	assert.Zero(t, stats.TimedOut)
	assert.Positive(t, resumedBefore)
	assert.Positive(t, backend.Stats().Failures)
	t.Logf("%d resumed before, %d with Redis down, %d after; %+v", resumedBefore, resumedWithout, resumed.Load()-resumedBefore-resumedWithout, backend.Stats())
}

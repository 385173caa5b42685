// SPDX-License-Identifier: MIT

package redisstore

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/pionv2"
	"github.com/go-dsm/dsm/resume"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// serveRedis is an environment variable. If it has the address of a Redis server, the test
// binary is a DTLS server that keeps its sessions there.
const serveRedis = "DSM_TEST_SERVE_REDIS"

// pskKey is the pre-shared key of the DTLS servers.
const pskKey = "0123456789abcdef"

// listenDTLS opens a listener that keeps its sessions in a backend.
func listenDTLS(backend resume.Backend, onEstablished func(c *pionv2.Conn)) (*pionv2.Listener, error) {
	store, err := resume.New(resume.Config{Backend: backend, LookupTimeout: time.Second, LookupsPerSource: -1})
	if err != nil {
		return nil, err
	}
	return pionv2.Listen("udp", "127.0.0.1:0", dtlstest.PSKConfig(pskKey), pionv2.Config{
		Resumption: store, HandshakesPerSource: -1, OnEstablished: onEstablished,
	})
}

// echoAll echoes all datagrams until l is closed.
func echoAll(l *pionv2.Listener) {
	_ = l.Serve(context.Background(), func(c *pionv2.Conn, datagram []byte) { _, _ = c.Write(datagram) })
}

// serveDTLS is the process of a DTLS server. It prints the address, and of each session
// who it is and whether it was resumed. It ends when its standard input does.
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
		fmt.Printf("resumed %t, %s, %s\n", c.Resumed(), c.Identity().PSKIdentity, c.SessionData())
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(l.Addr())
	go echoAll(l)
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// A session that OpenSSL has established with one server process is resumed by another one
// when the first is gone, with the client's identity and the application's data.
func TestAnotherServerResumes(t *testing.T) {
	openssl := dtlstest.NeedCommand(t, "openssl")
	redisServer := startServer(t)
	file := filepath.Join(t.TempDir(), "session.pem")
	for n := range 3 {
		serverCmd := exec.Command(os.Args[0])
		serverCmd.Env = append(os.Environ(), serveRedis+"="+redisServer.addr())
		server := dtlstest.StartCommand(t, serverCmd)
		addr := server.Expect("127.0.0.1:")

		args := []string{"s_client", "-dtls1_2", "-connect", addr, "-psk_identity", dtlstest.Identity, "-psk", fmt.Sprintf("%x", pskKey)}
		args = append(args, [][]string{{"-sess_out", file}, {"-sess_in", file}}[min(n, 1)]...)
		client := dtlstest.StartProcess(t, openssl, args...)
		client.Expect([]string{"New, TLSv1.2", "Reused, TLSv1.2"}[min(n, 1)])
		line := fmt.Sprint("visit ", n)
		client.Line(line)
		client.Expect(line)
		server.Expect(fmt.Sprintf("resumed %t, %s, kept since the first server", n > 0, dtlstest.Identity))
		client.Line("Q")
		client.Kill()
		server.Kill()
	}
}

// Redis is killed and restarted while clients connect and resume: no handshake fails.
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
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			config := dtlstest.PSKConfig(pskKey)
			config.SessionStore = &dtlstest.ClientStore{}
			for begun.Add(1) <= handshakes {
				c, err := dtlstest.TryDial(l.Addr(), nil, config)
				if !assert.NoError(t, err, "a handshake") {
					return
				}
				_ = c.SetDeadline(time.Now().Add(dtlstest.Patience))
				_, err = c.Write([]byte("x"))
				assert.NoError(t, err)
				_, err = c.Read(make([]byte, 10))
				assert.NoError(t, err)
				_ = c.Close()
				done.Add(1)
			}
		})
	}
	await := func(n int64) {
		dtlstest.Eventually(t, func() bool { return done.Load() >= n }, "%d handshakes", n)
	}
	await(handshakes / 3)
	redisServer.kill()
	resumedBefore := resumed.Load()
	await(2 * handshakes / 3)
	resumedWithout := resumed.Load() - resumedBefore
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

// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-dsm/dsm/dsmprom"
	"github.com/go-dsm/dsm/dsmprom/redisprom"
	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/keyring"
	"github.com/go-dsm/dsm/pionv2"
	"github.com/go-dsm/dsm/redisstore"
	"github.com/go-dsm/dsm/resume"
	"github.com/pion/dtls/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	goredis "github.com/redis/go-redis/v9"
)

// The server's limits. It begins with 120 devices, which have a slot each.
const (
	slots      = 200
	handshakes = 64
	// All clients and servers share the machine, so Redis may take longer than usual.
	lookupTimeout = 250 * time.Millisecond
)

// quiet takes the log of go-redis, which has each failed dial while Redis is down.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// server is an echo server with its metrics.
type server struct {
	dir     string
	key     keyring.Key
	client  goredis.UniversalClient
	backend *redisstore.Backend
	store   *resume.Store
	metrics *httptest.Server

	// Of the listener, which is another one after a restart.
	listener *pionv2.Listener
	served   chan struct{}
	registry atomic.Pointer[prometheus.Registry]
}

func newServer(dir, redisAddr string) (*server, error) {
	s := &server{dir: dir, key: keyring.Key{ID: 1}}
	_, _ = rand.Read(s.key.Secret[:])
	goredis.SetLogger(quiet{})
	s.client = goredis.NewUniversalClient(redisstore.Options(redisAddr))
	var err error
	if s.backend, err = redisstore.New(redisstore.Config{Client: s.client, Keys: []redisstore.Key{s.key}}); err != nil {
		return nil, err
	}
	if s.store, err = resume.New(resume.Config{Backend: s.backend, LookupTimeout: lookupTimeout}); err != nil {
		return nil, err
	}
	if err := os.Mkdir(filepath.Join(dir, "journal"), 0o700); err != nil {
		return nil, err
	}
	if err := s.listen("127.0.0.1:0", ""); err != nil {
		return nil, err
	}
	s.metrics = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		promhttp.HandlerFor(s.registry.Load(), promhttp.HandlerOpts{}).ServeHTTP(w, r)
	}))
	return s, nil
}

func (s *server) addr() *net.UDPAddr { return s.listener.Addr().(*net.UDPAddr) }

// metricsAddr is where the metrics are served.
func (s *server) metricsAddr() string { return strings.TrimPrefix(s.metrics.URL, "http://") }

// listen opens the listener. snapshot is a file with sessions, or empty.
func (s *server) listen(addr, snapshot string) error {
	config := &dtls.Config{CipherSuites: suites}
	restored := dtlsserver.RestoreStats{}
	l, err := pionv2.Listen("udp", addr, config, pionv2.Config{
		Sessions: slots, Handshakes: handshakes, HandshakeTimeout: 8 * time.Second, IdleTimeout: 30 * time.Second,
		Resumption: s.store, ResumptionScope: "dashboard",
		PSK: func(_ context.Context, r pionv2.PSKRequest) ([]byte, error) {
			if string(r.Identity) != knownIdentity {
				return nil, nil
			}
			return []byte(rightKey), nil
		},
		Journal: &dtlsserver.Journal{Dir: filepath.Join(s.dir, "journal"), Keys: []keyring.Key{s.key}},
		Restore: func(l *dtlsserver.Listener) (err error) {
			if snapshot != "" {
				restored, err = l.RestoreFile(context.Background(), snapshot, s.key)
			}
			return err
		},
	})
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(dsmprom.NewStoreCollector(s.store), redisprom.NewCollector(s.backend), dsmprom.NewRestoreCollector(restored))
	prometheus.WrapRegistererWith(prometheus.Labels{"listener": "coap"}, registry).MustRegister(dsmprom.NewListenerCollector(l))
	s.listener, s.served = l, make(chan struct{})
	s.registry.Store(registry)
	go func() {
		defer close(s.served)
		_ = l.Serve(context.Background(), func(c *pionv2.Conn, datagram []byte) { _, _ = c.Write(datagram) })
	}()
	return nil
}

// restart hands the sessions to another listener on the same port, as a new process does.
func (s *server) restart() error {
	snapshot := filepath.Join(s.dir, "snapshot")
	ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
	defer stop()
	addr := s.addr().String()
	_, err := s.listener.SaveFile(ctx, snapshot, s.key)
	if err != nil {
		return err
	}
	<-s.served
	return s.listen(addr, snapshot)
}

func (s *server) close() {
	if err := errors.Join(s.listener.Close(), s.client.Close()); err != nil {
		log.Print(err)
	}
	<-s.served
	s.metrics.Close()
}

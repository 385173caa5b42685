// SPDX-License-Identifier: MIT

// Command restart is a DTLS server whose clients notice nothing of its restart. It echoes
// datagrams, or it is a CoAP server with a resource /count that can be observed:
//
//	go run -C examples/restart . -protocol coap
//	coap-client-openssl -u device -k 'secret secret 12' -s 60 -w coaps://127.0.0.1/count
//	pkill -HUP restart
//
// On SIGHUP the server starts its successor, which is the program that has its name now,
// and hands over its sockets and its sessions. What the clients send meanwhile waits in the
// sockets. On SIGTERM it saves its sessions and exits, and the next start restores them.
// After a crash the next start has the sessions from the journal: see -after-crash.
//
// Under systemd the sockets come from a .socket unit or from the service's file descriptor
// store, and outlive the process. Then SIGTERM is enough, as of systemctl restart, and
// SIGHUP is not to be used: for systemd the service would have ended with the old process.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/go-dsm/dsm/pionv2"
	"github.com/go-dsm/dsm/resume"
	"github.com/pion/dtls/v2"
)

const (
	startTimeout = 10 * time.Second // for the successor to be ready
	saveTimeout  = 10 * time.Second // for the handlers that are running when the sessions are saved
	readBuffer   = 4 << 20          // bytes: what the clients send during a restart waits in it; Linux: net.core.rmem_max bounds it
)

type options struct {
	listen     string
	sessions   int
	state      string
	protocol   string
	every      time.Duration
	afterCrash string
	psk        string
}

func main() {
	if err := run(os.Args[1:], os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "restart:", err)
		os.Exit(1)
	}
}

func parse(args []string, stderr io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("restart", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.listen, "listen", "127.0.0.1:5684", "`address` to listen on, unless the sockets are inherited")
	flags.IntVar(&o.sessions, "sessions", pionv2.DefaultSessions, "`number` of sessions")
	flags.StringVar(&o.state, "state", "restart.state", "`directory` of the snapshot, the journal and the key that seals them")
	flags.StringVar(&o.protocol, "protocol", "echo", "echo or coap")
	flags.DurationVar(&o.every, "every", 20*time.Millisecond, "`time` between two notifications of /count")
	flags.StringVar(&o.afterCrash, "after-crash", "close", "what becomes of the sessions: close, continue, or forget (no journal)")
	flags.StringVar(&o.psk, "psk", "secret secret 12", "pre-shared `key`, as text")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	switch {
	case flags.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case o.sessions < 1:
		return o, fmt.Errorf("-sessions %d: want at least 1", o.sessions)
	case o.state == "":
		return o, errors.New("-state is empty")
	case o.protocol != "echo" && o.protocol != "coap":
		return o, fmt.Errorf("-protocol %q: want echo or coap", o.protocol)
	case o.every <= 0:
		return o, fmt.Errorf("-every %v: want more than 0", o.every)
	case o.afterCrash != "close" && o.afterCrash != "continue" && o.afterCrash != "forget":
		return o, fmt.Errorf("-after-crash %q: want close, continue or forget", o.afterCrash)
	case o.psk == "":
		return o, errors.New("-psk is empty")
	}
	return o, nil
}

// run is main without the process.
func run(args []string, stderr io.Writer) error {
	// First of all: before, a SIGHUP that comes early would end the process.
	signals := make(chan os.Signal, 10)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM, os.Interrupt)
	defer signal.Stop(signals)
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(stderr, nil)).With("pid", os.Getpid())
	// All that can fail comes before the predecessor saves its sessions and exits.
	if err := os.MkdirAll(filepath.Join(o.state, "journal"), 0o700); err != nil {
		return err
	}
	key, err := loadKey(filepath.Join(o.state, "key"))
	if err != nil {
		return err
	}
	sockets, predecessor, err := inherit()
	if err != nil {
		return err
	}
	if err := predecessor.await(); err != nil {
		return err
	}
	s := &server{options: o, key: key, log: log}
	if err := s.open(sockets); err != nil {
		return err
	}
	return s.serve(signals)
}

// server is a listener and what is served on it.
type server struct {
	options  options
	key      pionv2.Key
	log      *slog.Logger
	count    *count // nil: echo
	listener *pionv2.Listener
}

// open opens the listener, with the sessions of the process before this one. sockets are the
// inherited ones, if any.
func (s *server) open(sockets []net.PacketConn) error {
	store, err := resume.New(resume.Config{})
	if err != nil {
		return err
	}
	config := pionv2.Config{
		Sessions: s.options.sessions, Resumption: store, Logger: s.log, Restore: s.restore,
		Journal: &pionv2.Journal{Dir: filepath.Join(s.options.state, "journal"), Keys: []pionv2.Key{s.key}},
	}
	switch s.options.afterCrash {
	case "continue":
		config.Journal.AfterCrash = pionv2.ContinueSessions
	case "forget":
		config.Journal = nil
	}
	if s.options.protocol == "coap" {
		s.count = newCount(s.options.every, s.log)
		config.OnEstablished, config.OnRestored = s.count.begins, s.count.restored
	}
	dtlsConfig := &dtls.Config{
		PSK:             func([]byte) ([]byte, error) { return []byte(s.options.psk), nil },
		PSKIdentityHint: []byte("restart"),
		// Every CoAP client has CCM_8 (RFC 7252 section 9.1.3.1).
		CipherSuites: []dtls.CipherSuiteID{
			dtls.TLS_PSK_WITH_AES_128_GCM_SHA256, dtls.TLS_PSK_WITH_AES_128_CCM_8, dtls.TLS_PSK_WITH_AES_128_CCM,
		},
		ExtendedMasterSecret: dtls.RequireExtendedMasterSecret,
	}
	if len(sockets) > 0 {
		s.listener, err = pionv2.NewListener(sockets, dtlsConfig, config)
	} else {
		config.ReadBuffer = readBuffer
		s.listener, err = pionv2.Listen("udp", s.options.listen, dtlsConfig, config)
	}
	if err != nil {
		return err
	}
	s.log.Info("serving", "address", s.listener.Addr(), "protocol", s.options.protocol,
		"sessions", s.listener.Stats().Established, "after crash", s.listener.Recovered().Restored)
	return nil
}

// restore is Config.Restore. Without a snapshot, or with a bad one, the server serves all the
// same: the clients come back by new handshakes.
func (s *server) restore(l *pionv2.Listener) error {
	stats, err := l.RestoreFile(context.Background(), s.snapshot(), s.key)
	switch {
	case err == nil:
		s.log.Info("restored", "stats", stats)
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		s.log.Error("snapshot not restored", "error", err)
	}
	// The first start, or a crash. What is restored from now on is of the journal.
	if s.count != nil {
		s.count.crashed = true
	}
	return nil
}

func (s *server) snapshot() string { return filepath.Join(s.options.state, "snapshot") }

// serve serves until a signal ends the process, or the socket fails.
func (s *server) serve(signals <-chan os.Signal) error {
	handler := echo
	if s.count != nil {
		handler = s.count.serve
		s.count.start()
		defer s.count.stop()
	}
	served := make(chan error, 1)
	go func() { served <- s.listener.Serve(context.Background(), handler) }()
	for {
		select {
		case err := <-served:
			return err
		case sig := <-signals:
			if sig == syscall.SIGHUP {
				if err := s.handOver(); err != nil {
					s.log.Error("not restarted", "error", err)
					continue
				}
				return nil
			}
			err := s.save()
			if err != nil {
				_ = s.listener.Close() // so the clients are told
			}
			return err
		}
	}
}

func echo(c *pionv2.Conn, datagram []byte) { _, _ = c.Write(datagram) }

// save saves the sessions and closes the listener. After an error it serves on, as a rule:
// see Listener.SaveFile.
func (s *server) save() error {
	if s.count != nil {
		s.count.stop() // a notification during SaveFile would not be sent
	}
	ctx, cancel := context.WithTimeout(context.Background(), saveTimeout)
	defer cancel()
	stats, err := s.listener.SaveFile(ctx, s.snapshot(), s.key)
	if err != nil {
		if s.count != nil {
			s.count.start()
		}
		return err
	}
	s.log.Info("saved", "sessions", stats.Sessions, "bytes", stats.Bytes)
	return nil
}

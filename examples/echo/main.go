// SPDX-License-Identifier: MIT

// Command echo is a DTLS echo server with a bounded number of sessions and a
// pre-shared key:
//
//	go run ./examples/echo -slots 4
//	openssl s_client -dtls1_2 -connect 127.0.0.1:5684 \
//		-psk_identity device -psk 73656372657420736563726574203132
//
// With -http it also serves a page that shows the server at work:
//
//	go run ./examples/echo -http 127.0.0.1:8080
//
// The page shows the addresses and identities of the clients. It belongs behind authentication,
// which this example does not have: package dsmdebug shows how.
//
// With -demo it starts on a free port, together with more clients than it has room for,
// and shows which of them keep their sessions.
package main

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/pionv2"
	"github.com/pion/dtls/v2"
)

type options struct {
	listen string
	slots  int
	// handshakes is how many handshakes can be in progress. Each has a slot, too. Zero
	// means 64, which take some 2.2 MB.
	handshakes int
	psk        []byte
	identity   string
	demo       bool
	http       string // an address; empty: no page
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "echo:", err)
			os.Exit(1)
		}
	}
}

// run is main without the process: it serves until ctx has ended.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var o options
	flags := flag.NewFlagSet("echo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.listen, "listen", "127.0.0.1:5684", "`address` to listen on")
	flags.IntVar(&o.slots, "slots", 16, "`number` of sessions")
	psk := flags.String("psk", hex.EncodeToString([]byte("secret secret 12")), "pre-shared key in `hex`")
	flags.StringVar(&o.identity, "identity", "device", "PSK `identity` that a client must have")
	flags.BoolVar(&o.demo, "demo", false, "show a server and more clients than slots, on a free port")
	flags.StringVar(&o.http, "http", "", "serve a page that shows the server on this `address`, such as 127.0.0.1:8080.\n"+
		"It shows the addresses and identities of clients to whoever reaches it, and belongs behind authentication")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	var err error
	if o.psk, err = hex.DecodeString(*psk); err != nil || len(o.psk) == 0 {
		return fmt.Errorf("-psk %q is not a key in hex", *psk)
	}
	if o.slots < 1 {
		return fmt.Errorf("-slots %d: want at least 1", o.slots)
	}
	if o.demo {
		return demo(ctx, o, stdout)
	}

	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s, err := start(o, log)
	if err != nil {
		return err
	}
	log.Info("listening", "address", s.listener.Addr(), "slots", o.slots)
	if o.http != "" {
		stop, err := servePage(s.listener, o.http, log)
		if err != nil {
			s.close()
			return err
		}
		defer stop()
	}
	go func() {
		<-ctx.Done()
		s.close()
	}()
	return s.serve()
}

// server is an echo server: it sends every datagram back to its sender.
type server struct {
	listener *pionv2.Listener
	table    *dsm.Table[*pionv2.Peer]
	log      *slog.Logger
	slots    int
	sessions sync.WaitGroup
}

func start(o options, log *slog.Logger) (*server, error) {
	o.handshakes = cmp.Or(o.handshakes, 64)
	// The table has room for the sessions and for the handshakes in progress.
	table, err := dsm.New[*pionv2.Peer](o.slots + o.handshakes)
	if err != nil {
		return nil, err
	}
	s := &server{log: log, table: table, slots: o.slots}
	s.listener, err = pionv2.Listen("udp", o.listen, dtlsConfig(o), pionv2.Config{
		Table:         table,
		Sessions:      o.slots,
		Handshakes:    o.handshakes,
		Logger:        log,
		OnEstablished: s.begins,
		OnEnd:         s.ends,
	})
	return s, err
}

// dtlsConfig returns the configuration of the server and of the clients of the demo.
func dtlsConfig(o options) *dtls.Config {
	return &dtls.Config{
		PSK: func(identity []byte) ([]byte, error) {
			if string(identity) != o.identity {
				return nil, fmt.Errorf("unknown identity %q", identity)
			}
			return o.psk, nil
		},
		PSKIdentityHint: []byte(o.identity),
		CipherSuites: []dtls.CipherSuiteID{
			dtls.TLS_PSK_WITH_AES_128_GCM_SHA256, dtls.TLS_PSK_WITH_AES_128_CCM_8, dtls.TLS_PSK_WITH_AES_128_CCM,
		},
		ExtendedMasterSecret: dtls.RequireExtendedMasterSecret,
	}
}

// serve returns when the server was closed and its sessions have ended.
func (s *server) serve() error {
	defer s.sessions.Wait()
	defer s.close() // ends the sessions if Accept has failed
	for {
		conn, err := s.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		s.sessions.Go(func() { s.echo(conn) })
	}
}

func (s *server) close() { _ = s.listener.Close() }

// begins and ends are called when a session begins and when it ends.
func (s *server) begins(conn *pionv2.Conn) {
	s.log.Info("session begins", "peer", conn.Peer(), "free", s.free(conn))
}

func (s *server) ends(conn *pionv2.Conn, reason pionv2.Reason) {
	s.log.Info("session ends", "peer", conn.Peer(), "reason", reason, "free", s.free(conn))
}

// free returns how many more sessions there is room for.
func (s *server) free(conn *pionv2.Conn) int { return s.slots - conn.Listener().Stats().Established }

func (s *server) echo(conn net.Conn) {
	defer conn.Close()
	buf := make([]byte, 1<<14) // the longest that a DTLS record carries
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return // the log has the reason
		}
		if _, err := conn.Write(buf[:n]); err != nil {
			return
		}
	}
}

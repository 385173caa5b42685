// SPDX-License-Identifier: MIT

// Command coap is a CoAP server over DTLS with a bounded number of sessions. The CoAP is
// that of github.com/plgd-dev/go-coap, and the DTLS that of pionv2.Listen. Go-coap serves
// any listener that has the methods Close and AcceptWithContext, so a few lines
// (adapter.go) connect the two.
//
//	go run -C examples/coap . -slots 4
//	coap-client-openssl -u device -k 'secret secret 12' -m put -e hello coaps://127.0.0.1/note
//	coap-client-openssl -u device -k 'secret secret 12' -s 60 coaps://127.0.0.1/note
//
// The second client observes the note and shows it whenever somebody changes it. The
// server sends no keep-alive messages: it evicts the least recently used session when a
// newcomer needs its slot.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"time"

	"github.com/go-dsm/dsm/pionv2"
	"github.com/pion/dtls/v2"
	"github.com/plgd-dev/go-coap/v3/dtls/server"
	"github.com/plgd-dev/go-coap/v3/pkg/runner/periodic"
)

type options struct {
	listen   string
	psk      string
	identity string
	slots    int
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "coap:", err)
		os.Exit(1)
	}
}

// run is main without the process: it serves until ctx has ended.
func run(ctx context.Context, args []string, stderr io.Writer) error {
	var o options
	flags := flag.NewFlagSet("coap", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.listen, "listen", "127.0.0.1:5684", "`address` to listen on")
	flags.StringVar(&o.psk, "psk", "secret secret 12", "pre-shared `key`, as text")
	flags.StringVar(&o.identity, "identity", "device", "PSK `identity` that a client must have")
	flags.IntVar(&o.slots, "slots", 16, "`number` of sessions")
	if err := flags.Parse(args); err != nil {
		return err
	}
	switch {
	case flags.NArg() > 0:
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case o.psk == "":
		return errors.New("-psk is empty")
	case o.slots < 1:
		return fmt.Errorf("-slots %d: want at least 1", o.slots)
	}
	s, err := start(o, slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		return err
	}
	return s.serve(ctx)
}

// app is a listener and the resource that is served on it.
type app struct {
	listener *pionv2.Listener
	note     *note
	log      *slog.Logger
}

func start(o options, log *slog.Logger) (*app, error) {
	listener, err := pionv2.Listen("udp", o.listen, &dtls.Config{
		PSK: func(identity []byte) ([]byte, error) {
			if string(identity) != o.identity {
				return nil, fmt.Errorf("unknown identity %q", identity)
			}
			return []byte(o.psk), nil
		},
		PSKIdentityHint: []byte(o.identity),
		// Every CoAP client has CCM_8 (RFC 7252 section 9.1.3.1).
		CipherSuites: []dtls.CipherSuiteID{
			dtls.TLS_PSK_WITH_AES_128_GCM_SHA256, dtls.TLS_PSK_WITH_AES_128_CCM_8, dtls.TLS_PSK_WITH_AES_128_CCM,
		},
		ExtendedMasterSecret: dtls.RequireExtendedMasterSecret,
	}, pionv2.Config{Sessions: o.slots, Logger: log})
	if err != nil {
		return nil, err
	}
	log.Info("listening", "address", listener.Addr(), "slots", o.slots)
	return &app{listener, newNote(log), log}, nil
}

// serve serves until ctx has ended, and returns when all sessions have ended.
func (a *app) serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	coap := server.New(serverOption(func(c *server.Config) {
		c.Handler = a.note.serve
		c.Errors = func(err error) { a.log.Warn("go-coap", "error", err) }
		// The runner repeats messages that were not acknowledged. Go-coap's default one
		// goes on for a while after the end.
		c.PeriodicRunner = periodic.New(ctx.Done(), time.Second)
		// By default go-coap closes a session that was silent for 16 s. Here a session
		// stays until its slot is needed.
		c.CreateInactivityMonitor = nil
	}))
	defer context.AfterFunc(ctx, coap.Stop)()
	err := coap.Serve(&adapter{Listener: a.listener})
	_ = a.listener.Close() // an error says that it is closed
	a.note.running.Wait()
	return err
}

// serverOption is a server.Option. Go-coap has no option for a server without an
// inactivity monitor.
type serverOption func(*server.Config)

// DTLSServerApply implements server.Option.
func (o serverOption) DTLSServerApply(c *server.Config) { o(c) }

// SPDX-License-Identifier: MIT

package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-dsm/dsm/internal/udp"
	"github.com/go-dsm/dsm/pionv2"
	"github.com/go-dsm/dsm/resume"
	"github.com/pion/dtls/v2"
	"github.com/pion/dtls/v2/pkg/crypto/selfsign"
	pionudp "github.com/pion/transport/v2/udp"
	"golang.org/x/sys/unix"
)

const room = 1 << 16 // sessions and handshakes of every server

var received, held atomic.Int64

// config is the same for servers and clients.
func config() *dtls.Config {
	c := &dtls.Config{
		PSK:             func([]byte) ([]byte, error) { return []byte("secret secret 12"), nil },
		PSKIdentityHint: []byte("device"),
		CipherSuites:    []dtls.CipherSuiteID{dtls.TLS_PSK_WITH_AES_128_GCM_SHA256},
		ConnectContextMaker: func() (context.Context, func()) {
			return context.WithTimeout(context.Background(), time.Minute)
		},
	}
	switch *suite {
	case "ccm8":
		c.CipherSuites = []dtls.CipherSuiteID{dtls.TLS_PSK_WITH_AES_128_CCM_8}
	case "ecdsa":
		cert, err := selfsign.GenerateSelfSigned()
		check(err)
		c = &dtls.Config{
			Certificates: []tls.Certificate{cert}, InsecureSkipVerify: true, ConnectContextMaker: c.ConnectContextMaker,
			CipherSuites: []dtls.CipherSuiteID{dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
		}
	}
	return c
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// answers is whether what comes goes back.
func answers() bool { return *what != "receive" }

// serve runs a server and answers questions about it until its stdin ends.
func serve(name string) {
	local := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}
	var addr net.Addr
	switch name {
	case "floor":
		addr = floor()
	case "dsm-serve", "dsm-accept", "dsm-sockets", "dsm-undisturbed", "dsm-stalled", "dsm-attacked", "dsm-full", "dsm-resumed":
		sockets := 1
		if name == "dsm-sockets" {
			sockets = 2
		}
		var store *resume.Store
		if *what == "resume" {
			var err error
			store, err = resume.New(resume.Config{LookupsPerSource: -1})
			check(err)
		}
		l, err := pionv2.Listen("udp", "127.0.0.1:0", config(), pionv2.Config{
			Sockets: sockets, Resumption: store,
			Sessions: room, Handshakes: 1024, HandshakesPerSource: -1, ReadBuffer: 4 << 20, AcceptQueue: 4096,
			OnEstablished: func(*pionv2.Conn) { held.Add(1) },
			OnEnd:         func(*pionv2.Conn, pionv2.Reason) { held.Add(-1) },
		})
		check(err)
		addr = l.Addr()
		if name == "dsm-accept" {
			go accept(l)
			break
		}
		go func() {
			_ = l.Serve(context.Background(), func(c *pionv2.Conn, datagram []byte) {
				received.Add(1)
				if answers() {
					_, _ = c.Write(datagram)
				}
			})
		}()
	case "pion":
		l, err := dtls.Listen("udp", local, config())
		check(err)
		addr = l.Addr()
		go accept(l)
	case "pion-batch", "pion-parallel":
		lc := pionudp.ListenConfig{Backlog: 4096}
		if name == "pion-batch" {
			lc.Batch = pionudp.BatchIOConfig{Enable: true, ReadBatchSize: 32, WriteBatchSize: 32, WriteBatchInterval: time.Millisecond}
		}
		l, err := lc.Listen("udp", local)
		check(err)
		addr = l.Addr()
		go parallel(l)
	default:
		log.Fatal("no server ", name)
	}
	answer(addr.String())
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		if in.Text() == "collect" {
			runtime.GC()
			debug.FreeOSMemory()
		}
		answer(used())
	}
	os.Exit(0)
}

func answer(v any) { check(json.NewEncoder(os.Stdout).Encode(v)) }

func used() usage {
	var r unix.Rusage
	check(unix.Getrusage(unix.RUSAGE_SELF, &r))
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	statm, err := os.ReadFile("/proc/self/statm")
	check(err)
	var size, resident int64
	_, err = fmt.Fscan(strings.NewReader(string(statm)), &size, &resident)
	check(err)
	return usage{
		CPU: r.Utime.Nano() + r.Stime.Nano(), RSS: resident * int64(os.Getpagesize()), Heap: int64(m.HeapAlloc),
		Received: received.Load(), Sessions: held.Load(), Mallocs: int64(m.Mallocs), Routines: int64(runtime.NumGoroutine()),
	}
}

// accept serves each conn in a goroutine of its own.
func accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			log.Print(err)
			return
		}
		go echo(c)
	}
}

// parallel is pion without its Accept: a handshake in each conn's own goroutine.
func parallel(l net.Listener) {
	shared := config()
	for {
		inner, err := l.Accept()
		if err != nil {
			log.Print(err)
			return
		}
		go func() {
			ctx, cancel := shared.ConnectContextMaker()
			defer cancel()
			c, err := dtls.ServerWithContext(ctx, inner, shared)
			if err != nil {
				_ = inner.Close()
				return
			}
			held.Add(1)
			echo(c)
			held.Add(-1)
		}()
	}
}

func echo(c net.Conn) {
	defer c.Close()
	buf := make([]byte, 2048)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		received.Add(1)
		if answers() {
			if _, err := c.Write(buf[:n]); err != nil {
				return
			}
		}
	}
}

// floor echoes datagrams unopened, through the same socket layer.
func floor() net.Addr {
	sockets, err := udp.Listen("udp", "127.0.0.1:0", udp.Config{ReadBuffer: 4 << 20})
	check(err)
	go func() {
		batch := make([]udp.Datagram, 32)
		for i := range batch {
			batch[i].Buf = make([]byte, 0, 20000)
		}
		for {
			n, err := sockets[0].Read(batch)
			check(err)
			received.Add(int64(n))
			if answers() {
				_, _ = sockets[0].Write(batch[:n])
			}
		}
	}()
	return sockets[0].LocalAddr()
}

// SPDX-License-Identifier: MIT

package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"log"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-dsm/dsm/keyring"
	"github.com/go-dsm/dsm/pionv2"
	"github.com/go-dsm/dsm/resume"
	"github.com/pion/dtls/v2"
	"github.com/pion/dtls/v2/pkg/crypto/selfsign"
	pionudp "github.com/pion/transport/v2/udp"
	"golang.org/x/sys/unix"
)

const (
	maxSessions   = 1 << 16 // above every number of -sessions that is of interest
	maxHandshakes = 2048    // 1000 clients stall, and some of the places are for returning clients
	acceptQueue   = 4096
	readBuffer    = 4 << 20 // bytes
)

// received counts datagrams with application data, established counts sessions.
var received, established atomic.Int64

// listenerStats returns the counts of dsm's listener. Other servers have none.
var listenerStats = func() (s pionv2.Stats) { return s }

// journalDir is the directory of the server's journal, if it has one, and journalBytes returns
// how many bytes were written to it.
var (
	journalDir   string
	journalBytes = func() int64 { return 0 }
)

// runServer runs a server and replies to requests until stdin ends.
func runServer(name string) {
	reply(listen(name).String())
	writeProfile := sync.OnceValue(func() func() { return startProfile(name) })
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		writeProfile()
		if in.Text() == requestCollect {
			runtime.GC()
			debug.FreeOSMemory()
		}
		reply(currentUsage())
	}
	writeProfile()()
	if journalDir != "" {
		_ = os.RemoveAll(journalDir)
	}
	os.Exit(0)
}

// listen starts a server on a free port of 127.0.0.1.
func listen(name string) net.Addr {
	kind, onV4 := strings.CutSuffix(name, v4Suffix)
	switch kind {
	case "floor", "floor-answers":
		return listenFloor(kind == "floor-answers")
	case "dsm-accept":
		l := listenDSM(onV4, 1, nil)
		go serveAccepted(l)
		return l.Addr()
	case "dsm-serve", "dsm-undisturbed", "dsm-stalled", "dsm-attacked", "dsm-full", "dsm-resumed", "dsm-cid":
		l := listenDSM(onV4, 1, nil)
		go serveDatagrams(l)
		return l.Addr()
	case "dsm-watched":
		l := listenDSM(onV4, 1, nil)
		go serveDatagrams(l)
		watch(l)
		return l.Addr()
	case "dsm-journal":
		var err error
		journalDir, err = os.MkdirTemp("", "dsm-wire")
		check(err)
		l := listenDSM(onV4, 1, &pionv2.Journal{Dir: journalDir, Keys: []keyring.Key{saveKey}})
		journalBytes = func() int64 { return int64(l.Stats().JournalBytes) }
		go serveDatagrams(l)
		return l.Addr()
	case "dsm-sockets":
		l := listenDSM(onV4, 2, nil)
		go serveDatagrams(l)
		return l.Addr()
	case "pion":
		if onV4 {
			return listenPionV4()
		}
		l, err := dtls.Listen("udp", loopback(), dtlsConfig())
		check(err)
		go serveAccepted(l)
		return l.Addr()
	case "pion-parallel":
		return listenPionParallel(pionudp.ListenConfig{Backlog: acceptQueue})
	case "pion-batch":
		return listenPionParallel(pionudp.ListenConfig{Backlog: acceptQueue, Batch: pionudp.BatchIOConfig{
			Enable: true, ReadBatchSize: 32, WriteBatchSize: 32, WriteBatchInterval: time.Millisecond,
		}})
	}
	check(errUnknownServer(name))
	return nil
}

func errUnknownServer(name string) error { return fmt.Errorf("unknown server %q", name) }

func loopback() *net.UDPAddr { return &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// dtlsConfig returns the configuration of every server and client.
func dtlsConfig() *dtls.Config {
	config := &dtls.Config{
		ConnectContextMaker: func() (context.Context, func()) {
			return context.WithTimeout(context.Background(), time.Minute)
		},
	}
	if *suite == "ecdsa" {
		cert, err := selfsign.GenerateSelfSigned()
		check(err)
		config.Certificates = []tls.Certificate{cert}
		config.InsecureSkipVerify = true
		config.CipherSuites = []dtls.CipherSuiteID{dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
		return config
	}
	config.PSK = func([]byte) ([]byte, error) { return []byte("secret secret 12"), nil }
	config.PSKIdentityHint = []byte("device")
	config.CipherSuites = []dtls.CipherSuiteID{dtls.TLS_PSK_WITH_AES_128_GCM_SHA256}
	if *suite == "ccm8" {
		config.CipherSuites = []dtls.CipherSuiteID{dtls.TLS_PSK_WITH_AES_128_CCM_8}
	}
	return config
}

// echoes reports whether servers echo datagrams. Otherwise they only count them.
func echoes() bool { return *what != "receive" }

// listenDSM returns a listener of dsm. It has a resumption store if resumption is
// measured, for full handshakes as well.
func listenDSM(onV4 bool, sockets int, journal *pionv2.Journal) *pionv2.Listener {
	var store *resume.Store
	if *what == "resume" {
		var err error
		store, err = resume.New(resume.Config{LookupsPerSource: -1})
		check(err)
	}
	handshakes, perSource := maxHandshakes, -1 // all clients have the same address
	if *what == "hellos" {
		handshakes, perSource = 0, 0 // the defaults
	}
	var restore func(*pionv2.Listener) error
	if *idle > 0 {
		restore = restoreSessions(*idle, new(oneSession))
	}
	l, err := listenAdapter(onV4, pionv2.Config{
		Sockets: sockets, Resumption: store, Journal: journal, Restore: restore,
		Sessions: maxSessions + *idle, Handshakes: handshakes, HandshakesPerSource: perSource, ReadBuffer: readBuffer, AcceptQueue: acceptQueue,
		OnEstablished: func(*pionv2.Conn) { established.Add(1) },
		OnEnd:         func(*pionv2.Conn, pionv2.Reason) { established.Add(-1) },
	})
	check(err)
	listenerStats = l.Stats
	return l
}

// serveDatagrams serves all sessions with a handler.
func serveDatagrams(l *pionv2.Listener) {
	_ = l.Serve(context.Background(), func(c *pionv2.Conn, datagram []byte) {
		received.Add(1)
		computeFor(datagram)
		if echoes() {
			_, _ = c.Write(datagram)
		}
	})
}

// serveAccepted serves each session in a goroutine of its own.
func serveAccepted(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			log.Print(err)
			return
		}
		go serveConn(c)
	}
}

// listenPionParallel starts a server with pion's handshakes but without the Accept of
// pion's listener, which makes one handshake at a time.
func listenPionParallel(config pionudp.ListenConfig) net.Addr {
	l, err := config.Listen("udp", loopback())
	check(err)
	go serveParallel(l)
	return l.Addr()
}

// serveParallel makes the handshake of each peer in the goroutine that then serves the
// session.
func serveParallel(l net.Listener) {
	config := dtlsConfig()
	for {
		transport, err := l.Accept()
		if err != nil {
			log.Print(err)
			return
		}
		go func() {
			ctx, cancel := config.ConnectContextMaker()
			defer cancel()
			c, err := dtls.ServerWithContext(ctx, transport, config)
			if err != nil {
				_ = transport.Close()
				return
			}
			established.Add(1)
			serveConn(c)
			established.Add(-1)
		}()
	}
}

// serveConn serves one session until it ends.
func serveConn(c net.Conn) {
	defer c.Close()
	buf := make([]byte, 2048)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		received.Add(1)
		computeFor(buf[:n])
		if echoes() {
			if _, err := c.Write(buf[:n]); err != nil {
				return
			}
		}
	}
}

// currentUsage returns the usage of this process.
func currentUsage() usage {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	s := listenerStats()
	return usage{
		CPU: processCPU(), RSS: residentBytes(), Heap: int64(m.HeapAlloc), Live: int64(live[0].Value.Uint64()), Stack: int64(m.StackInuse),
		Received: received.Load(), Sessions: established.Load(), Mallocs: int64(m.Mallocs), Goroutines: int64(runtime.NumGoroutine()),
		Computed: computed.Load(), Journal: journalBytes(), HalfOpen: int64(s.HalfOpen), Answered: int64(s.HelloVerifyRequests + s.Started),
		collectorUsage: currentCollectorUsage(),
	}
}

// processCPU returns the CPU time of this process, user and system, in ns.
func processCPU() int64 {
	var r unix.Rusage
	check(unix.Getrusage(unix.RUSAGE_SELF, &r))
	return r.Utime.Nano() + r.Stime.Nano()
}

// residentBytes returns the resident set size. Getrusage has only its maximum.
func residentBytes() int64 {
	statm, err := os.ReadFile("/proc/self/statm")
	check(err)
	var size, resident int64 // pages
	_, err = fmt.Fscan(strings.NewReader(string(statm)), &size, &resident)
	check(err)
	return resident * int64(os.Getpagesize())
}

// SPDX-License-Identifier: MIT

package main

import (
	crand "crypto/rand"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/internal/udp"
)

const (
	// floodLimit bounds the time of a flood. The honest clients come in its first part, arrivals.
	floodLimit = 30 * time.Second
	arrivals   = 5 * time.Second
	// maxFlood bounds the addresses that hellos come from, which take 72 bytes each.
	maxFlood = 1 << 20
	// floodPorts is the number of sockets, each with a port that the system chooses.
	floodPorts = 64
	floodBatch = 64
)

// flood sends first ClientHellos to the server. Each has a random address of 127.0.0.0/8, one of
// 64 ports, and a random of its own.
type flood struct {
	hellos  int // at least
	server  netip.AddrPort
	sockets []*udp.Socket
	sources []udp.Source
	batch   []udp.Datagram
	random  *rand.ChaCha8
	sent    int64
}

// flooded is the reply of a client that has flooded the server.
type flooded struct {
	Sent         int64
	Seconds      float64
	Clients, In  int     // honest clients, and those that got in
	Median, Last float64 // s until they were in; only those that got in
}

func newFlood(hellos int) *flood {
	var seed [32]byte
	_, _ = crand.Read(seed[:]) // never fails
	f := &flood{hellos: hellos, server: netip.MustParseAddrPort(*address), random: rand.NewChaCha8(seed)}
	for range floodPorts {
		// The answers fill the smallest queue that there is, and are dropped.
		s, err := udp.Listen("udp4", "0.0.0.0:0", udp.Config{ReadBuffer: 1})
		check(err)
		f.sockets = append(f.sockets, s...)
	}
	f.sources = make([]udp.Source, min(hellos, maxFlood))
	for i := range f.sources {
		n := f.random.Uint64()
		host := netip.AddrFrom4([4]byte{127, byte(n >> 16), byte(n >> 8), 1 + byte(n)%254})
		f.sources[i] = f.sockets[0].SourceOf(host)
	}
	hello, err := dtlstest.RecordHello(dtlsConfig())
	check(err)
	f.batch = make([]udp.Datagram, floodBatch)
	for i := range f.batch {
		f.batch[i] = udp.Datagram{Buf: hello.Datagram(), Peer: f.server}
	}
	return f
}

// run floods the server until all hellos are sent and all honest clients are in, or the time is
// over.
func (f *flood) run(withClients bool) flooded {
	var clients honestClients
	var wg sync.WaitGroup
	done := make(chan struct{})
	begin := time.Now()
	if withClients {
		clients.count = *honest
		wg.Go(func() { clients.connect(begin); close(done) })
	} else {
		close(done)
	}
	for isOpen := true; isOpen || f.sent < int64(f.hellos); {
		select {
		case <-done:
			isOpen = false
		default:
		}
		elapsed := time.Since(begin)
		if elapsed >= floodLimit {
			break
		}
		if due := *rate * elapsed.Seconds(); *rate > 0 && float64(f.sent) > due {
			time.Sleep(time.Millisecond)
			continue
		}
		f.sendBatch()
		runtime.Gosched() // the honest clients have the same core
	}
	r := flooded{Sent: f.sent, Seconds: time.Since(begin).Seconds()}
	wg.Wait()
	r.Clients, r.In = clients.count, len(clients.in)
	r.Median, r.Last = clients.times()
	return r
}

// randomAt is the place of the random in a datagram with a ClientHello.
const randomAt = record.HeaderSize + record.HandshakeHeaderSize + 2

func (f *flood) sendBatch() {
	at := int(f.sent)
	for i := range f.batch {
		d := &f.batch[i]
		d.Source = f.sources[(at+i)%len(f.sources)]
		_, _ = f.random.Read(d.Buf[randomAt:][:len(record.Random{})]) // never fails
	}
	// Each cycle over the addresses begins with another socket, if their number is not a multiple
	// of 64 × 64.
	n, err := f.sockets[at/floodBatch%len(f.sockets)].Write(f.batch)
	check(err)
	f.sent += int64(n)
}

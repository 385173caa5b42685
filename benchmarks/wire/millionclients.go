// SPDX-License-Identifier: MIT

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/internal/udp"
	"github.com/pion/dtls/v2"
)

// The clients of a measurement of a million, by their -what.
const (
	whatTalk  = "talk"  // clients of restored sessions, each of which sends once in talkEvery
	whatStay  = "stay"  // clients that make handshakes and whose sessions stay
	whatLeave = "leave" // clients that make handshakes and end their sessions
	talkEvery = time.Second
)

// The request of talking clients, besides those to start and to stop.
const requestAll = "all" // each restored session sends one datagram

// talkers are the clients of n restored sessions, which have the same keys. They have one socket
// for all of their addresses, and one session seals their records: the sequence numbers in a
// session of the server have gaps.
type talkers struct {
	n       int
	server  netip.AddrPort
	socket  *udp.Socket
	records *record.Session
	echoed  atomic.Int64
}

// runTalkers gets what the server has replied, and serves requests until stdin ends.
func runTalkers(n int) {
	reply(result{})
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<20)
	in.Scan()
	var r restored
	check(json.Unmarshal(in.Bytes(), &r))
	r.Keys.NextSequence = 1 << 16
	records, err := record.New(r.Keys)
	check(err)
	sockets, err := udp.Listen("udp4", fmt.Sprintf("0.0.0.0:%d", r.Port), udp.Config{ReadBuffer: readBuffer})
	check(err)
	t := &talkers{n: n, server: netip.MustParseAddrPort(r.Address), socket: sockets[0], records: records}
	go t.read()
	reply(result{})
	for in.Scan() {
		begin, echoed := time.Now(), t.echoed.Load()
		if in.Text() == requestAll {
			t.sendAll()
		} else {
			done := make(chan struct{})
			var wg sync.WaitGroup
			wg.Go(func() { t.talk(done) })
			in.Scan()
			close(done)
			wg.Wait()
		}
		reply(result{Count: t.echoed.Load() - echoed, Seconds: time.Since(begin).Seconds()})
	}
}

// read counts the echoes, and the records that tell that sessions have ended.
func (t *talkers) read() {
	batch := make([]udp.Datagram, 64)
	for i := range batch {
		batch[i].Buf = make([]byte, 0, 2048)
	}
	for {
		n, err := t.socket.Read(batch)
		check(err)
		t.echoed.Add(int64(n))
	}
}

// send sends one datagram of the client of session i.
func (t *talkers) send(i int) {
	sealed, err := t.records.Seal(nil, record.TypeApplicationData, make([]byte, payload))
	check(err)
	_, err = t.socket.Write([]udp.Datagram{{Buf: sealed, Peer: t.server, Source: t.socket.SourceOf(restoredAddress(i))}})
	check(err)
}

// talk has one session in a hundred send, one after the other, until done is closed.
func (t *talkers) talk(done <-chan struct{}) {
	const each = 100
	begin, count := time.Now(), max(t.n/each, 1)
	for sent := 0; ; {
		select {
		case <-done:
			return
		case <-time.After(time.Millisecond):
		}
		for due := int(float64(count) * float64(time.Since(begin)) / float64(talkEvery)); sent < due; sent++ {
			t.send(sent % count * (t.n / count))
		}
	}
}

// sendAll has each session send one datagram, in batches, and waits for the echoes of a batch.
func (t *talkers) sendAll() {
	const batch = 256
	for first := 0; first < t.n; first += batch {
		last := min(first+batch, t.n)
		want := t.echoed.Load() + int64(last-first)
		for i := first; i < last; i++ {
			t.send(i)
		}
		for end := time.Now().Add(time.Second); t.echoed.Load() < want && time.Now().Before(end); {
			time.Sleep(50 * time.Microsecond)
		}
	}
}

// runStaying makes n handshakes at a time, for some time at each request. The clients fall silent,
// and the server keeps the sessions. Each client has an address of its own, so none replaces the
// session of another one.
func runStaying(n int, duration time.Duration) {
	reply(result{})
	var clients atomic.Uint32
	config := dtlsConfig()
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var count atomic.Int64
		var wg sync.WaitGroup
		begin := time.Now()
		for range n {
			wg.Go(func() {
				for time.Since(begin) < duration {
					i := clients.Add(1)
					socket := &handshakeSocket{UDPConn: dial(&net.UDPAddr{IP: net.IPv4(127, byte(200+i>>16), byte(i>>8), byte(i))})}
					c, err := dtls.Client(socket, config)
					check(err)
					count.Add(1)
					socket.muted.Store(true)
					_ = c.Close()
					_ = socket.UDPConn.Close()
				}
			})
		}
		wg.Wait()
		reply(result{Count: count.Load(), Seconds: time.Since(begin).Seconds()})
	}
}

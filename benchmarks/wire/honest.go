// SPDX-License-Identifier: MIT

package main

import (
	"bytes"
	"context"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/dtls/v2"
)

// roundTrip is that of the honest clients.
const roundTrip = time.Second

// honestClients get in during a flood.
type honestClients struct {
	count int

	mu sync.Mutex
	// mu guards the following.
	in []time.Duration // from the first ClientHello to the end of the handshake, of those that are in
}

// connect has all clients come, one after the other, and waits until they are in or the time of
// the flood is over.
func (h *honestClients) connect(begin time.Time) {
	var wg sync.WaitGroup
	for i := range h.count {
		time.Sleep(time.Until(begin.Add(arrivals * time.Duration(i) / time.Duration(h.count))))
		wg.Go(func() {
			took, ok := getIn(i, begin.Add(floodLimit))
			if !ok {
				return
			}
			h.mu.Lock()
			defer h.mu.Unlock()
			h.in = append(h.in, took)
		})
	}
	wg.Wait()
}

// times returns the median and the maximum, in seconds.
func (h *honestClients) times() (middle, last float64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.in) == 0 {
		return 0, 0
	}
	slices.Sort(h.in)
	return h.in[len(h.in)/2].Seconds(), h.in[len(h.in)-1].Seconds()
}

// getIn has client i try until it is in: its handshake is done, and the server echoes. It begins a
// new handshake when the server ends one.
func getIn(i int, until time.Time) (took time.Duration, ok bool) {
	r := startRelay(&net.UDPAddr{IP: net.IPv4(127, 200, byte(i), 1)})
	defer r.close()
	config := dtlsConfig()
	config.ConnectContextMaker = func() (context.Context, func()) { return context.WithDeadline(context.Background(), until) }
	begin := time.Now()
	for time.Now().Before(until) {
		socket, err := net.DialUDP("udp", nil, r.front.LocalAddr().(*net.UDPAddr))
		check(err)
		c, err := dtls.Client(socket, config)
		if err != nil {
			_ = socket.Close()
			continue
		}
		took = time.Since(begin)
		ok = echoOnce(c, until)
		_ = c.Close()
		_ = socket.Close()
		return took, ok
	}
	return 0, false
}

// echoOnce reports whether the server echoes one of the datagrams that the client sends until
// then.
func echoOnce(c *dtls.Conn, until time.Time) bool {
	for time.Now().Before(until) {
		if _, err := c.Write([]byte("in?")); err != nil {
			return false // the server has ended the session
		}
		check(c.SetReadDeadline(time.Now().Add(2 * roundTrip)))
		if n, err := c.Read(make([]byte, 100)); err == nil && n > 0 {
			return true
		}
	}
	return false
}

// relay passes the datagrams of one client on, each after half of the round trip.
type relay struct {
	front, back *net.UDPConn // for the client, and to the server
	client      atomic.Pointer[net.UDPAddr]
}

// startRelay returns a relay that has an address of its own for the server.
func startRelay(local *net.UDPAddr) *relay {
	front, err := net.ListenUDP("udp", loopback())
	check(err)
	r := &relay{front: front, back: dial(local)}
	go passOn(func(b []byte) (int, error) {
		n, from, err := r.front.ReadFromUDP(b)
		if err == nil {
			r.client.Store(from)
		}
		return n, err
	}, func(b []byte) { _, _ = r.back.Write(b) })
	go passOn(r.back.Read, func(b []byte) { _, _ = r.front.WriteToUDP(b, r.client.Load()) })
	return r
}

// passOn ends when the socket that it reads is closed.
func passOn(read func([]byte) (int, error), send func([]byte)) {
	buf := make([]byte, 2048)
	for {
		n, err := read(buf)
		if err != nil {
			return
		}
		datagram := bytes.Clone(buf[:n])
		time.AfterFunc(roundTrip/2, func() { send(datagram) })
	}
}

func (r *relay) close() {
	time.Sleep(roundTrip) // the close_notify has been passed on
	_ = r.front.Close()
	_ = r.back.Close()
}

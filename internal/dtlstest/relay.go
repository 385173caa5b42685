// SPDX-License-Identifier: MIT

package dtlstest

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// Relay passes datagrams on between one foreign client and a server, so that a test sees
// them although it owns neither socket. The hook of SetIn is for the client's datagrams,
// that of SetOut for the server's. A hook has returned before the datagram is sent on, so
// an answer is never seen before its question.
type Relay struct {
	hooks
	front, back *net.UDPConn
	client      atomic.Pointer[net.UDPAddr] // nil: nothing has been received yet
}

// StartRelay opens a Relay on a free port of 127.0.0.1. It is closed when the test ends.
func StartRelay(t testing.TB, server net.Addr) *Relay {
	t.Helper()
	front, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	back, err := net.DialUDP("udp", nil, server.(*net.UDPAddr))
	if err != nil {
		_ = front.Close()
		t.Fatal(err)
	}
	r := &Relay{front: front, back: back}
	var wg sync.WaitGroup
	wg.Go(r.toServer)
	wg.Go(r.toClient)
	t.Cleanup(func() {
		_ = front.Close()
		_ = back.Close()
		wg.Wait()
	})
	return r
}

// Addr returns the address for the client.
func (r *Relay) Addr() net.Addr { return r.front.LocalAddr() }

func (r *Relay) toServer() {
	buf := make([]byte, maxDatagram)
	for {
		n, from, err := r.front.ReadFromUDP(buf)
		if err != nil {
			return
		}
		r.client.Store(from)
		if passes(&r.in, buf[:n]) {
			_, _ = r.back.Write(buf[:n]) // a closed server is a lost datagram
		}
	}
}

func (r *Relay) toClient() {
	buf := make([]byte, maxDatagram)
	for {
		n, err := r.back.Read(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil && passes(&r.out, buf[:n]) {
			_, _ = r.front.WriteToUDP(buf[:n], r.client.Load())
		}
	}
}

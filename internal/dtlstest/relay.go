// SPDX-License-Identifier: MIT

package dtlstest

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Relay passes datagrams on between one foreign client and a server, so that a test sees
// them although it owns neither socket. The hook of SetIn is for the client's datagrams,
// that of SetOut for the server's. A hook has returned before the datagram is sent on, so
// an answer is never seen before its question.
//
// To the server all clients that use a Relay one after the other have the same address and
// port.
type Relay struct {
	hooks
	front              *net.UDPConn
	back               atomic.Pointer[net.UDPConn] // towards the server
	goroutines         sync.WaitGroup
	toServer, toClient *delayLine
	client             atomic.Pointer[net.UDPAddr] // nil: nothing has been received yet
}

// StartRelay opens a Relay on a free port of 127.0.0.1. It is closed when the test ends.
func StartRelay(t testing.TB, server net.Addr) *Relay {
	t.Helper()
	return StartSlowRelay(t, server, 0)
}

// StartSlowRelay is StartRelay for a network in which each datagram takes a time, in either
// direction. Datagrams keep their order. The hooks are called when the Relay receives a
// datagram, before the delay.
func StartSlowRelay(t testing.TB, server net.Addr, delay time.Duration) *Relay {
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
	r := &Relay{front: front}
	r.back.Store(back)
	r.toServer = newDelayLine(delay, func(datagram []byte) {
		_, _ = r.back.Load().Write(datagram) // a closed server is a lost datagram
	})
	r.toClient = newDelayLine(delay, func(datagram []byte) {
		_, _ = front.WriteToUDP(datagram, r.client.Load())
	})
	closed := make(chan struct{})
	r.goroutines.Go(r.readClient)
	r.goroutines.Go(func() { r.readServer(back) })
	r.goroutines.Go(func() { r.toServer.run(closed) })
	r.goroutines.Go(func() { r.toClient.run(closed) })
	t.Cleanup(func() {
		close(closed)
		_ = front.Close()
		_ = r.back.Load().Close()
		r.goroutines.Wait()
	})
	return r
}

// Addr returns the address for the client.
func (r *Relay) Addr() net.Addr { return r.front.LocalAddr() }

// Outside returns the address that the server sees.
func (r *Relay) Outside() netip.AddrPort { return r.back.Load().LocalAddr().(*net.UDPAddr).AddrPort() }

// Rebind gives the Relay another port towards the server, as a NAT does that has forgotten its
// client. What the server sends to the old one from now on is lost. Only one goroutine may call
// Rebind or Redirect at a time.
func (r *Relay) Rebind(t testing.TB) {
	t.Helper()
	r.Redirect(t, r.back.Load().RemoteAddr())
}

// Redirect is Rebind to another server, which takes the place of the one before.
func (r *Relay) Redirect(t testing.TB, server net.Addr) {
	t.Helper()
	back, err := net.DialUDP("udp", nil, server.(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	r.goroutines.Go(func() { r.readServer(back) })
	_ = r.back.Swap(back).Close()
}

// Forge sends a datagram to the server from the client's own address and port, as a stranger
// can who forges them. It passes no hook and is not delayed. The server's answers go to the
// client. Several goroutines may call it at a time.
func (r *Relay) Forge(datagram []byte) {
	_, _ = r.back.Load().Write(datagram) // a closed server is a lost datagram
}

func (r *Relay) readClient() {
	buf := make([]byte, maxDatagram)
	for {
		n, from, err := r.front.ReadFromUDP(buf)
		if err != nil {
			return
		}
		r.client.Store(from)
		if passes(&r.in, buf[:n]) {
			r.toServer.pass(buf[:n])
		}
	}
}

func (r *Relay) readServer(back *net.UDPConn) {
	buf := make([]byte, maxDatagram)
	for {
		n, err := back.Read(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil && passes(&r.out, buf[:n]) {
			r.toClient.pass(buf[:n])
		}
	}
}

// SPDX-License-Identifier: MIT

package main

import (
	"bytes"
	"context"
	crand "crypto/rand"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/pion/dtls/v2"
)

const (
	knownIdentity = "device"
	rightKey      = "secret secret 12"
	initially     = 120 // devices
	strangersRate = 300 // ClientHellos a second
)

var suites = []dtls.CipherSuiteID{dtls.TLS_PSK_WITH_AES_128_CCM_8}

// fleet is all clients of the server.
type fleet struct {
	server *net.UDPAddr
	cancel context.CancelFunc
	wg     sync.WaitGroup
	number atomic.Uint32 // of the last device
}

// newFleet begins with some devices, which stay.
func newFleet(ctx context.Context, server *net.UDPAddr) *fleet {
	f := &fleet{server: server}
	ctx, f.cancel = context.WithCancel(ctx)
	f.devices(ctx, initially)
	return f
}

// stop ends all clients, and waits until they have ended.
func (f *fleet) stop() {
	f.cancel()
	f.wg.Wait()
}

// devices adds devices that know the key.
func (f *fleet) devices(ctx context.Context, count int) {
	for range count {
		f.wg.Go(func() { f.device(ctx, knownIdentity, rightKey) })
	}
}

// wrongKeys adds devices with an old key, and some with an identity that nobody knows.
func (f *fleet) wrongKeys(ctx context.Context, count int) {
	for n := range count {
		identity := knownIdentity
		if n%4 == 0 {
			identity = "stolen"
		}
		f.wg.Go(func() { f.device(ctx, identity, "an old key") })
	}
}

// lossRate is the share of a device's datagrams that are lost on their way to the server.
const lossRate = 0.03

// slowConn is the way of a device's datagrams.
type slowConn struct {
	net.Conn
	delay time.Duration
}

func (c slowConn) Write(p []byte) (int, error) {
	if rand.Float64() >= lossRate {
		datagram := bytes.Clone(p)
		time.AfterFunc(c.delay, func() { _, _ = c.Conn.Write(datagram) }) // closed meanwhile: it is lost
	}
	return len(p), nil
}

// Close closes the socket once the last datagram, such as close_notify, is on its way.
func (c slowConn) Close() error {
	time.AfterFunc(c.delay+10*time.Millisecond, func() { _ = c.Conn.Close() })
	return nil
}

// device connects, sends something now and then, and closes its session or dies. After a while
// it comes back. It has an address of its own, and often the same port.
func (f *fleet) device(ctx context.Context, identity, key string) {
	n := f.number.Add(1)
	from := &net.UDPAddr{IP: net.IPv4(127, 16+byte(n>>8), byte(n), 1)}
	delay := time.Duration(20+rand.ExpFloat64()*120) * time.Millisecond
	config := &dtls.Config{
		PSK:             func([]byte) ([]byte, error) { return []byte(key), nil },
		PSKIdentityHint: []byte(identity), CipherSuites: suites,
		SessionStore:        &dtlstest.ClientStore{},
		ConnectContextMaker: func() (context.Context, func()) { return context.WithTimeout(ctx, 6*time.Second) },
	}
	wait(ctx, rand.N(8*time.Second))
	for ctx.Err() == nil {
		udp, err := net.DialUDP("udp", from, f.server)
		if err != nil {
			from.Port = 0
			continue
		}
		from.Port = udp.LocalAddr().(*net.UDPAddr).Port
		c, err := dtlstest.Handshake(slowConn{udp, delay}, config)
		if err != nil {
			from.Port = 0
			wait(ctx, time.Second+rand.N(2*time.Second))
			continue
		}
		f.talk(ctx, c)
		if rand.IntN(2) == 0 {
			_ = c.Close()
		}
		c.Kill()
		if rand.IntN(2) == 0 {
			from.Port = 0
		}
		wait(ctx, rand.N(4*time.Second))
	}
}

// talk sends something every second or so, and expects an answer.
func (f *fleet) talk(ctx context.Context, c *dtlstest.Client) {
	buf := make([]byte, 100)
	for end := time.Now().Add(3*time.Second + rand.N(20*time.Second)); time.Now().Before(end) && ctx.Err() == nil; {
		if _, err := c.Write([]byte("21.5 °C")); err != nil {
			return
		}
		_ = c.SetReadDeadline(time.Now().Add(2 * time.Second))
		if _, err := c.Read(buf); err != nil && !isTimeout(err) {
			return // evicted
		}
		wait(ctx, 500*time.Millisecond+rand.N(time.Second))
	}
}

func isTimeout(err error) bool {
	timeout, ok := err.(net.Error)
	return ok && timeout.Timeout()
}

// strangers send ClientHellos from any address of 127.128.0.0/9, and nothing else.
func (f *fleet) strangers(ctx context.Context) {
	f.wg.Go(func() {
		hello := dtlstest.ClientHello{}
		ticker := time.NewTicker(time.Second / strangersRate)
		defer ticker.Stop()
		for {
			_, _ = crand.Read(hello.Random[:])
			from := &net.UDPAddr{IP: net.IPv4(127, 128+byte(rand.IntN(127)), byte(rand.Uint32()), byte(rand.Uint32()))}
			if c, err := net.DialUDP("udp", from, f.server); err == nil {
				_, _ = c.Write(hello.Datagram())
				_ = c.Close()
			}
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
		}
	})
}

// wait waits for a time, or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

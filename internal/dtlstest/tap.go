// SPDX-License-Identifier: MIT

package dtlstest

import (
	"net"
	"testing"
)

// Tap is a server's socket whose datagrams a test sees, and can lose, through the
// hooks that SetIn and SetOut set at any time. Everything else is that of the
// net.PacketConn, usually one of the loopback interface.
type Tap struct {
	net.PacketConn
	hooks
}

// NewTap returns a Tap on a socket that is open already.
func NewTap(socket net.PacketConn) *Tap { return &Tap{PacketConn: socket} }

// ListenTap opens a Tap on a free port of 127.0.0.1. It is closed when the test ends.
func ListenTap(t testing.TB) *Tap {
	t.Helper()
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = socket.Close() })
	return NewTap(socket)
}

// ReadFrom reads the next datagram that the hook lets pass.
func (w *Tap) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		n, addr, err := w.PacketConn.ReadFrom(p)
		if err != nil || passes(&w.in, p[:n]) {
			return n, addr, err
		}
	}
}

// WriteTo sends the datagram if the hook lets it pass.
func (w *Tap) WriteTo(p []byte, addr net.Addr) (int, error) {
	if w.out.Load() != nil {
		sent := append([]byte(nil), p...) // a hook may change it
		if !passes(&w.out, sent) {
			return len(p), nil
		}
		p = sent
	}
	return w.PacketConn.WriteTo(p, addr)
}

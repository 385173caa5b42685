// SPDX-License-Identifier: MIT

package pionv2

import (
	"net"
	"os"
	"sync"
	"time"

	"github.com/go-dsm/dsm/internal/handshake"
	"github.com/pion/transport/v2/deadline"
)

// transport is the net.Conn over which pion runs a handshake. Its other end is the gate.
type transport struct {
	// Set in newTransport, never changed.
	gate     *handshake.Gate
	deadline *deadline.Deadline // of Read
	closed   chan struct{}

	closeOnce sync.Once
}

var _ net.Conn = (*transport)(nil)

func newTransport(gate *handshake.Gate) *transport {
	return &transport{gate: gate, deadline: deadline.New(), closed: make(chan struct{})}
}

// Read gives pion the next datagram.
func (t *transport) Read(p []byte) (int, error) {
	for {
		if datagram := t.gate.Next(); datagram != nil {
			return copy(p, datagram), nil
		}
		select {
		case <-t.gate.Wake():
		case <-t.gate.Failed():
			return 0, net.ErrClosed
		case <-t.deadline.Done():
			return 0, os.ErrDeadlineExceeded
		case <-t.closed:
			return 0, net.ErrClosed
		}
	}
}

// Write takes a datagram of pion's. A datagram that is not sent is lost, as it could be
// in the network.
func (t *transport) Write(p []byte) (int, error) {
	t.gate.FromPion(p)
	return len(p), nil
}

// Close makes Read fail.
func (t *transport) Close() error {
	t.closeOnce.Do(func() { close(t.closed) })
	return nil
}

// LocalAddr and RemoteAddr are not used by pion's server.
func (t *transport) LocalAddr() net.Addr  { return &net.UDPAddr{} }
func (t *transport) RemoteAddr() net.Addr { return &net.UDPAddr{} }

func (t *transport) SetReadDeadline(at time.Time) error {
	t.deadline.Set(at)
	return nil
}

// SetWriteDeadline does nothing: a Write never waits.
func (t *transport) SetWriteDeadline(time.Time) error { return nil }

func (t *transport) SetDeadline(at time.Time) error { return t.SetReadDeadline(at) }

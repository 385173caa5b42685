// SPDX-License-Identifier: MIT

package dtlstest

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/pion/transport/v2/deadline"
)

// WhenFull says what becomes of a datagram that does not fit into a queue.
type WhenFull int

const (
	// DropWhenFull: the datagram is dropped, as the kernel does.
	DropWhenFull WhenFull = iota
	// WaitWhenFull: its sender waits, until there is room, the receiver is closed,
	// or the sender is closed or its write deadline passes. A datagram that was
	// delayed on its way is queued although the queue is full.
	WaitWhenFull
)

// Socket is a UDP socket on a Network. Like a net.UDPConn it is a net.PacketConn and,
// if it is connected, a net.Conn. Network.Dial opens connected ones.
type Socket struct {
	network   *Network
	local     netip.AddrPort
	remote    netip.AddrPort // zero: not connected
	listening bool

	closed        chan struct{}
	closeOnce     sync.Once
	readDeadline  *deadline.Deadline
	writeDeadline *deadline.Deadline

	mu sync.Mutex
	// mu guards the following.
	queue    []Datagram
	limit    int // 0: no limit
	whenFull WhenFull
	changed  chan struct{} // closed at the next change of queue; nil: nobody waits
}

var (
	_ net.Conn       = (*Socket)(nil)
	_ net.PacketConn = (*Socket)(nil)
)

func newSocket(n *Network, local, remote netip.AddrPort) *Socket {
	return &Socket{
		network: n, local: unmap(local), remote: unmap(remote),
		closed: make(chan struct{}), readDeadline: deadline.New(), writeDeadline: deadline.New(),
	}
}

// SetQueue bounds the queue of received datagrams to limit, and says what happens to
// those that do not fit. 0 means no limit, which is the default.
func (s *Socket) SetQueue(limit int, whenFull WhenFull) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit, s.whenFull = limit, whenFull
	s.wakeLocked()
}

// Queued returns how many datagrams have arrived and were not read.
func (s *Socket) Queued() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queue)
}

// Connect connects a socket that Listen opened to its only peer, which makes it a
// net.Conn. It must come before any other use of the socket.
func (s *Socket) Connect(remote netip.AddrPort) { s.remote = unmap(remote) }

// AddrPort returns the local address.
func (s *Socket) AddrPort() netip.AddrPort { return s.local }

// outcome is what became of a datagram at its receiver.
type outcome int

const (
	queued outcome = iota
	overflowed
	noReceiver
)

// put queues a datagram. If wait is true it may wait for room as WaitWhenFull says;
// sender may be nil.
func (s *Socket) put(d Datagram, sender *Socket, wait bool) outcome {
	if s.remote.IsValid() && d.From != s.remote {
		return noReceiver
	}
	var stopped, late <-chan struct{}
	if sender != nil {
		stopped, late = sender.closed, sender.writeDeadline.Done()
	}
	for {
		if isDone(s.closed) {
			return noReceiver
		}
		s.mu.Lock()
		if s.limit <= 0 || len(s.queue) < s.limit || s.whenFull == WaitWhenFull && !wait {
			s.queue = append(s.queue, d)
			s.wakeLocked()
			s.mu.Unlock()
			return queued
		}
		if s.whenFull == DropWhenFull {
			s.mu.Unlock()
			return overflowed
		}
		changed := s.changedLocked()
		s.mu.Unlock()
		select {
		case <-changed:
		case <-s.closed:
		case <-stopped:
			return overflowed
		case <-late:
			return overflowed
		}
	}
}

// get takes the first datagram out of the queue, and waits for one.
func (s *Socket) get() (Datagram, error) {
	for {
		late := s.readDeadline.Done()
		switch {
		case isDone(s.closed):
			return Datagram{}, s.opError("read", net.ErrClosed)
		case isDone(late):
			return Datagram{}, s.opError("read", os.ErrDeadlineExceeded)
		}
		s.mu.Lock()
		if len(s.queue) > 0 {
			d := s.queue[0]
			s.queue[0] = Datagram{}
			s.queue = s.queue[1:]
			s.wakeLocked()
			s.mu.Unlock()
			return d, nil
		}
		changed := s.changedLocked()
		s.mu.Unlock()
		select {
		case <-changed:
		case <-s.closed:
		case <-late:
		}
	}
}

func (s *Socket) changedLocked() <-chan struct{} {
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.changed
}

func (s *Socket) wakeLocked() {
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// Read reads a datagram. Like a UDP socket it cuts one that is longer than p.
func (s *Socket) Read(p []byte) (int, error) {
	d, err := s.get()
	return copy(p, d.Payload), err
}

// ReadFrom reads a datagram, and says where it came from.
func (s *Socket) ReadFrom(p []byte) (int, net.Addr, error) {
	d, err := s.get()
	if err != nil {
		return 0, nil, err
	}
	return copy(p, d.Payload), net.UDPAddrFromAddrPort(d.From), nil
}

var (
	errNotConnected = errors.New("socket is not connected")
	errNoUDPAddr    = errors.New("not a UDP address")
)

// Write sends a datagram to the address that the socket is connected to.
func (s *Socket) Write(p []byte) (int, error) {
	if !s.remote.IsValid() {
		return 0, s.opError("write", errNotConnected)
	}
	return s.write(p, s.remote)
}

// WriteTo sends a datagram to an address. Unlike a net.UDPConn, a connected socket
// sends to other addresses, too.
func (s *Socket) WriteTo(p []byte, to net.Addr) (int, error) {
	udp, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, s.opError("write", errNoUDPAddr)
	}
	return s.write(p, unmap(udp.AddrPort()))
}

func (s *Socket) write(p []byte, to netip.AddrPort) (int, error) {
	switch {
	case isDone(s.closed):
		return 0, s.opError("write", net.ErrClosed)
	case isDone(s.writeDeadline.Done()):
		return 0, s.opError("write", os.ErrDeadlineExceeded)
	}
	s.network.send(s, to, p)
	return len(p), nil
}

// Close closes the socket and frees its address. What was not read is lost.
func (s *Socket) Close() error {
	err := s.opError("close", net.ErrClosed)
	s.closeOnce.Do(func() {
		s.network.remove(s)
		close(s.closed)
		s.readDeadline.Set(time.Time{}) // no timer is left
		s.writeDeadline.Set(time.Time{})
		s.mu.Lock()
		s.queue = nil
		s.mu.Unlock()
		err = nil
	})
	return err
}

// LocalAddr returns the socket's address, a *net.UDPAddr.
func (s *Socket) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(s.local) }

// RemoteAddr returns the address that the socket is connected to, or nil.
func (s *Socket) RemoteAddr() net.Addr {
	if !s.remote.IsValid() {
		return nil
	}
	return net.UDPAddrFromAddrPort(s.remote)
}

// SetDeadline sets the deadline of reads and writes. The zero time means
// no deadline.
func (s *Socket) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

// SetReadDeadline sets the deadline of reads, also of those that wait already.
func (s *Socket) SetReadDeadline(t time.Time) error { return s.setDeadline(s.readDeadline, t) }

// SetWriteDeadline sets the deadline of writes, also of those that wait already.
func (s *Socket) SetWriteDeadline(t time.Time) error { return s.setDeadline(s.writeDeadline, t) }

func (s *Socket) setDeadline(d *deadline.Deadline, t time.Time) error {
	if isDone(s.closed) {
		return s.opError("set", net.ErrClosed)
	}
	d.Set(t)
	return nil
}

func (s *Socket) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: "udp", Source: s.LocalAddr(), Addr: s.RemoteAddr(), Err: err}
}

func isDone(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

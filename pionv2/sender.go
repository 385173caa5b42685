// SPDX-License-Identifier: MIT

package pionv2

import (
	"net/netip"
	"sync"
	"time"

	"github.com/go-dsm/dsm/internal/packet"
)

const (
	sendBatch = 32 // datagrams in a system call
	// sendDelay is how long a datagram waits at most for others to go out with, if
	// anything is sent after it; and if not, until the scheduler comes back to the
	// socket's reader, which it does when nobody else has anything to do.
	sendDelay = 200 * time.Microsecond
)

// sender is the way out of a socket. While the handlers of what the socket's reader
// has just read have their turn, what they send is collected, and then goes out in
// one system call. At all other times a datagram goes out at once.
type sender struct {
	socket *packet.Socket // set in Listener.start, never changed

	mu sync.Mutex
	// mu guards the following. It is held while what was collected goes out, so that
	// nothing overtakes it.
	collecting bool
	stopped    bool      // for good
	since      time.Time // when collecting began
	n          int
	batch      [sendBatch]packet.Datagram // n of them; their Bufs are kept
}

// send sends one datagram. What cannot be sent is lost, as it could be on the way.
func (s *sender) send(datagram []byte, peer netip.AddrPort, source packet.Source) {
	s.mu.Lock()
	if !s.collecting {
		s.mu.Unlock()
		one := datagrams.Get().(*[1]packet.Datagram)
		one[0] = packet.Datagram{Buf: datagram, Peer: peer, Source: source}
		_, _ = s.socket.Write(one[:])
		one[0] = packet.Datagram{}
		datagrams.Put(one)
		return
	}
	d := &s.batch[s.n]
	d.Buf, d.Peer, d.Source = append(d.Buf[:0], datagram...), peer, source
	s.n++
	if s.n == len(s.batch) || time.Since(s.since) > sendDelay {
		s.flushLocked()
	}
	s.mu.Unlock()
}

// datagrams are for sender.send, that it need not allocate.
var datagrams = sync.Pool{New: func() any { return new([1]packet.Datagram) }}

// collect has datagrams wait for flush.
func (s *sender) collect(now time.Time) {
	s.mu.Lock()
	s.collecting, s.since = !s.stopped, now
	s.mu.Unlock()
}

// flush sends what was collected.
func (s *sender) flush() {
	s.mu.Lock()
	s.flushLocked()
	s.collecting = false
	s.mu.Unlock()
}

func (s *sender) flushLocked() {
	if s.n > 0 {
		_, _ = s.socket.Write(s.batch[:s.n])
		s.n = 0
	}
}

// stop sends what was collected, and nothing is any more.
func (s *sender) stop() {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	s.flush()
}

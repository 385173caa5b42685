// SPDX-License-Identifier: MIT

package pionv2

import (
	"bytes"
	"encoding/binary"
	"net"
	"os"
	"sync"
	"time"

	"github.com/go-dsm/dsm/internal/record"
	"github.com/pion/transport/v2/deadline"
)

// transport is what pion runs a handshake over: records that the listener chose to
// give it come in one by one, and datagrams go out through the listener's socket.
// It watches what goes out, for the takeover must know.
type transport struct {
	// Set in newTransport, never changed.
	path   path
	in     chan []byte
	reads  *deadline.Deadline
	closed chan struct{}

	closeOnce sync.Once

	mu sync.Mutex
	// mu guards the following.
	muted bool // nothing goes out any more: pion's numbers stand still
	// cookie is that of pion's last HelloVerifyRequest.
	cookie []byte
	hello  record.ServerHello // ours
	secret []byte             // the master secret, once pion has it
	// finishing: our ChangeCipherSpec went out. What it and the records after it
	// are, is flight.
	finishing bool
	flight    []byte
	plain     uint64    // the epoch-0 sequence number after the last one that went out
	sealed    uint64    // and of later epochs
	nonces    [][8]byte // explicit nonces that pion drew for these
	guard     *guard    // of the client's sealed records; nil if they need none
}

func newTransport(p path) *transport {
	return &transport{path: p, in: make(chan []byte, handshakeQueue), reads: deadline.New(), closed: make(chan struct{})}
}

// feed gives pion a record, and says whether there was room for it.
func (t *transport) feed(raw []byte) bool {
	select {
	case t.in <- bytes.Clone(raw):
		return true
	default:
		return false
	}
}

// Read gives pion one record.
func (t *transport) Read(p []byte) (int, error) {
	select {
	case <-t.reads.Done():
		return 0, os.ErrDeadlineExceeded
	case <-t.closed:
		return 0, net.ErrClosed
	default:
	}
	select {
	case raw := <-t.in:
		return copy(p, raw), nil
	case <-t.reads.Done():
		return 0, os.ErrDeadlineExceeded
	case <-t.closed:
		return 0, net.ErrClosed
	}
}

// Write sends a datagram. What the network does not take is lost, as on the way.
func (t *transport) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.muted {
		return len(p), nil
	}
	t.watch(p)
	t.path.send(p)
	return len(p), nil
}

// watch notes what the takeover must know of a datagram that goes out.
func (t *transport) watch(datagram []byte) {
	for rest := datagram; len(rest) > 0; {
		r, after, fault := record.Next(rest)
		if fault != record.Sound {
			return // pion writes none
		}
		rest = after
		switch {
		case r.Epoch > 0:
			t.sealed = max(t.sealed, r.Sequence+1)
			if f := r.Fragment(); len(f) >= 8 {
				t.nonces = append(t.nonces, [8]byte(f))
			}
		default:
			t.plain = max(t.plain, r.Sequence+1)
		}
		if r.Type == record.ChangeCipherSpec {
			t.finishing = true
			t.flight = t.flight[:0]
		}
		if t.finishing {
			t.flight = append(t.flight, r.Raw...)
		}
		if r.Epoch == 0 && r.Type == record.HandshakeType {
			h, _, ok := record.NextHandshake(r.Fragment())
			switch {
			case !ok:
			case h.Type == record.HelloVerifyRequestType && len(h.Body) > 3:
				t.cookie = bytes.Clone(h.Body[3:])
			case h.Type == record.ServerHelloType && t.hello == (record.ServerHello{}):
				t.hello, _ = record.ParseServerHello(h.Body)
				if record.IsCBC(t.hello.Suite) {
					t.guard = &guard{}
				}
			}
		}
	}
}

// mute lets nothing out any more: what the transport has noted stays as it is.
func (t *transport) mute() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.muted = true
}

// isFinishing is whether all that pion has to say was said: what comes from now on
// is the session's.
func (t *transport) isFinishing() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.finishing
}

// returned is whether a ClientHello has the cookie that pion asked for.
func (t *transport) returned(hello record.ClientHello) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.cookie) > 0 && bytes.Equal(t.cookie, hello.Cookie)
}

func (t *transport) Close() error {
	t.closeOnce.Do(func() { close(t.closed) })
	return nil
}

func (t *transport) LocalAddr() net.Addr  { return t.path.socket.LocalAddr() }
func (t *transport) RemoteAddr() net.Addr { return net.UDPAddrFromAddrPort(t.path.peer) }

func (t *transport) SetReadDeadline(at time.Time) error {
	t.reads.Set(at)
	return nil
}

// SetWriteDeadline does nothing: a Write never waits.
func (t *transport) SetWriteDeadline(time.Time) error { return nil }

func (t *transport) SetDeadline(at time.Time) error { return t.SetReadDeadline(at) }

// nonceNumber is the sequence number whose nonce, as our record layer makes it, a
// nonce of pion's happens to be.
func nonceNumber(nonce [8]byte, epoch uint16) (uint64, bool) {
	n := binary.BigEndian.Uint64(nonce[:])
	return n & record.MaxSequence, uint16(n>>48) == epoch
}

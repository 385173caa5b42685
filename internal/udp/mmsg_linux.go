// SPDX-License-Identifier: MIT

package udp

import (
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// oobSize bounds the control messages of a datagram, in bytes. The owner of a conn
// may have requested more of them than the local address, such as time stamps.
const oobSize = 128

// mmsghdr is the struct mmsghdr of recvmmsg(2) and sendmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32 // set by the kernel: the length of the datagram that is in the buffer
}

// vector is what recvmmsg and sendmmsg need in addition to the datagrams. It must be on the
// heap and stay there: messages point to the other fields.
type vector struct {
	messages [maxBatch]mmsghdr
	iovecs   [maxBatch]unix.Iovec // iovecs[i] is the buffer of messages[i]
	names    [maxBatch]sockaddr   // names[i] is the address of the peer of messages[i]
}

func (v *vector) init() {
	for i := range v.messages {
		h := &v.messages[i].hdr
		h.Iov = &v.iovecs[i]
		h.SetIovlen(1)
		h.Name = &v.names[i][0]
	}
}

// setBuffer makes b the buffer of a message. The vector refers to b from now on.
func (v *vector) setBuffer(i int, b []byte) {
	v.iovecs[i].Base = unsafe.SliceData(b)
	v.iovecs[i].SetLen(len(b))
}

// receiver receives datagrams. It must not be used concurrently.
type receiver struct {
	vector
	control *[maxBatch][oobSize]byte // nil: the kernel delivers no control messages
	// call is recvmmsg as a function. A method value is allocated, so it is made once.
	call func(fd uintptr) bool
	// The parameter and the results of call.
	count int // of messages to receive
	n     int // messages received
	errno syscall.Errno
}

func (r *receiver) init(control bool) {
	r.vector.init()
	r.call = r.recvmmsg
	if !control {
		return
	}
	r.control = new([maxBatch][oobSize]byte)
	for i := range r.messages {
		r.messages[i].hdr.Control = &r.control[i][0]
	}
}

// receive waits for a datagram and receives at most len(ds) datagrams into the capacities of
// their Bufs. It sets nothing else of ds.
func (r *receiver) receive(raw syscall.RawConn, ds []Datagram) (int, error) {
	for i := range ds {
		r.setBuffer(i, ds[i].Buf[:cap(ds[i].Buf)])
		h := &r.messages[i].hdr
		h.Namelen = uint32(len(r.names[i])) // the kernel has changed these two
		if r.control != nil {
			h.SetControllen(oobSize)
		}
	}
	r.count = len(ds)
	if err := raw.Read(r.call); err != nil {
		return 0, err
	}
	if r.errno != 0 {
		return 0, os.NewSyscallError("recvmmsg", r.errno)
	}
	return r.n, nil
}

// recvmmsg reports whether the call is complete. If it is not, there is no datagram yet.
func (r *receiver) recvmmsg(fd uintptr) bool {
	r.n, r.errno = mmsg(unix.SYS_RECVMMSG, fd, r.messages[:r.count])
	return r.errno != unix.EAGAIN
}

// sender sends datagrams. It must not be used concurrently.
type sender struct {
	vector
	// call is sendmmsg as a function. A method value is allocated, so it is made once.
	call func(fd uintptr) bool
	// The parameter and the results of call, which may be called several times for a batch.
	pending []mmsghdr     // neither sent nor skipped yet
	sent    int           // datagrams
	errno   syscall.Errno // the error of the first datagram skipped
}

func newSender() *sender {
	s := new(sender)
	s.vector.init()
	s.call = s.sendmmsg
	return s
}

// send sends ds, at most maxBatch datagrams. It returns the number of datagrams sent, and the
// error of the first one that cannot be sent or the error of the RawConn, which ends it.
// Afterwards the sender does not refer to ds.
func (s *sender) send(raw syscall.RawConn, ds []Datagram) (int, error) {
	for i := range ds {
		d, h := &ds[i], &s.messages[i].hdr
		s.setBuffer(i, d.Buf)
		h.Namelen = s.names[i].set(d.Peer)
		if d.Source.n > 0 {
			h.Control = &d.Source.oob[0]
		}
		h.SetControllen(int(d.Source.n))
	}
	s.pending, s.sent, s.errno = s.messages[:len(ds)], 0, 0
	err := raw.Write(s.call)
	clear(s.iovecs[:len(ds)])
	for i := range ds {
		s.messages[i].hdr.Control = nil
	}
	if err == nil && s.errno != 0 {
		err = os.NewSyscallError("sendmmsg", s.errno)
	}
	return s.sent, err
}

// sendmmsg reports whether the batch is complete. If it is not, the socket has no room for the
// next datagram yet.
func (s *sender) sendmmsg(fd uintptr) bool {
	for len(s.pending) > 0 {
		n, errno := mmsg(unix.SYS_SENDMMSG, fd, s.pending)
		switch {
		case errno == unix.EAGAIN:
			return false
		case errno == 0:
			// If n is less than len(s.pending), the datagram after the n sent cannot be
			// sent, and the next call returns its error.
			s.sent += n
		default:
			n = 1
			if s.errno == 0 {
				s.errno = errno
			}
		}
		s.pending = s.pending[n:]
	}
	return true
}

// mmsg calls recvmmsg or sendmmsg, which does not wait, and returns the number of messages
// transferred. There is at least one message. RawSyscall6, which does not tell the scheduler
// about the call, was no faster, and a batch would hold up the garbage collector.
func mmsg(trap, fd uintptr, messages []mmsghdr) (int, syscall.Errno) {
	for {
		n, _, errno := unix.Syscall6(trap, fd, uintptr(unsafe.Pointer(&messages[0])), uintptr(len(messages)), unix.MSG_DONTWAIT, 0, 0)
		if errno == 0 {
			return int(n), 0
		}
		if errno != unix.EINTR {
			return 0, errno
		}
	}
}

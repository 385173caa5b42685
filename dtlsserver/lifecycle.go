// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"fmt"
	"net"
	"sync"

	"github.com/go-dsm/dsm/internal/lockorder"
)

// lifecycle says whether a listener is open, and counts its goroutines.
type lifecycle struct {
	done chan struct{} // closed when the listener is closed and its sessions have ended

	mu lockorder.Mutex[lockorder.Listener]
	// mu guards the following.
	closed    bool
	cause     error   // the error of the socket that has closed the listener, if one has
	accepting bool    // Accept was called
	saving    bool    // Save stops the readers
	saves     int     // how often it has begun to
	paused    []uint8 // the sockets whose readers have stopped

	// readers counts the goroutines that read the sockets. It is raised with mu held, or
	// before the listener is open.
	readers sync.WaitGroup

	// running counts the listener's goroutines. It is raised while closed is not set
	// (with mu held), or while the admission is not stopped (with its lock held).
	running sync.WaitGroup
}

// close marks the listener as closed, and reports false if it was before.
func (s *lifecycle) close() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.closed
	s.closed = true
	return !was
}

func (s *lifecycle) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// beginSaving makes the readers end when their deadlines pass.
func (s *lifecycle) beginSaving() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return net.ErrClosed
	case s.saving:
		return errSaving
	}
	s.saving = true
	s.saves++
	return nil
}

// endSaving starts the readers again that have stopped, unless the listener is closed.
func (s *lifecycle) endSaving(start func(number uint8)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saving = false
	for _, number := range s.paused {
		if !s.closed {
			start(number)
		}
	}
	s.paused = nil
}

func (s *lifecycle) countSaves() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.saves
}

// pauseReader is called by the reader of a socket whose deadline has passed. It reports
// whether that was for Save. If Save has failed since the reader is started again. saves is
// countSaves of before.
func (s *lifecycle) pauseReader(number uint8, saves int, start func(number uint8)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
	case s.saving:
		s.paused = append(s.paused, number)
	case s.saves != saves:
		start(number)
	default:
		return false
	}
	return true
}

// fail notes the error of a socket, and reports false if the listener is closed.
func (s *lifecycle) fail(err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.cause = err
	return true
}

// spawn runs f in a goroutine that Close waits for, unless the listener is closed.
func (s *lifecycle) spawn(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.running.Go(f)
	}
}

// closedError is the error of calls after the listener was closed.
func (l *Listener) closedError(op string) error {
	l.life.mu.Lock()
	defer l.life.mu.Unlock()
	if l.life.cause != nil {
		return l.opError(op, fmt.Errorf("%w: %w", net.ErrClosed, l.life.cause))
	}
	return l.opError(op, net.ErrClosed)
}

func (l *Listener) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: "udp", Addr: l.sockets[0].LocalAddr(), Err: err}
}

// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"fmt"
	"io"
	"net"
)

// Reason says why a session ended.
type Reason uint8

// The reasons. Each has one word, in String, in Stats, in logs and in metrics.
const (
	ClosedByUs   Reason = iota + 1 // Conn.Close, or Close of the listener
	ClosedByPeer                   // the peer's close_notify, or an authentic fatal alert of the peer
	Evicted                        // to make room for a newcomer, or for Config.MinAvailable
	Expired                        // Config.IdleTimeout
	Replaced                       // the same peer has established another session
	Refused                        // no room was left when it was established, or Accept's queue was full
	Exhausted                      // no sequence number was left (RFC 6347 section 4.1), or none that the journal has reserved
	Detached                       // Conn.Detach or Listener.Save: the session lives on elsewhere
	Interrupted                    // the server had crashed: see Config.Journal

	IdentityReplaced // a newer session of the same identity was established: see Config.SessionsPerIdentity
	IdentityRefused  // its identity had Config.SessionsPerIdentity sessions when it was established
	Withdrawn        // Listener.EndIdentity
	numReasons
)

// String returns the reason's word, such as closed_by_peer.
func (r Reason) String() string {
	if r > 0 && r < numReasons {
		return ends[r].text
	}
	return fmt.Sprintf("Reason(%d)", uint8(r))
}

// readError is the error of Read after a session has ended for the reason.
func (r Reason) readError() error {
	if r == ClosedByPeer || r == Replaced {
		return io.EOF
	}
	return r.writeError()
}

// writeError is the error of Write after a session has ended for the reason. It
// wraps net.ErrClosed.
func (r Reason) writeError() error {
	switch r {
	case ClosedByPeer:
		return ErrPeerClosed
	case Evicted:
		return ErrEvicted
	case Expired:
		return ErrExpired
	case Replaced:
		return ErrReplaced
	case Exhausted:
		return ErrExhausted
	case Detached:
		return ErrDetached
	case IdentityReplaced:
		return ErrIdentityReplaced
	case IdentityRefused:
		return ErrIdentityFull
	case Withdrawn:
		return ErrWithdrawn
	default:
		return net.ErrClosed
	}
}

// notifies reports whether the peer is sent close_notify. A client that has replaced its
// session no longer has the keys to open it. A detached session goes on.
func (r Reason) notifies() bool { return r != Replaced && r != Detached }

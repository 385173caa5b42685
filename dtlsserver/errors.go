// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"errors"
	"fmt"
	"net"
)

// The errors of Conn.Read and Conn.Write after a session has ended from this side.
// Each wraps net.ErrClosed.
var (
	// ErrEvicted: the session had to make room for another one.
	ErrEvicted = fmt.Errorf("dsm: session evicted: %w", net.ErrClosed)
	// ErrExpired: the session was idle for Config.IdleTimeout.
	ErrExpired = fmt.Errorf("dsm: session expired: %w", net.ErrClosed)
	// ErrReplaced: the peer has established another session. Only Write gives it;
	// Read gives io.EOF.
	ErrReplaced = fmt.Errorf("dsm: session replaced: %w", net.ErrClosed)
	// ErrPeerClosed: the peer has closed the session. Only Write gives it; Read
	// gives io.EOF.
	ErrPeerClosed = fmt.Errorf("dsm: session closed by the peer: %w", net.ErrClosed)
	// ErrExhausted: the session had no sequence number left to send with (RFC 6347
	// section 4.1).
	ErrExhausted = fmt.Errorf("dsm: session out of sequence numbers: %w", net.ErrClosed)
	// ErrIdentityReplaced: a newer session of the same identity was established, and there
	// were Config.SessionsPerIdentity.
	ErrIdentityReplaced = fmt.Errorf("dsm: session replaced by a newer one of its identity: %w", net.ErrClosed)
	// ErrIdentityFull: the identity had Config.SessionsPerIdentity sessions when this one was
	// established.
	ErrIdentityFull = fmt.Errorf("dsm: the identity has its sessions: %w", net.ErrClosed)
	// ErrWithdrawn: Listener.EndIdentity has ended the session.
	ErrWithdrawn = fmt.Errorf("dsm: the identity was withdrawn: %w", net.ErrClosed)
)

// ErrDetached is the error of Read and Write after Conn.Detach or Listener.Save: the
// session lives on elsewhere. It wraps net.ErrClosed.
var ErrDetached = fmt.Errorf("dsm: session detached: %w", net.ErrClosed)

// ErrServing is the error of Accept after Serve was called, and of Serve after Accept was:
// a listener delivers all its sessions either to Accept or to Serve.
var ErrServing = errors.New("dsm: Accept and Serve exclude each other")

// ErrUnknownPSKIdentity says that Config.PSK has no key for an identity. Config.PSK may
// return it, or an empty key without an error, which stands for it.
var ErrUnknownPSKIdentity = errors.New("dsm: unknown PSK identity")

// errSaving is the error of Save, and with a journal of Detach, while another Save runs.
var errSaving = errors.New("dsm: another Save is in progress")

// errDisplaced is the error of a handshake that was displaced.
var errDisplaced = errors.New("dsm: displaced, or the listener is closing")

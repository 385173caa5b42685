// SPDX-License-Identifier: MIT

// Package page makes the web page of package dsmdebug. It knows a listener by Source alone, so
// that tests show one with a million sessions.
package page

import (
	"iter"
	"net/netip"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
)

// Source is the listener that a Page shows.
type Source interface {
	// Address is the local address, as text.
	Address() string
	Stats() dtlsserver.Stats
	// Slots returns the slots that are taken, least recently used first, each with its session,
	// or with nil if it has a handshake in progress.
	Slots() iter.Seq2[int, Session]
	Refusals() []dtlsserver.Refusal
	HandshakeNetworks() []dtlsserver.HandshakeNetwork
}

// Session is an established session of a Source.
type Session interface {
	Slot() int
	Peer() netip.AddrPort
	IdentityKey() string // what the client has chosen is in it as it came
	Established() time.Time
	LastUsed() time.Time
	Resumed() bool
}

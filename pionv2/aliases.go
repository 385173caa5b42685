// SPDX-License-Identifier: MIT

package pionv2

import (
	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/keyring"
)

// What a server uses of package dtlsserver, under the names of this package. Pion v2 has no
// connection IDs, so AddressChange and its values have no name here.
type (
	// Listener is the listener that Listen and NewListener return.
	Listener = dtlsserver.Listener
	// Conn is an established session of a Listener.
	Conn = dtlsserver.Conn
	// Config says how many sessions a Listener has, and what becomes of them.
	Config = dtlsserver.Config
	// PSKRequest is what Config.PSK is asked with.
	PSKRequest = dtlsserver.PSKRequest
	// AuthRequest is what Config.Authorize is asked with.
	AuthRequest = dtlsserver.AuthRequest
	// Policy says what becomes of a newcomer while all sessions are established.
	Policy = dtlsserver.Policy
	// Peer is what a Listener keeps in a slot of Config.Table.
	Peer = dtlsserver.Peer
	// Identity is who the peer of a session has proven to be.
	Identity = dtlsserver.Identity
	// Reason says why a session ended.
	Reason = dtlsserver.Reason
	// Stats are a Listener's counts.
	Stats = dtlsserver.Stats
	// SessionState is all of a session that was detached.
	SessionState = dtlsserver.SessionState
	// SaveStats says what Listener.Save has written.
	SaveStats = dtlsserver.SaveStats
	// RestoreStats says what became of the sessions of a snapshot or of a journal.
	RestoreStats = dtlsserver.RestoreStats
	// Journal is where a listener notes its sessions, for the case of a crash.
	Journal = dtlsserver.Journal
	// AfterCrash says what becomes of the sessions of a server that has crashed.
	AfterCrash = dtlsserver.AfterCrash
	// Key seals snapshots and journals.
	Key = keyring.Key
	// Histogram counts times, in Stats.
	Histogram = dtlsserver.Histogram
	// Kind says what a word of Stats.Counts and of Listener.Refusals is said of.
	Kind = dtlsserver.Kind
	// Count is how often something has happened, in Stats.Counts.
	Count = dtlsserver.Count
	// Refusal says why a client was refused.
	Refusal = dtlsserver.Refusal
	// HandshakeNetwork says how many handshakes of a network are in progress.
	HandshakeNetwork = dtlsserver.HandshakeNetwork
)

// DefaultIdentityKey is the Config.IdentityKey of a Config without one.
func DefaultIdentityKey(who Identity) string { return dtlsserver.DefaultIdentityKey(who) }

// The kinds.
const (
	HandshakeResult = dtlsserver.HandshakeResult
	SessionEnd      = dtlsserver.SessionEnd
	HelloRefusal    = dtlsserver.HelloRefusal
	RecordDrop      = dtlsserver.RecordDrop
)

// The values of Config's fields where they are zero.
const (
	DefaultSessions          = dtlsserver.DefaultSessions
	DefaultHandshakes        = dtlsserver.DefaultHandshakes
	DefaultHandshakeTimeout  = dtlsserver.DefaultHandshakeTimeout
	DefaultAuthorizeTimeout  = dtlsserver.DefaultAuthorizeTimeout
	DefaultMinAvailableAfter = dtlsserver.DefaultMinAvailableAfter

	DefaultMaxClientHello      = dtlsserver.DefaultMaxClientHello
	DefaultMaxPSKIdentity      = dtlsserver.DefaultMaxPSKIdentity
	DefaultMaxCertificateChain = dtlsserver.DefaultMaxCertificateChain
	DefaultMaxCertificates     = dtlsserver.DefaultMaxCertificates

	DefaultWorkers         = dtlsserver.DefaultWorkers
	DefaultAcceptQueue     = dtlsserver.DefaultAcceptQueue
	DefaultQueueDatagrams  = dtlsserver.DefaultQueueDatagrams
	DefaultQueueBytes      = dtlsserver.DefaultQueueBytes
	DefaultQueueTotal      = dtlsserver.DefaultQueueTotal
	DefaultJournalInterval = dtlsserver.DefaultJournalInterval
	DefaultJournalRate     = dtlsserver.DefaultJournalRate
)

// The policies.
const (
	EvictLeastRecentlyUsed = dtlsserver.EvictLeastRecentlyUsed
	RefuseNewcomer         = dtlsserver.RefuseNewcomer
)

// What becomes of the sessions of a server that has crashed.
const (
	CloseSessions    = dtlsserver.CloseSessions
	ContinueSessions = dtlsserver.ContinueSessions
)

// The reasons.
const (
	ClosedByUs   = dtlsserver.ClosedByUs
	ClosedByPeer = dtlsserver.ClosedByPeer
	Evicted      = dtlsserver.Evicted
	Expired      = dtlsserver.Expired
	Replaced     = dtlsserver.Replaced
	Refused      = dtlsserver.Refused
	Exhausted    = dtlsserver.Exhausted
	Detached     = dtlsserver.Detached
	Interrupted  = dtlsserver.Interrupted

	IdentityReplaced = dtlsserver.IdentityReplaced
	IdentityRefused  = dtlsserver.IdentityRefused
	Withdrawn        = dtlsserver.Withdrawn
)

// The errors of Conn and Listener, and of WrappedConn.
var (
	ErrServing    = dtlsserver.ErrServing
	ErrEvicted    = dtlsserver.ErrEvicted
	ErrExpired    = dtlsserver.ErrExpired
	ErrReplaced   = dtlsserver.ErrReplaced
	ErrPeerClosed = dtlsserver.ErrPeerClosed
	ErrExhausted  = dtlsserver.ErrExhausted
	ErrDetached   = dtlsserver.ErrDetached

	ErrIdentityReplaced = dtlsserver.ErrIdentityReplaced
	ErrIdentityFull     = dtlsserver.ErrIdentityFull
	ErrWithdrawn        = dtlsserver.ErrWithdrawn

	// The errors of Listener.Attach, Restore and RestoreFile.
	ErrStateUsed    = dtlsserver.ErrStateUsed
	ErrStateExpired = dtlsserver.ErrStateExpired
	ErrStatePolicy  = dtlsserver.ErrStatePolicy
	ErrStateKey     = dtlsserver.ErrStateKey
	ErrStateRefused = dtlsserver.ErrStateRefused
	ErrStateDenied  = dtlsserver.ErrStateDenied
	ErrStatePresent = dtlsserver.ErrStatePresent
	ErrStateNoRoom  = dtlsserver.ErrStateNoRoom

	ErrStateIdentityFull = dtlsserver.ErrStateIdentityFull

	ErrClaimed = dtlsserver.ErrClaimed
	ErrReading = dtlsserver.ErrReading

	// ErrUnknownPSKIdentity is for Config.PSK to return.
	ErrUnknownPSKIdentity = dtlsserver.ErrUnknownPSKIdentity
)

// SPDX-License-Identifier: MIT

package resume

import (
	"time"

	"github.com/go-dsm/dsm/internal/logtext"
)

// Stats are the counts of a Store at one moment. The totals never decrease. Each call is
// counted when it returns: once in Gets, Puts, Deletes, Revocations or IdentityChecks, and
// once by its outcome. So
//
//	Gets + Puts + Deletes + Revocations + IdentityChecks = Hits + Misses + Expired + Garbage +
//		Stored + Invalid + Deleted + Absent + Contended + Revoked + RevokedSessions +
//		UnrevokedSessions + WrongIDs + Failures + TimedOut + Canceled + Refused
//
// Hits are the Gets that returned a session.
type Stats struct {
	Lookups int // calls of the Backend in flight for Get and IdentityRevoked, including abandoned ones
	Writes  int // calls of the Backend in flight for Put, Delete and RevokeIdentity, including abandoned ones
	Sources int // networks with lookups in flight

	Gets, Puts, Deletes uint64 // Deletes includes the calls of Revoke
	Revocations         uint64 // calls of RevokeIdentity
	IdentityChecks      uint64 // calls of IdentityRevoked

	// Outcomes of Get.
	Hits    uint64
	Misses  uint64 // there was no entry, its session was revoked, or the id is reserved for RevokeIdentity
	Expired uint64 // the Backend returned an entry whose session has expired

	// Outcomes of Put.
	Stored  uint64
	Invalid uint64 // the session was revoked, has expired, or cannot be encoded, or the id is reserved for RevokeIdentity

	// Outcomes of Delete.
	Deleted   uint64
	Absent    uint64 // there was no entry, or it does not belong to the session
	Contended uint64 // the entry was replaced during each attempt

	// Outcome of RevokeIdentity.
	Revoked uint64 // the revocation was stored

	// Outcomes of IdentityRevoked. It reports true for all others below, too.
	RevokedSessions   uint64 // the session was created before the revocation of its identity
	UnrevokedSessions uint64 // there was no revocation, or the session was created later

	// Outcomes of several calls.
	Garbage  uint64 // Get, Delete and IdentityRevoked: the entry cannot be decoded
	WrongIDs uint64 // Get, Put and Delete: the id is not 32 bytes long
	Failures uint64 // the Backend returned an error
	TimedOut uint64 // the Backend took LookupTimeout, or returned a timeout error of its own
	Canceled uint64 // the caller's context ended first
	Refused  uint64 // too many calls were in flight
}

// Stats returns the counts.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	stats := s.stats
	stats.Sources = len(s.lookupsBySource)
	s.mu.Unlock()
	return stats
}

// count increments the counters of a call and of its outcome, which are fields of
// s.stats. It logs a warning if the outcome is the fault of the Backend and the last
// warning is at least warnInterval ago.
func (s *Store) count(call, outcome *uint64, err error) {
	c := &s.stats
	backendFault := outcome == &c.Failures || outcome == &c.TimedOut || outcome == &c.Garbage
	var failures, timedOut, garbage uint64

	s.mu.Lock()
	*call++
	*outcome++
	warn := backendFault && (s.lastWarn.IsZero() || time.Since(s.lastWarn) >= warnInterval)
	if warn {
		last := &s.lastWarnStats
		failures, timedOut, garbage = c.Failures-last.Failures, c.TimedOut-last.TimedOut, c.Garbage-last.Garbage
		s.lastWarnStats, s.lastWarn = *c, time.Now()
	}
	s.mu.Unlock()

	if warn {
		s.config.Logger.Warn("resumption is impaired", "failures", failures, "timeouts", timedOut, "garbage", garbage, "error", logtext.Error(err))
	}
}

// SPDX-License-Identifier: MIT

package redisstore

import "github.com/sony/gobreaker/v2"

// Stats are the counts of a Backend since New. The first six count the reads that the
// server replied to, each read once. Get reads once; Delete reads before each removal.
type Stats struct {
	Opened       uint64 // there was an entry, and it was opened
	Absent       uint64 // there was no entry, or it has expired
	Truncated    uint64 // the value is shorter than that of an empty entry
	OtherVersion uint64 // the value has another version of the format
	UnknownKey   uint64 // the value was sealed with a key that is not in Config.Keys
	Forged       uint64 // the value was modified, cut, or copied from another name

	Failures uint64 // calls without a reply, or with an error reply
	Refused  uint64 // calls that failed at once, because the circuit breaker was open
	Down     bool   // whether the circuit breaker is open or lets one call through now
}

// Stats returns the counts.
func (b *Backend) Stats() Stats {
	return Stats{
		Opened:       b.reads[opened].Load(),
		Absent:       b.absent.Load(),
		Truncated:    b.reads[truncated].Load(),
		OtherVersion: b.reads[otherVersion].Load(),
		UnknownKey:   b.reads[unknownKey].Load(),
		Forged:       b.reads[forged].Load(),
		Failures:     b.failures.Load(),
		Refused:      b.refused.Load(),
		Down:         b.breaker.State() != gobreaker.StateClosed,
	}
}

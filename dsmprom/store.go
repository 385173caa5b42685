// SPDX-License-Identifier: MIT

package dsmprom

import (
	"iter"

	"github.com/go-dsm/dsm/dsmprom/internal/collect"
	"github.com/go-dsm/dsm/resume"
	"github.com/prometheus/client_golang/prometheus"
)

// NewStoreCollector returns the metrics of the sessions that are kept for resumption. s is a
// *resume.Store. A store that several listeners share is registered once.
//
// In each scrape the sum of dsm_resume_calls_total is the sum of dsm_resume_outcomes_total.
func NewStoreCollector(s interface{ Stats() resume.Stats }) prometheus.Collector {
	type stats = resume.Stats
	return collect.New(s.Stats,
		collect.Gauge("dsm_resume_lookups_in_progress", "Lookups of sessions in progress, abandoned ones included.", func(s *stats) float64 { return float64(s.Lookups) }),
		collect.Gauge("dsm_resume_writes_in_progress", "Writes and removals of sessions in progress, abandoned ones included.", func(s *stats) float64 { return float64(s.Writes) }),
		collect.Gauge("dsm_resume_lookup_networks", "Client networks with lookups in progress.", func(s *stats) float64 { return float64(s.Sources) }),
		collect.Counters("dsm_resume_calls_total", "Calls of the store, by kind.", "call", func(s *stats) iter.Seq2[string, uint64] {
			return collect.Each(collect.Value{Word: "get", N: s.Gets}, collect.Value{Word: "put", N: s.Puts}, collect.Value{Word: "delete", N: s.Deletes},
				collect.Value{Word: "identity_revocation", N: s.Revocations}, collect.Value{Word: "identity_check", N: s.IdentityChecks})
		}),
		collect.Counters("dsm_resume_outcomes_total", "Calls of the store, by outcome. The backend is at fault for failure, timed_out and garbage.", "outcome", func(s *stats) iter.Seq2[string, uint64] {
			return collect.Each(
				collect.Value{Word: "hit", N: s.Hits}, collect.Value{Word: "miss", N: s.Misses}, collect.Value{Word: "expired", N: s.Expired},
				collect.Value{Word: "stored", N: s.Stored}, collect.Value{Word: "invalid", N: s.Invalid},
				collect.Value{Word: "deleted", N: s.Deleted}, collect.Value{Word: "absent", N: s.Absent}, collect.Value{Word: "contended", N: s.Contended},
				collect.Value{Word: "garbage", N: s.Garbage}, collect.Value{Word: "wrong_id", N: s.WrongIDs}, collect.Value{Word: "failure", N: s.Failures},
				collect.Value{Word: "timed_out", N: s.TimedOut}, collect.Value{Word: "canceled", N: s.Canceled}, collect.Value{Word: "refused", N: s.Refused},
				collect.Value{Word: "revoked", N: s.Revoked}, collect.Value{Word: "revoked_session", N: s.RevokedSessions},
				collect.Value{Word: "unrevoked_session", N: s.UnrevokedSessions},
			)
		}),
	)
}

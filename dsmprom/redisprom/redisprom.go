// SPDX-License-Identifier: MIT

// Package redisprom has the metrics of a redisstore.Backend. It is a package of its own, so
// that a server without Redis does not link a client of it.
package redisprom

import (
	"iter"

	"github.com/go-dsm/dsm/dsmprom/internal/collect"
	"github.com/go-dsm/dsm/redisstore"
	"github.com/prometheus/client_golang/prometheus"
)

// NewCollector returns the metrics of a Backend. b is a *redisstore.Backend.
func NewCollector(b interface{ Stats() redisstore.Stats }) prometheus.Collector {
	type stats = redisstore.Stats
	return collect.New(b.Stats,
		collect.Counters("dsm_redis_reads_total", "Reads that Redis replied to, by what was found. Entries of other_version, unknown_key and forged cannot be opened: see the keys of all servers.", "result",
			func(s *stats) iter.Seq2[string, uint64] {
				return collect.Each(
					collect.Value{Word: "opened", N: s.Opened}, collect.Value{Word: "absent", N: s.Absent}, collect.Value{Word: "truncated", N: s.Truncated},
					collect.Value{Word: "other_version", N: s.OtherVersion}, collect.Value{Word: "unknown_key", N: s.UnknownKey}, collect.Value{Word: "forged", N: s.Forged},
				)
			}),
		collect.Counter("dsm_redis_failures_total", "Calls of Redis without a reply, or with an error reply.", func(s *stats) uint64 { return s.Failures }),
		collect.Counter("dsm_redis_refused_calls_total", "Calls that failed at once, because the circuit breaker was open.", func(s *stats) uint64 { return s.Refused }),
		collect.Gauge("dsm_redis_down", "1 while the circuit breaker is not closed: Redis does not reply, and clients do full handshakes.", func(s *stats) float64 {
			if s.Down {
				return 1
			}
			return 0
		}),
	)
}

// SPDX-License-Identifier: MIT

package dsmprom

import (
	"iter"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/dsmprom/internal/collect"
	"github.com/prometheus/client_golang/prometheus"
)

// NewTableCollector returns the metrics of a table. t is a *dsm.Table, such as
// Config.Table of a listener. If several listeners share one it is registered once.
//
// In each scrape dsm_table_sessions_stored_total is the sum of dsm_table_sessions,
// dsm_table_sessions_removed_total and dsm_table_sessions_evicted_total.
func NewTableCollector(t interface {
	Stats() dsm.Stats
	MaxSlots() int
}) prometheus.Collector {
	return collect.New(t.Stats,
		collect.Gauge("dsm_table_slots", "Slots of the table, for sessions and handshakes of all its listeners.", func(*dsm.Stats) float64 { return float64(t.MaxSlots()) }),
		collect.Gauges("dsm_table_sessions", "Slots that are taken, by the state of the session.", "state", func(s *dsm.Stats) iter.Seq2[string, uint64] {
			return collect.Each(collect.Value{Word: "established", N: uint64(s.Established)}, collect.Value{Word: "handshake", N: uint64(s.Handshakes)})
		}),
		collect.Counter("dsm_table_uses_total", "Uses of sessions.", func(s *dsm.Stats) uint64 { return s.Uses }),
		collect.Counter("dsm_table_sessions_stored_total", "Sessions that took a slot.", func(s *dsm.Stats) uint64 { return s.Stored }),
		collect.Counter("dsm_table_no_space_total", "Times when a new session found no free slot.", func(s *dsm.Stats) uint64 { return s.NoSpace }),
		collect.Counter("dsm_table_sessions_removed_total", "Sessions that were removed.", func(s *dsm.Stats) uint64 { return s.Removed }),
		collect.Counter("dsm_table_sessions_evicted_total", "Sessions that the table has evicted. A listener chooses its victims itself: see dsm_sessions_ended_total.", func(s *dsm.Stats) uint64 { return s.Evicted }),
	)
}

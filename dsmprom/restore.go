// SPDX-License-Identifier: MIT

package dsmprom

import (
	"iter"

	"github.com/go-dsm/dsm/dsmprom/internal/collect"
	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/prometheus/client_golang/prometheus"
)

// NewRestoreCollector returns a metric that says what became of the sessions of an earlier
// listener: from Listener.Recovered, or what Listener.Restore or RestoreFile has returned. Its
// values never change. The outcomes are disjoint.
func NewRestoreCollector(stats dtlsserver.RestoreStats) prometheus.Collector {
	return collect.New(func() dtlsserver.RestoreStats { return stats },
		collect.Gauge("dsm_restore_sessions_found", "Sessions in the snapshot or the journal that the server began with.", func(s *dtlsserver.RestoreStats) float64 { return float64(s.Sessions) }),
		collect.Gauges("dsm_restore_sessions", "Sessions of the snapshot or the journal, by what became of them. Peers of those that were not restored have to make a handshake.", "outcome",
			func(s *dtlsserver.RestoreStats) iter.Seq2[string, uint64] {
				return collect.Each(
					collect.Value{Word: "restored", N: uint64(s.Restored)}, collect.Value{Word: "expired", N: uint64(s.Expired)},
					collect.Value{Word: "policy", N: uint64(s.Policy)}, collect.Value{Word: "key", N: uint64(s.Key)},
					collect.Value{Word: "refused", N: uint64(s.Refused)}, collect.Value{Word: "present", N: uint64(s.Present)},
					collect.Value{Word: "no_room", N: uint64(s.NoRoom)}, collect.Value{Word: "identity_full", N: uint64(s.IdentityFull)},
					collect.Value{Word: "denied", N: uint64(s.Denied)},
				)
			}),
	)
}

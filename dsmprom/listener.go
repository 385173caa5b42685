// SPDX-License-Identifier: MIT

package dsmprom

import (
	"iter"

	"github.com/go-dsm/dsm/dsmprom/internal/collect"
	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/prometheus/client_golang/prometheus"
)

// NewListenerCollector returns the metrics of a listener. l is a *dtlsserver.Listener, which
// pionv2.Listen and pionv4.Listen return.
//
// All values of a scrape are of the same moment, so these sums hold in each:
//
//	dsm_handshakes_started_total = dsm_handshakes_in_progress + sum(dsm_handshakes_total)
//	dsm_handshakes_total{result="completed"} + dsm_sessions_restored_total =
//		dsm_sessions + sum(dsm_sessions_ended_total)
//
// The histograms count a moment later than the counters that they belong to.
func NewListenerCollector(l interface{ Stats() dtlsserver.Stats }) prometheus.Collector {
	type stats = dtlsserver.Stats
	return collect.New(l.Stats,
		collect.Gauge("dsm_sessions", "Established sessions.", func(s *stats) float64 { return float64(s.Established) }),
		collect.Gauge("dsm_session_slots", "Limit of established sessions. At the limit a newcomer takes the place of the least recently used session, or is refused.", func(s *stats) float64 { return float64(s.MaxEstablished) }),
		collect.Gauge("dsm_handshakes_in_progress", "Handshakes in progress.", func(s *stats) float64 { return float64(s.HalfOpen) }),
		collect.Gauge("dsm_handshake_slots", "Limit of handshakes in progress. At the limit newcomers wait.", func(s *stats) float64 { return float64(s.MaxHalfOpen) }),
		collect.Gauge("dsm_hellos_waiting", "First ClientHellos that wait for room for a handshake.", func(s *stats) float64 { return float64(s.Backlog) }),

		collect.Counter("dsm_handshakes_started_total", "Handshakes that have begun.", func(s *stats) uint64 { return s.Started }),
		collect.Counters("dsm_handshakes_total", "Handshakes that have ended, by result. Strangers that send only a ClientHello end as displaced or timed_out.", "result", countsOf(dtlsserver.HandshakeResult)),
		collect.Counter("dsm_sessions_resumed_total", "Handshakes that were completed by resumption, without certificates and key exchange.", func(s *stats) uint64 { return s.Resumed }),
		collect.Counter("dsm_sessions_not_resumed_total", "ClientHellos that named a known session and got a full handshake, because policy, cipher suite, key or certificates have changed.", func(s *stats) uint64 { return s.NotResumed }),
		collect.Counter("dsm_sessions_restored_total", "Sessions taken over from another process: attached, or from a snapshot or the journal.", func(s *stats) uint64 { return s.Restored }),
		collect.Counters("dsm_sessions_ended_total", "Sessions that have ended, by reason.", "reason", countsOf(dtlsserver.SessionEnd)),

		collect.Counters("dsm_hellos_refused_total", "First ClientHellos that began no handshake when they came, by cause. Those of no_room and source_share wait for room.", "cause", countsOf(dtlsserver.HelloRefusal)),
		collect.Counter("dsm_hello_verify_requests_total", "First ClientHellos answered with a cookie and without any memory: with pion v4.", func(s *stats) uint64 { return s.HelloVerifyRequests }),
		collect.Counter("dsm_foreign_cookies_total", "Cookies that clients have returned for a ClientHello that a stranger sent in their name.", func(s *stats) uint64 { return s.ForeignCookies }),
		collect.Counter("dsm_clients_told_to_restart_total", "Clients told by an alert to begin their handshake anew, because the server does not know it.", func(s *stats) uint64 { return s.ToldToRestart }),
		collect.Counters("dsm_records_dropped_total", "Records and datagrams that were dropped, by cause.", "cause", countsOf(dtlsserver.RecordDrop)),

		collect.Counter("dsm_address_changes_total", "Moves of a session with a connection ID to a new address of its peer.", func(s *stats) uint64 { return s.AddressChanges }),
		collect.Counter("dsm_address_changes_refused_total", "Moves of a session that were refused: another peer had the address, or the configuration forbids it.", func(s *stats) uint64 { return s.AddressChangesRefused }),
		collect.Counter("dsm_address_limited_datagrams_total", "Datagrams sent to a peer's last verified address, because the new one may get no more yet.", func(s *stats) uint64 { return s.AddressLimited }),
		collect.Counter("dsm_routability_checks_total", "Path challenges sent to new addresses of peers (RFC 9853).", func(s *stats) uint64 { return s.RoutabilityChecks }),

		collect.Counter("dsm_journal_written_bytes_total", "Bytes of the sessions' entries in the journal.", func(s *stats) uint64 { return s.JournalBytes }),
		collect.Counter("dsm_journal_errors_total", "Times when the journal's disk had an error or was too slow. A crash would then lose sessions.", func(s *stats) uint64 { return s.JournalErrors }),

		histogram("dsm_client_round_trip_seconds", "Time from a client's first ClientHello until the client has shown that it receives at its address, waiting included.", func(s *stats) *dtlsserver.Histogram { return &s.RoundTrips }),
		histogram("dsm_handshake_duration_seconds", "Time from a client's first ClientHello to the established session.", func(s *stats) *dtlsserver.Histogram { return &s.HandshakeTimes }),
		histogram("dsm_session_age_seconds", "Age of sessions at their end.", func(s *stats) *dtlsserver.Histogram { return &s.SessionAges }),
		histogram("dsm_session_idle_seconds", "Time since the last use of sessions at their end. Short times with evictions mean too few slots.", func(s *stats) *dtlsserver.Histogram { return &s.SessionIdles }),
	)
}

// countsOf returns the counts of a kind, by their words.
func countsOf(kind dtlsserver.Kind) func(*dtlsserver.Stats) iter.Seq2[string, uint64] {
	return func(s *dtlsserver.Stats) iter.Seq2[string, uint64] {
		return func(yield func(string, uint64) bool) {
			for c := range s.Counts() {
				if c.Kind == kind && !yield(c.Word, c.N) {
					return
				}
			}
		}
	}
}

// histogram is a metric for a Histogram, in seconds.
func histogram(name, help string, value func(*dtlsserver.Stats) *dtlsserver.Histogram) collect.Metric[dtlsserver.Stats] {
	return collect.Histogram(name, help, func(s *dtlsserver.Stats) (count uint64, sum float64, buckets map[float64]uint64) {
		h := value(s)
		buckets = map[float64]uint64{}
		for i, bound := range h.Bounds() {
			count += h.Counts[i]
			buckets[bound.Seconds()] = count
		}
		return count + h.Counts[len(buckets)], h.Sum.Seconds(), buckets
	})
}

// SPDX-License-Identifier: MIT

package dsmprom_test

import (
	"io"
	"net/http"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/dsmprom"
	"github.com/go-dsm/dsm/dsmprom/redisprom"
	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/redisstore"
	"github.com/go-dsm/dsm/resume"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// testEveryField sets each field of a Stats to another number, and finds each once in a
// scrape, which has no other number.
func testEveryField[S any](t *testing.T, further map[float64]string, collector func(S) prometheus.Collector) {
	var stats S
	places := map[float64]string{1: ""} // kept for a flag
	fill(t, reflect.ValueOf(&stats).Elem(), reflect.TypeFor[S]().String(), places)
	if places[1] == "" {
		delete(places, 1)
	}
	for n, place := range further {
		places[n] = place
	}
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(collector(stats)))
	for name, family := range gather(t, registry) {
		for _, n := range numbers(family) {
			assert.Contains(t, places, n, "%s has a number that is in no field, or twice", name)
			delete(places, n)
		}
	}
	assert.Empty(t, places, "fields that no metric has")
}

func TestEveryFieldIsInAMetric(t *testing.T) {
	t.Parallel()
	t.Run("Listener", func(t *testing.T) {
		testEveryField(t, nil, func(s dtlsserver.Stats) prometheus.Collector {
			return dsmprom.NewListenerCollector(source[dtlsserver.Stats]{s})
		})
	})
	t.Run("Restore", func(t *testing.T) { testEveryField(t, nil, dsmprom.NewRestoreCollector) })
	t.Run("Table", func(t *testing.T) {
		testEveryField(t, map[float64]string{tableSlots: "MaxSlots"}, func(s dsm.Stats) prometheus.Collector {
			return dsmprom.NewTableCollector(source[dsm.Stats]{s})
		})
	})
	t.Run("Store", func(t *testing.T) {
		testEveryField(t, nil, func(s resume.Stats) prometheus.Collector {
			return dsmprom.NewStoreCollector(source[resume.Stats]{s})
		})
	})
	t.Run("Redis", func(t *testing.T) {
		testEveryField(t, nil, func(s redisstore.Stats) prometheus.Collector {
			return redisprom.NewCollector(source[redisstore.Stats]{s})
		})
	})
}

// TestWordsOfStatsAreLabels: each word of Stats.Counts is a label's value, with its count.
func TestWordsOfStatsAreLabels(t *testing.T) {
	t.Parallel()
	stats := dtlsserver.Stats{TimedOut: 1, ClosedByPeer: 2, NoRoom: 3, Stray: 4}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(dsmprom.NewListenerCollector(source[dtlsserver.Stats]{stats}))
	families := gather(t, registry)
	got := map[dtlsserver.Count]bool{}
	for kind, of := range map[dtlsserver.Kind]struct{ metric, label string }{
		dtlsserver.HandshakeResult: {"dsm_handshakes_total", "result"},
		dtlsserver.SessionEnd:      {"dsm_sessions_ended_total", "reason"},
		dtlsserver.HelloRefusal:    {"dsm_hellos_refused_total", "cause"},
		dtlsserver.RecordDrop:      {"dsm_records_dropped_total", "cause"},
	} {
		for _, m := range families[of.metric].GetMetric() {
			require.Len(t, m.GetLabel(), 1)
			assert.Equal(t, of.label, m.GetLabel()[0].GetName())
			got[dtlsserver.Count{Kind: kind, Word: m.GetLabel()[0].GetValue(), N: uint64(m.GetCounter().GetValue())}] = true
		}
	}
	want := map[dtlsserver.Count]bool{}
	for c := range stats.Counts() {
		want[c] = true
	}
	assert.Equal(t, want, got)
}

// TestHistogramsAreCumulative: a bucket of Prometheus has what the smaller ones have, too.
func TestHistogramsAreCumulative(t *testing.T) {
	t.Parallel()
	var stats dtlsserver.Stats
	stats.HandshakeTimes.Counts = [10]uint64{5, 0, 0, 0, 2, 0, 0, 0, 0, 1}
	stats.HandshakeTimes.Sum = 90 * time.Second
	assert.NoError(t, testutil.CollectAndCompare(dsmprom.NewListenerCollector(source[dtlsserver.Stats]{stats}), strings.NewReader(`
# HELP dsm_handshake_duration_seconds Time from a client's first ClientHello to the established session.
# TYPE dsm_handshake_duration_seconds histogram
dsm_handshake_duration_seconds_bucket{le="0.05"} 5
dsm_handshake_duration_seconds_bucket{le="0.1"} 5
dsm_handshake_duration_seconds_bucket{le="0.25"} 5
dsm_handshake_duration_seconds_bucket{le="0.5"} 5
dsm_handshake_duration_seconds_bucket{le="1"} 7
dsm_handshake_duration_seconds_bucket{le="2.5"} 7
dsm_handshake_duration_seconds_bucket{le="5"} 7
dsm_handshake_duration_seconds_bucket{le="10"} 7
dsm_handshake_duration_seconds_bucket{le="25"} 7
dsm_handshake_duration_seconds_bucket{le="+Inf"} 8
dsm_handshake_duration_seconds_sum 90
dsm_handshake_duration_seconds_count 8
`), "dsm_handshake_duration_seconds"))
}

// counted counts the calls of Stats.
type counted struct{ calls *int }

func (c counted) Stats() dtlsserver.Stats { *c.calls++; return dtlsserver.Stats{} }

func TestScrapeCallsStatsOnce(t *testing.T) {
	t.Parallel()
	calls := 0
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(dsmprom.NewListenerCollector(counted{&calls}))
	assert.Zero(t, calls, "registration counts nothing")
	gather(t, registry)
	gather(t, registry)
	assert.Equal(t, 2, calls)
}

func TestSeveralListenersHaveALabel(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewPedanticRegistry()
	for i, name := range []string{"coap", "syslog"} {
		collector := dsmprom.NewListenerCollector(source[dtlsserver.Stats]{dtlsserver.Stats{Established: i + 1}})
		require.NoError(t, prometheus.WrapRegistererWith(prometheus.Labels{"listener": name}, registry).Register(collector))
	}
	assert.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP dsm_sessions Established sessions.
# TYPE dsm_sessions gauge
dsm_sessions{listener="coap"} 1
dsm_sessions{listener="syslog"} 2
`), "dsm_sessions"))

	registry = prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(dsmprom.NewListenerCollector(source[dtlsserver.Stats]{})))
	var already prometheus.AlreadyRegisteredError
	assert.ErrorAs(t, registry.Register(dsmprom.NewListenerCollector(source[dtlsserver.Stats]{})), &already, "without a label")
}

func TestMetricsFollowTheConventions(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewPedanticRegistry()
	everything(registry)
	problems, err := testutil.GatherAndLint(registry)
	require.NoError(t, err)
	assert.Empty(t, problems)
	for name, family := range gather(t, registry) {
		assert.True(t, strings.HasPrefix(name, "dsm_"), name)
		assert.True(t, strings.HasSuffix(family.GetHelp(), "."), "the help of %s is a sentence", name)
	}
}

func TestPromtoolAcceptsScrape(t *testing.T) {
	t.Parallel()
	promtool := dtlstest.NeedCommand(t, "promtool")
	registry := prometheus.NewPedanticRegistry()
	everything(registry)
	response, err := http.Get(serve(t, registry))
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Contains(t, string(text), "dsm_redis_down 0")
	check := exec.CommandContext(t.Context(), promtool, "check", "metrics")
	check.Stdin = strings.NewReader(string(text))
	out, err := check.CombinedOutput()
	assert.NoError(t, err)
	assert.Empty(t, string(out))
}

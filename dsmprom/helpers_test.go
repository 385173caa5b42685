// SPDX-License-Identifier: MIT

package dsmprom_test

import (
	"net/http/httptest"
	"reflect"
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
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { dtlstest.Main(m) }

// source has the Stats that it was made with.
type source[S any] struct{ stats S }

func (s source[S]) Stats() S      { return s.stats }
func (s source[S]) MaxSlots() int { return tableSlots }

const tableSlots = 77

// everything registers all collectors, with the same Stats in each of a kind.
func everything(r prometheus.Registerer) {
	r.MustRegister(
		dsmprom.NewListenerCollector(source[dtlsserver.Stats]{}),
		dsmprom.NewTableCollector(source[dsm.Stats]{}),
		dsmprom.NewStoreCollector(source[resume.Stats]{}),
		dsmprom.NewRestoreCollector(dtlsserver.RestoreStats{}),
		redisprom.NewCollector(source[redisstore.Stats]{}),
	)
}

// gather returns the families of a registry by their names.
func gather(t testing.TB, g prometheus.Gatherer) map[string]*dto.MetricFamily {
	t.Helper()
	families, err := g.Gather()
	require.NoError(t, err)
	byName := map[string]*dto.MetricFamily{}
	for _, f := range families {
		byName[f.GetName()] = f
	}
	return byName
}

// serve serves a registry over HTTP, and returns its URL.
func serve(t testing.TB, g prometheus.Gatherer) string {
	server := httptest.NewServer(promhttp.HandlerFor(g, promhttp.HandlerOpts{ErrorHandling: promhttp.HTTPErrorOnError}))
	t.Cleanup(server.Close)
	return server.URL
}

// fill gives each number in v a value of its own, and returns where each is. Durations are
// whole seconds. A flag counts as a number, and only one can be.
func fill(t testing.TB, v reflect.Value, path string, places map[float64]string) {
	next := len(places) + 1
	switch {
	case v.Type() == reflect.TypeFor[time.Duration]():
		v.SetInt(int64(next) * int64(time.Second))
	case v.CanInt():
		v.SetInt(int64(next))
	case v.CanUint():
		v.SetUint(uint64(next))
	case v.Kind() == reflect.Bool:
		v.SetBool(true)
		require.Empty(t, places[1], "a second flag")
		next = 1
	case v.Kind() == reflect.Array:
		for i := range v.Len() {
			fill(t, v.Index(i), path, places)
		}
		return
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			if field := v.Type().Field(i); field.IsExported() {
				fill(t, v.Field(i), path+"."+field.Name, places)
			}
		}
		return
	default:
		require.FailNow(t, "no number", "%s is a %v", path, v.Kind())
	}
	places[float64(next)] = path
}

// numbers returns the numbers in a family: values, and of a histogram its sum and what each
// bucket has that the smaller ones have not.
func numbers(f *dto.MetricFamily) []float64 {
	var all []float64
	for _, m := range f.GetMetric() {
		switch {
		case m.Counter != nil:
			all = append(all, m.Counter.GetValue())
		case m.Gauge != nil:
			all = append(all, m.Gauge.GetValue())
		case m.Histogram != nil:
			below := uint64(0)
			for _, b := range m.Histogram.GetBucket() {
				all = append(all, float64(b.GetCumulativeCount()-below))
				below = b.GetCumulativeCount()
			}
			all = append(all, float64(m.Histogram.GetSampleCount()-below), m.Histogram.GetSampleSum())
		}
	}
	return all
}

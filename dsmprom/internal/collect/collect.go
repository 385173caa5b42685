// SPDX-License-Identifier: MIT

// Package collect makes a prometheus.Collector from a function that returns a struct of
// counts.
package collect

import (
	"iter"

	"github.com/prometheus/client_golang/prometheus"
)

// Metric is one metric of a Stats struct S.
type Metric[S any] struct {
	desc    *prometheus.Desc
	collect func(desc *prometheus.Desc, stats *S, to chan<- prometheus.Metric)
}

// Gauge is a metric that can go down.
func Gauge[S any](name, help string, value func(*S) float64) Metric[S] {
	return single(name, help, prometheus.GaugeValue, value)
}

// Counter is a metric that only grows.
func Counter[S any](name, help string, value func(*S) uint64) Metric[S] {
	return single(name, help, prometheus.CounterValue, func(s *S) float64 { return float64(value(s)) })
}

func single[S any](name, help string, kind prometheus.ValueType, value func(*S) float64) Metric[S] {
	return Metric[S]{prometheus.NewDesc(name, help, nil, nil), func(desc *prometheus.Desc, s *S, to chan<- prometheus.Metric) {
		to <- prometheus.MustNewConstMetric(desc, kind, value(s))
	}}
}

// Counters is a counter for each value of a label.
func Counters[S any](name, help, label string, values func(*S) iter.Seq2[string, uint64]) Metric[S] {
	return labelled(name, help, label, prometheus.CounterValue, values)
}

// Gauges is a gauge for each value of a label.
func Gauges[S any](name, help, label string, values func(*S) iter.Seq2[string, uint64]) Metric[S] {
	return labelled(name, help, label, prometheus.GaugeValue, values)
}

func labelled[S any](name, help, label string, kind prometheus.ValueType, values func(*S) iter.Seq2[string, uint64]) Metric[S] {
	return Metric[S]{prometheus.NewDesc(name, help, []string{label}, nil), func(desc *prometheus.Desc, s *S, to chan<- prometheus.Metric) {
		for word, n := range values(s) {
			to <- prometheus.MustNewConstMetric(desc, kind, float64(n), word)
		}
	}}
}

// Value is a value of a label, and what it counts.
type Value struct {
	Word string
	N    uint64
}

// Each returns the values in their order.
func Each(values ...Value) iter.Seq2[string, uint64] {
	return func(yield func(string, uint64) bool) {
		for _, v := range values {
			if !yield(v.Word, v.N) {
				return
			}
		}
	}
}

// Histogram is a metric of the form that prometheus.MustNewConstHistogram takes: buckets has
// how many observations each upper bound has, those of the smaller bounds included.
func Histogram[S any](name, help string, value func(*S) (count uint64, sum float64, buckets map[float64]uint64)) Metric[S] {
	return Metric[S]{prometheus.NewDesc(name, help, nil, nil), func(desc *prometheus.Desc, s *S, to chan<- prometheus.Metric) {
		count, sum, buckets := value(s)
		to <- prometheus.MustNewConstHistogram(desc, count, sum, buckets)
	}}
}

// New returns the Collector of metrics. It calls stats once for each scrape, so the values of a
// scrape are of one moment.
func New[S any](stats func() S, metrics ...Metric[S]) prometheus.Collector {
	return &collector[S]{stats, metrics}
}

type collector[S any] struct {
	stats   func() S
	metrics []Metric[S]
}

// Describe implements prometheus.Collector.
func (c *collector[S]) Describe(to chan<- *prometheus.Desc) {
	for _, m := range c.metrics {
		to <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (c *collector[S]) Collect(to chan<- prometheus.Metric) {
	stats := c.stats()
	for _, m := range c.metrics {
		m.collect(m.desc, &stats, to)
	}
}

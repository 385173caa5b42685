// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"fmt"
	"math"
	"regexp"
	"time"

	"github.com/go-dsm/dsm/internal/dashboard"
	"github.com/prometheus/client_golang/api"
	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	"gonum.org/v1/plot/plotter"
)

// step is the time between two values of a series.
const step = time.Second

// series is a line of a panel. Its parts have the values that follow each other without a gap:
// seconds since the beginning, and numbers.
type series struct {
	name  string
	parts []plotter.XYs
}

// drawing is what is in the picture.
type drawing struct {
	lasts  time.Duration
	phases []phase
	panels []panel
	alerts []series // by name, at the times when they fire
}

type panel struct {
	title, unit string
	series      []series
}

// query asks Prometheus for what the panels show, and for the alerts that fire. A query that has
// never had a value is an error.
func query(ctx context.Context, addr string, panels []dashboard.Panel, begin, end time.Time) (*drawing, error) {
	client, err := api.NewClient(api.Config{Address: "http://" + addr})
	if err != nil {
		return nil, err
	}
	d := &drawing{lasts: end.Sub(begin)}
	prometheus := v1.NewAPI(client)
	ask := func(q dashboard.Query) ([]series, error) {
		value, _, err := prometheus.QueryRange(ctx, q.Expr, v1.Range{Start: begin, End: end, Step: step})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", q.Expr, err)
		}
		var all []series
		for _, stream := range value.(model.Matrix) {
			if s := seriesOf(stream, q.Legend, begin); len(s.parts) > 0 {
				all = append(all, s)
			}
		}
		return all, nil
	}
	for _, p := range panels {
		drawn := panel{title: p.Title, unit: p.Unit}
		for _, q := range p.Queries {
			all, err := ask(q)
			if err != nil {
				return nil, err
			}
			drawn.series = append(drawn.series, all...)
		}
		if len(drawn.series) == 0 {
			return nil, fmt.Errorf("the panel %q is empty", p.Title)
		}
		d.panels = append(d.panels, drawn)
	}
	d.alerts, err = ask(dashboard.Query{Expr: `max by (alertname) (ALERTS{alertstate="firing"})`, Legend: "{{alertname}}"})
	return d, err
}

var placeholder = regexp.MustCompile(`\{\{(\w+)\}\}`)

// seriesOf returns the series of a stream. Values that are no number, such as quotients by zero,
// are gaps.
func seriesOf(stream *model.SampleStream, legend string, begin time.Time) series {
	s := series{name: placeholder.ReplaceAllStringFunc(legend, func(m string) string {
		return string(stream.Metric[model.LabelName(placeholder.FindStringSubmatch(m)[1])])
	})}
	var part plotter.XYs
	cut := func() {
		if len(part) > 0 {
			s.parts = append(s.parts, part)
		}
		part = nil
	}
	for _, v := range stream.Values {
		x, y := v.Timestamp.Time().Sub(begin).Seconds(), float64(v.Value)
		if n := len(part); n > 0 && x-part[n-1].X > 1.5*step.Seconds() {
			cut()
		}
		if math.IsNaN(y) || math.IsInf(y, 0) {
			cut()
			continue
		}
		part = append(part, plotter.XY{X: x, Y: y})
	}
	cut()
	return s
}

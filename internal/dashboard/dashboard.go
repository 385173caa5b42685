// SPDX-License-Identifier: MIT

// Package dashboard reads the panels of a Grafana dashboard, for a test that checks them and a
// program that draws them.
package dashboard

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Panel is a diagram.
type Panel struct {
	Title, Description string
	Unit               string // as Grafana names it: short, s, ops, Bps, percentunit
	Queries            []Query
}

// Query is an expression of Prometheus. Legend says how a series is called: {{label}} stands for
// its value.
type Query struct{ Legend, Expr string }

// Parse returns the panels of a dashboard. Dashboard variables in expressions are replaced:
// variables has their values, by their names with the dollar sign.
func Parse(dashboard []byte, variables map[string]string) ([]Panel, error) {
	var parsed struct {
		Panels []struct {
			Title, Description string
			FieldConfig        struct{ Defaults struct{ Unit string } }
			Targets            []struct{ Expr, LegendFormat string }
		}
	}
	if err := json.Unmarshal(dashboard, &parsed); err != nil {
		return nil, err
	}
	var pairs []string
	for name, value := range variables {
		pairs = append(pairs, name, value)
	}
	replacer := strings.NewReplacer(pairs...)
	var panels []Panel
	for _, p := range parsed.Panels {
		panel := Panel{Title: p.Title, Description: p.Description, Unit: p.FieldConfig.Defaults.Unit}
		for _, target := range p.Targets {
			expr := replacer.Replace(target.Expr)
			if strings.Contains(expr, "$") {
				return nil, fmt.Errorf("panel %q has an unknown variable: %s", p.Title, target.Expr)
			}
			panel.Queries = append(panel.Queries, Query{target.LegendFormat, expr})
		}
		panels = append(panels, panel)
	}
	return panels, nil
}

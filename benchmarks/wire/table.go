// SPDX-License-Identifier: MIT

package main

import (
	"fmt"
	"slices"
	"strings"
)

// table has the figures of all rounds with one number of sessions.
type table struct {
	sessions int
	servers  []string                        // in the order of the rows
	units    []string                        // in the order of the columns
	values   map[string]map[string][]float64 // by server and unit, one per round
}

// add adds the figures of one round of a server.
func (t *table) add(server string, figures []figure) {
	if t.values[server] == nil {
		t.values[server] = map[string][]float64{}
	}
	t.units = t.units[:0]
	for _, f := range figures {
		t.units = append(t.units, f.unit)
		t.values[server][f.unit] = append(t.values[server][f.unit], f.value)
	}
}

// print prints the table as Markdown: medians, with their ranges in parentheses, and
// for the first unit the ratios to the baselines.
func (t *table) print() {
	baselines := t.baselines()
	fmt.Printf("\n%s, %d sessions, %s, medians of %d:\n\n| server |", *what, t.sessions, *suite, *rounds)
	for i, unit := range t.units {
		fmt.Printf(" %s |", unit)
		for _, baseline := range baselines {
			if i == 0 {
				fmt.Printf(" of %s's |", baseline)
			}
		}
	}
	fmt.Print("\n|---|", strings.Repeat("---|", len(t.units)+len(baselines)), "\n")
	for _, server := range t.servers {
		fmt.Printf("| %s |", server)
		for i, unit := range t.units {
			v := t.values[server][unit]
			fmt.Printf(" %.4g (%.4g to %.4g) |", median(v), slices.Min(v), slices.Max(v))
			for _, baseline := range baselines {
				if i == 0 {
					fmt.Printf(" %.2f |", t.ratio(server, baseline, unit))
				}
			}
		}
		fmt.Println()
	}
}

// baselines returns the servers that the others are compared with.
func (t *table) baselines() []string {
	var names []string
	for _, name := range []string{"floor", "floor-answers", "pion", "pion-parallel", "pion-v4", "dsm-full", "dsm-full-v4", "dsm-undisturbed", "dsm-undisturbed-v4", "dsm-serve"} {
		twoOfDSM := staysRunning() || slices.Contains(t.servers, name+v4Suffix)
		if slices.Contains(t.servers, name) && (name != "floor" || *what != "idle") && (name != "dsm-serve" || twoOfDSM) {
			names = append(names, name)
		}
	}
	return names
}

// ratio returns the median of the ratios of all rounds. The state of the machine
// differs less within a round than between rounds.
func (t *table) ratio(server, baseline, unit string) float64 {
	v := t.values[server][unit]
	ratios := make([]float64, len(v))
	for round := range v {
		ratios[round] = v[round] / t.values[baseline][unit][round]
	}
	return median(ratios)
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

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

// print prints the table as Markdown: medians, with their ranges in parentheses, the ratio to the
// counterpart in -base, and for the first unit the ratios to the baselines.
func (t *table) print() {
	baselines := t.baselines()
	fmt.Printf("\n%s, %d sessions, ", *what, t.sessions)
	if *slow != "0" {
		fmt.Printf("%s with handlers that compute for %v each %v, ", *slow, slowFor, slowEvery)
	}
	fmt.Printf("%s, medians of %d:\n\n", *suite, *rounds)
	if *what == "million" {
		t.printFiguresAsRows()
		return
	}
	fmt.Print("| server |")
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
			fmt.Printf(" %s |", t.cell(server, unit))
			for _, baseline := range baselines {
				if i == 0 {
					fmt.Printf(" %.2f |", t.ratio(server, baseline, unit))
				}
			}
		}
		fmt.Println()
	}
}

// printFiguresAsRows prints a table with a row for each figure, without ratios to baselines.
func (t *table) printFiguresAsRows() {
	fmt.Printf("| | %s |\n|---|%s\n", strings.Join(t.servers, " | "), strings.Repeat("---|", len(t.servers)))
	for _, unit := range t.units {
		fmt.Printf("| %s |", unit)
		for _, server := range t.servers {
			fmt.Printf(" %s |", t.cell(server, unit))
		}
		fmt.Println()
	}
}

// cell returns the text of a cell.
func (t *table) cell(server, unit string) string {
	v := t.values[server][unit]
	text := fmt.Sprintf("%.4g (%.4g to %.4g)", median(v), slices.Min(v), slices.Max(v))
	if counterpart := basePrefix + server; slices.Contains(t.servers, counterpart) {
		if ratio := t.ratio(server, counterpart, unit); ratio > 0 { // not NaN
			text += fmt.Sprintf(", %.2f of base's", ratio)
		}
	}
	return text
}

// baselines returns the servers that the others are compared with.
func (t *table) baselines() []string {
	var names []string
	for _, name := range []string{"floor", "floor-c", "floor-answers", "pion", "pion-parallel", "pion-v4", "dsm-full", "dsm-full-v4", "dsm-undisturbed", "dsm-undisturbed-v4", "dsm-serve"} {
		twoOfDSM := staysRunning() || slices.Contains(t.servers, name+v4Suffix)
		if *what != "latency" && slices.Contains(t.servers, name) && (name != "floor" || *what != "idle") && (name != "dsm-serve" || twoOfDSM) {
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

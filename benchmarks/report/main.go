// SPDX-License-Identifier: MIT

// Command report reads results of this module's benchmarks, and prints the medians
// beside the project's targets, as Markdown. With -svg it also draws ns/op over
// the number of slots.
package main

import (
	"errors"
	"flag"
	"fmt"
	"log"
	"maps"
	"os"
	"slices"
	"strings"

	"golang.org/x/perf/benchfmt"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// point is what a benchmark measured: its name's parts, and the unit.
type point struct {
	op, slots, dist, impl, goroutines, unit string
}

// exactPeers keep an exact order of use, as dsm does.
var exactPeers = []string{"maplist", "golang-lru", "freelru", "phuslu", "ttlcache"}

var sizes = []string{"8", "64", "1024", "65536", "1048576"}

func main() {
	log.SetFlags(0)
	svg := flag.String("svg", "", "draw into this `file`")
	flag.Parse()
	if flag.NArg() != 1 {
		log.Fatal("usage: report [-svg file] results")
	}
	medians, err := read(flag.Arg(0))
	if err != nil {
		log.Fatal(err)
	}
	printTargets(medians)
	if *svg != "" {
		if err := drawPlots(*svg, medians); err != nil {
			log.Fatal(err)
		}
	}
}

// read returns the median of every point.
func read(name string) (map[point]float64, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	values := map[point][]float64{}
	reader := benchfmt.NewReader(f, name)
	for reader.Scan() {
		switch r := reader.Result().(type) {
		case *benchfmt.SyntaxError:
			return nil, r
		case *benchfmt.Result:
			var p point
			base, parts := r.Name.Parts()
			if string(base) == "Memory" {
				p.op = "memory"
			}
			for _, part := range parts {
				key, value, _ := strings.Cut(strings.TrimPrefix(string(part), "/"), "=")
				switch key {
				case "op":
					p.op = value
				case "slots":
					p.slots = value
				case "dist":
					p.dist = value
				case "impl":
					p.impl = value
				case "goroutines":
					p.goroutines = value
				}
			}
			for _, v := range r.Values {
				p.unit = v.Unit
				values[p] = append(values[p], v.Value)
			}
		}
	}
	if err := reader.Err(); err != nil {
		return nil, err
	}
	if len(values) == 0 {
		return nil, errors.New("no benchmark results in " + name)
	}
	medians := map[point]float64{}
	for p, v := range values {
		slices.Sort(v)
		medians[p] = (v[(len(v)-1)/2] + v[len(v)/2]) / 2
	}
	return medians, nil
}

func ns(medians map[point]float64, op, slots, dist, impl, goroutines string) (float64, bool) {
	v, ok := medians[point{op, slots, dist, impl, goroutines, "sec/op"}]
	return v * 1e9, ok
}

// fastest is the fastest of the exact peers.
func fastest(medians map[point]float64, op, slots, dist, goroutines string) (best float64, name string) {
	for _, impl := range exactPeers {
		if v, ok := ns(medians, op, slots, dist, impl, goroutines); ok && (name == "" || v < best) {
			best, name = v, impl
		}
	}
	return best, name
}

func printTargets(medians map[point]float64) {
	fmt.Println("| operation | slots | order | goroutines | dsm ns | beside | ns | ratio | target |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|")
	row := func(op, slots, dist, goroutines, beside string, target func(slots string) float64, note string) {
		own, ok := ns(medians, op, slots, dist, "dsm", goroutines)
		if !ok {
			return
		}
		var other float64
		if beside == "" {
			other, beside = fastest(medians, op, slots, dist, goroutines)
		} else {
			other, ok = ns(medians, "floor", slots, dist, beside, goroutines)
		}
		if beside == "" || !ok {
			return
		}
		ratio, limit := own/other, target(slots)
		mark := ""
		if ratio > limit {
			mark = " **missed**"
		}
		fmt.Printf("| %s | %s | %s | %s | %.1f | %s | %.1f | %.2f | %.2f%s%s |\n", op, slots, dist, goroutines, own, beside, other, ratio, limit, note, mark)
	}
	upTo := func(small, large float64) func(string) float64 {
		return func(slots string) float64 {
			if slots == "1048576" {
				return large
			}
			return small
		}
	}
	for _, dist := range []string{"uniform", "zipf"} {
		for _, slots := range sizes {
			row("hit", slots, dist, "1", "", upTo(0.65, 1), "")
		}
		for _, slots := range sizes {
			row("insert-evict", slots, dist, "1", "", upTo(0.8, 0.65), "")
		}
		for _, slots := range sizes {
			row("remove-store", slots, dist, "1", "", upTo(0.65, 0.8), "")
		}
		for _, slots := range sizes {
			row("mixed", slots, dist, "1", "", upTo(1, 1), " (none set)")
		}
		for _, slots := range sizes {
			row("handle", slots, dist, "1", "mutex", upTo(1.3, 100), "")
		}
		for _, slots := range sizes {
			row("lru", slots, dist, "1", "mutex", upTo(1.5, 1.5), "")
		}
		for _, slots := range sizes {
			row("hit", slots, dist, "all", "", upTo(1, 1), "")
		}
	}
	// Use through a handle stands for the others' hits.
	for _, dist := range []string{"uniform", "zipf"} {
		for _, slots := range sizes {
			own, ok := ns(medians, "handle", slots, dist, "dsm", "all")
			other, name := fastest(medians, "hit", slots, dist, "all")
			if ok && name != "" {
				mark := ""
				if own > other {
					mark = " **missed**"
				}
				fmt.Printf("| handle | %s | %s | all | %.1f | %s, hit | %.1f | %.2f | 1.00%s |\n", slots, dist, own, name, other, own/other, mark)
			}
		}
	}
	fmt.Println()
	fmt.Println("| slots | holds | heap bytes a slot | forced GC, ms |")
	fmt.Println("|---|---|---|---|")
	for _, slots := range sizes {
		for _, impl := range append([]string{"dsm"}, append(slices.Clone(exactPeers), "otter")...) {
			p := point{op: "memory", slots: slots, impl: impl, unit: "B/slot"}
			bytes, ok := medians[p]
			if !ok {
				continue
			}
			p.unit = "ms/GC"
			fmt.Printf("| %s | %s | %.1f | %.2f |\n", slots, impl, bytes, medians[p])
		}
	}
}

// drawPlots draws a panel for each operation: ns/op over slots, both logarithmic.
func drawPlots(name string, medians map[point]float64) error {
	panels := []string{"hit", "insert-evict", "remove-store", "mixed"}
	impls := append([]string{"dsm"}, append(slices.Clone(exactPeers), "otter")...)
	const width, height = 24 * vg.Centimeter, 20 * vg.Centimeter
	canvas := vgsvg.New(width, height)
	tiles := draw.Tiles{Rows: 2, Cols: 2, PadX: 8, PadY: 12, PadTop: 8, PadBottom: 8, PadLeft: 8, PadRight: 8}
	for i, op := range panels {
		p := plot.New()
		p.Title.Text = op + ", one goroutine, uniform"
		p.X.Label.Text, p.Y.Label.Text = "slots", "ns/op"
		p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
		p.X.Tick.Marker, p.Y.Tick.Marker = plot.LogTicks{Prec: -1}, plot.LogTicks{Prec: -1}
		p.Legend.Top, p.Legend.Left = true, true
		p.Add(plotter.NewGrid())
		lines := map[string]plotter.XYs{}
		for _, impl := range impls {
			for _, slots := range sizes {
				if v, ok := ns(medians, op, slots, "uniform", impl, "1"); ok {
					var x float64
					if _, err := fmt.Sscan(slots, &x); err != nil {
						return err
					}
					lines[impl] = append(lines[impl], plotter.XY{X: x, Y: v})
				}
			}
		}
		if op == "hit" {
			for _, slots := range sizes {
				if v, ok := ns(medians, "handle", slots, "uniform", "dsm", "1"); ok {
					var x float64
					if _, err := fmt.Sscan(slots, &x); err != nil {
						return err
					}
					lines["dsm, by handle"] = append(lines["dsm, by handle"], plotter.XY{X: x, Y: v})
				}
			}
		}
		for n, impl := range slices.Sorted(maps.Keys(lines)) {
			line, points, err := plotter.NewLinePoints(lines[impl])
			if err != nil {
				return err
			}
			line.Color, points.Color = plotutil.Color(n), plotutil.Color(n)
			points.Shape = plotutil.Shape(n)
			if strings.HasPrefix(impl, "dsm") {
				line.Width = 2 * vg.Points(1)
			}
			p.Add(line, points)
			p.Legend.Add(impl, line, points)
		}
		p.Draw(tiles.At(draw.New(canvas), i%2, i/2))
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if _, err := canvas.WriteTo(f); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}

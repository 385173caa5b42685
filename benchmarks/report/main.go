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

// none is the limit of what no target is set for.
const none = 0

// line prints a row: what dsm needs for an operation, what another needs, and the
// ratio beside its limit.
func line(op, slots, dist, goroutines string, own float64, beside string, other, limit float64) {
	verdict := "none set"
	if limit != none {
		verdict = fmt.Sprintf("%.2f", limit)
		if own/other > limit {
			verdict += ", **missed**"
		}
	}
	fmt.Printf("| %s | %s | %s | %s | %.1f | %s | %.1f | %.2f | %s |\n", op, slots, dist, goroutines, own, beside, other, own/other, verdict)
}

// upTo is a limit for up to 65 536 slots, and one for 1 048 576.
func upTo(small, large float64) func(slots string) float64 {
	return func(slots string) float64 {
		if slots == "1048576" {
			return large
		}
		return small
	}
}

func printTargets(medians map[point]float64) {
	fmt.Println("| operation | slots | order | goroutines | dsm ns | beside | ns | ratio | at most |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|")
	// besidePeers compares what impl needs for op with what the fastest exact peer
	// needs for peerOp.
	besidePeers := func(op, impl, peerOp, dist, goroutines string, limit func(slots string) float64) {
		label := op
		if impl != "dsm" {
			label += ", " + impl
		}
		for _, slots := range sizes {
			own, ok := ns(medians, op, slots, dist, impl, goroutines)
			other, name := fastest(medians, peerOp, slots, dist, goroutines)
			if ok && name != "" {
				line(label, slots, dist, goroutines, own, name, other, limit(slots))
			}
		}
	}
	besideFloor := func(op, floor, dist string, limit func(slots string) float64) {
		for _, slots := range sizes {
			own, ok := ns(medians, op, slots, dist, "dsm", "1")
			other, okFloor := ns(medians, "floor", slots, dist, floor, "1")
			if ok && okFloor {
				line(op, slots, dist, "1", own, floor, other, limit(slots))
			}
		}
	}
	for _, dist := range []string{"uniform", "zipf"} {
		besidePeers("hit", "dsm", "hit", dist, "1", upTo(0.65, 1))
		besidePeers("insert-evict", "dsm", "insert-evict", dist, "1", upTo(0.8, 0.65))
		besidePeers("insert-evict", "dsm-refused", "insert-evict", dist, "1", upTo(none, none))
		besidePeers("remove-store", "dsm", "remove-store", dist, "1", upTo(0.65, 0.8))
		besidePeers("mixed", "dsm", "mixed", dist, "1", upTo(none, none))
		besideFloor("handle", "mutex", dist, upTo(1.3, none))
		besideFloor("handle", "mutex-relink", dist, upTo(none, none))
		besideFloor("lru", "mutex", dist, upTo(1.5, 1.5))
		besidePeers("hit", "dsm", "hit", dist, "all", upTo(1, 1))
		besidePeers("handle", "dsm", "hit", dist, "all", upTo(1, 1))
	}

	fmt.Println()
	fmt.Println("| slots | holds | heap bytes a slot | forced GC, ms | |")
	fmt.Println("|---|---|---|---|---|")
	for _, slots := range sizes {
		gc := func(impl string) float64 {
			return medians[point{op: "memory", slots: slots, impl: impl, unit: "ms/GC"}]
		}
		for _, impl := range append([]string{"dsm"}, append(slices.Clone(exactPeers), "otter")...) {
			bytes, ok := medians[point{op: "memory", slots: slots, impl: impl, unit: "B/slot"}]
			if !ok {
				continue
			}
			verdict := ""
			if impl == "dsm" && slots == "1048576" {
				verdict = fmt.Sprintf("at most 80 bytes, at most a tenth of golang-lru's collection: %.3f", gc("dsm")/gc("golang-lru"))
				if bytes > 80 || gc("dsm") > gc("golang-lru")/10 {
					verdict += ", **missed**"
				}
			}
			fmt.Printf("| %s | %s | %.1f | %.2f | %s |\n", slots, impl, bytes, gc(impl), verdict)
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

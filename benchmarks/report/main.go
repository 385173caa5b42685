// SPDX-License-Identifier: MIT

// Command report reads results of this module's benchmarks and prints their medians
// and the project's targets as Markdown. With -before it also prints the ratios to the
// results of another commit. With -svg it also draws ns/op by the number of slots.
package main

import (
	"errors"
	"flag"
	"fmt"
	"log"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/perf/benchfmt"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// point identifies a measured value: the parts of the benchmark's name, and the unit.
type point struct {
	op, slots, dist, impl, goroutines, unit string
}

// exactPeers are the contenders that keep the exact order of use, as dsm does.
var exactPeers = []string{"maplist", "golang-lru", "freelru", "phuslu", "ttlcache"}

// allContenders are all that the plot and the memory table have.
var allContenders = slices.Concat([]string{"dsm"}, exactPeers, []string{"otter"})

// sizes are numbers of slots.
var sizes = []string{"8", "64", "1024", "65536", "1048576"}

func main() {
	log.SetFlags(0)
	svg := flag.String("svg", "", "draw a plot into this `file`")
	before := flag.String("before", "", "results of another commit, from the same rounds, in this `file`")
	flag.Parse()
	if flag.NArg() != 1 {
		log.Fatal("usage: report [-svg file] [-before file] results")
	}
	values, err := readValues(flag.Arg(0))
	if err != nil {
		log.Fatal(err)
	}
	medians := mediansOf(values)
	var mediansBefore map[point]float64
	if *before != "" {
		values, err := readValues(*before)
		if err != nil {
			log.Fatal(err)
		}
		mediansBefore = mediansOf(values)
	}
	printOperations(medians, mediansBefore)
	fmt.Println()
	printMemory(medians)
	if *svg != "" {
		if err := drawPlots(*svg, medians); err != nil {
			log.Fatal(err)
		}
	}
}

// readValues returns the values of every point in a file.
func readValues(name string) (map[point][]float64, error) {
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
			p := parseName(r.Name)
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
	return values, nil
}

// parseName returns the point that a benchmark's name says, without the unit.
func parseName(name benchfmt.Name) point {
	var p point
	base, parts := name.Parts()
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
	return p
}

func mediansOf(values map[point][]float64) map[point]float64 {
	medians := map[point]float64{}
	for p, v := range values {
		slices.Sort(v)
		medians[p] = (v[(len(v)-1)/2] + v[len(v)/2]) / 2
	}
	return medians
}

// nsPerOp returns the median of a point in nanoseconds, and whether the results have
// it.
func nsPerOp(medians map[point]float64, op, slots, dist, impl, goroutines string) (float64, bool) {
	v, ok := medians[point{op, slots, dist, impl, goroutines, "sec/op"}]
	return v * 1e9, ok
}

// fastestExactPeer returns the fastest of the exact peers and its nanoseconds. The
// name is empty if the results have no exact peer.
func fastestExactPeer(medians map[point]float64, op, slots, dist, goroutines string) (best float64, name string) {
	for _, impl := range exactPeers {
		if v, ok := nsPerOp(medians, op, slots, dist, impl, goroutines); ok && (name == "" || v < best) {
			best, name = v, impl
		}
	}
	return best, name
}

// targets are the highest ratios that are allowed, by the number of slots as in sizes. A
// ratio without a target has nil.
type targets []float64

func all(ratio float64) targets { return slices.Repeat(targets{ratio}, len(sizes)) }

func (t targets) of(size int) string {
	if t == nil {
		return "none set"
	}
	return fmt.Sprintf("%.2f", t[size])
}

func (t targets) verdict(size int, ratio float64) string {
	if t != nil && ratio > t[size] {
		return t.of(size) + ", **missed**"
	}
	return t.of(size)
}

// operations prints the table of operations.
type operations struct {
	medians, before map[point]float64
	dist            string
}

func printOperations(medians, before map[point]float64) {
	fmt.Println("| operation | slots | order | goroutines | dsm ns | of before | beside | ns | ratio | at most |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|---|")
	for _, dist := range []string{"uniform", "zipf"} {
		o := operations{medians, before, dist}
		o.besidePeers("hit", "dsm", "hit", "1", targets{0.70, 0.67, 0.65, 0.40, 0.60})
		o.besidePeers("insert-evict", "dsm", "insert-evict", "1", targets{0.75, 0.75, 0.75, 0.75, 0.60})
		o.besidePeers("insert-evict", "dsm-refused", "insert-evict", "1", nil)
		o.besidePeers("remove-store", "dsm", "remove-store", "1", targets{0.75, 0.70, 0.75, 0.60, 0.85})
		o.besidePeers("mixed", "dsm", "mixed", "1", nil)
		o.besidePeers("handle", "dsm", "hit", "1", all(0.5))
		o.besideFloor("handle", "mutex-relink")
		o.besideFloor("lru", "mutex")
		o.besidePeers("hit", "dsm", "hit", "all", all(1))
		o.besidePeers("handle", "dsm", "hit", "all", all(1))
	}
}

// besidePeers prints a row per size for operation op of impl and operation peerOp of the
// fastest exact peer.
func (o operations) besidePeers(op, impl, peerOp, goroutines string, t targets) {
	for i, slots := range sizes {
		other, name := fastestExactPeer(o.medians, peerOp, slots, o.dist, goroutines)
		o.print(i, op, impl, goroutines, other, name, t)
	}
}

// besideFloor prints a row per size for an operation and a floor, in one goroutine.
func (o operations) besideFloor(op, floor string) {
	for i, slots := range sizes {
		if other, ok := nsPerOp(o.medians, "floor", slots, o.dist, floor, "1"); ok {
			o.print(i, op, "dsm", "1", other, floor, nil)
		}
	}
}

// print prints a row, if the results have both values.
func (o operations) print(size int, op, impl, goroutines string, other float64, otherName string, t targets) {
	slots := sizes[size]
	own, ok := nsPerOp(o.medians, op, slots, o.dist, impl, goroutines)
	if !ok || otherName == "" {
		return
	}
	ofBefore := "–"
	if before, ok := nsPerOp(o.before, op, slots, o.dist, impl, goroutines); ok {
		ofBefore = fmt.Sprintf("%.2f", own/before)
	}
	if impl != "dsm" {
		op += ", " + impl
	}
	fmt.Printf("| %s | %s | %s | %s | %.1f | %s | %s | %.1f | %.2f | %s |\n",
		op, slots, o.dist, goroutines, own, ofBefore, otherName, other, own/other, t.verdict(size, own/other))
}

// printMemory prints the table of memory and of garbage collections.
func printMemory(medians map[point]float64) {
	fmt.Println("| slots | holds | heap bytes a slot | forced GC, ms | |")
	fmt.Println("|---|---|---|---|---|")
	for _, slots := range sizes {
		gc := func(impl string) float64 {
			return medians[point{op: "memory", slots: slots, impl: impl, unit: "ms/GC"}]
		}
		for _, impl := range allContenders {
			bytes, ok := medians[point{op: "memory", slots: slots, impl: impl, unit: "B/slot"}]
			if !ok {
				continue
			}
			verdict := ""
			if impl == "dsm" && slots == "1048576" {
				verdict = fmt.Sprintf("at most 84 bytes, at most a tenth of golang-lru's collection: %.3f", gc("dsm")/gc("golang-lru"))
				if bytes > 84 || gc("dsm") > gc("golang-lru")/10 {
					verdict += ", **missed**"
				}
			}
			fmt.Printf("| %s | %s | %.1f | %.2f | %s |\n", slots, impl, bytes, gc(impl), verdict)
		}
	}
}

// drawPlots writes an SVG file with a panel for each operation.
func drawPlots(name string, medians map[point]float64) error {
	const width, height = 24 * vg.Centimeter, 20 * vg.Centimeter
	canvas := vgsvg.New(width, height)
	tiles := draw.Tiles{Rows: 2, Cols: 2, PadX: 8, PadY: 12, PadTop: 8, PadBottom: 8, PadLeft: 8, PadRight: 8}
	for i, op := range []string{"hit", "insert-evict", "remove-store", "mixed"} {
		p, err := newPanel(op, medians)
		if err != nil {
			return err
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

// newPanel returns the plot of an operation: ns/op by slots, both logarithmic.
func newPanel(op string, medians map[point]float64) (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text = op + ", one goroutine, uniform"
	p.X.Label.Text, p.Y.Label.Text = "slots", "ns/op"
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	p.X.Tick.Marker, p.Y.Tick.Marker = plot.LogTicks{Prec: -1}, plot.LogTicks{Prec: -1}
	p.Legend.Top, p.Legend.Left = true, true
	p.Add(plotter.NewGrid())
	curves, err := curvesOf(op, medians)
	if err != nil {
		return nil, err
	}
	for n, label := range slices.Sorted(maps.Keys(curves)) {
		line, points, err := plotter.NewLinePoints(curves[label])
		if err != nil {
			return nil, err
		}
		line.Color, points.Color = plotutil.Color(n), plotutil.Color(n)
		points.Shape = plotutil.Shape(n)
		if strings.HasPrefix(label, "dsm") {
			line.Width = 2 * vg.Points(1)
		}
		p.Add(line, points)
		p.Legend.Add(label, line, points)
	}
	return p, nil
}

// curvesOf returns the curves of a panel by their labels. A contender without
// results has no curve.
func curvesOf(op string, medians map[point]float64) (map[string]plotter.XYs, error) {
	curves := map[string]plotter.XYs{}
	add := func(label, op, impl string) error {
		for _, slots := range sizes {
			ns, ok := nsPerOp(medians, op, slots, "uniform", impl, "1")
			if !ok {
				continue
			}
			x, err := strconv.ParseFloat(slots, 64)
			if err != nil {
				return err
			}
			curves[label] = append(curves[label], plotter.XY{X: x, Y: ns})
		}
		return nil
	}
	for _, impl := range allContenders {
		if err := add(impl, op, impl); err != nil {
			return nil, err
		}
	}
	if op == "hit" {
		if err := add("dsm, by handle", "handle", "dsm"); err != nil {
			return nil, err
		}
	}
	return curves, nil
}

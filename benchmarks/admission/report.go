// SPDX-License-Identifier: MIT

package admission

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// limits are the times within which a client should be in.
var limits = []time.Duration{10 * time.Second, 30 * time.Second, time.Minute}

// shares returns a share for each of the limits, in percent.
func shares(of func(limit time.Duration) float64) string {
	var out []string
	for _, limit := range limits {
		out = append(out, percent(of(limit)))
	}
	return strings.Join(out, " / ")
}

// percent returns a share in percent. Only all is 100, and only nothing is 0.
func percent(share float64) string {
	switch {
	case share > 0 && share < 0.001:
		return "<0.1"
	case share < 1 && share >= 0.9995:
		return "99.9"
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", 100*share), ".0")
}

func (g Group) shares() string {
	if g.Clients == 0 {
		return ""
	}
	return shares(g.Within)
}

// idealPlaces is how many places the ideal server has.
func (r Result) idealPlaces() int {
	if r.Places > 0 {
		return r.Places
	}
	return defaultPlaces
}

// defaultPlaces is what the ideal server has where the listener has its default.
const defaultPlaces = 1000

// ideal returns the share of new clients that an ideal server lets in within a time.
func (r Result) ideal(within time.Duration) float64 {
	if r.Strangers == 0 {
		return herdIdeal(r.Clients, r.idealPlaces(), r.RoundTrip, within)
	}
	hellos := float64(r.Strangers)
	if r.Over > 0 {
		hellos += float64(r.New.Clients) / r.Over.Seconds()
	}
	return floodIdeal(r.idealPlaces(), r.RoundTrip, hellos, r.Flood.ReturnCookies, r.Timer, within)
}

// writeFloods writes a table of cells with strangers.
func writeFloods(w io.Writer, results []Result) {
	fmt.Fprintln(w, "| strangers a second | server | round trip | loss | client's timer | new clients, % in | ideal | returning clients, % in | deceived | begun anew | half-open | MB |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|---|---|---|---|---|---|")
	for _, r := range results {
		all := both(r.New, r.Returning)
		fmt.Fprintf(w, "| %d%s | %s | %v | %.0f %% | %s | %s | %s | %s | %d | %d | %d | %.0f |\n",
			r.Strangers, r.Flood, r.Server, r.RoundTrip, 100*r.Loss, r.timerName(), r.New.shares(), shares(r.ideal), r.Returning.shares(),
			all.Deceived, all.Attempts.Refused, r.HalfOpen, float64(r.HeapBytes)/(1<<20))
	}
	fmt.Fprintln(w)
}

// writeHerds writes a table of cells whose clients come at once.
func writeHerds(w io.Writer, results []Result) {
	fmt.Fprintln(w, "| clients | of | server | round trip | loss | client's timer | % in | ideal | all in after | ideal | deceived | begun anew | half-open |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|---|---|---|---|---|---|---|")
	for _, r := range results {
		of := "many networks"
		if r.OneNetwork {
			of = "one network"
		}
		all := both(r.New, r.Returning)
		last, everybody := all.Last()
		after := fmt.Sprintf("%.1f s", last.Seconds())
		if !everybody {
			after = fmt.Sprintf("%d not within %.0f s", all.Clients-len(all.In), r.horizon().Seconds())
		}
		fmt.Fprintf(w, "| %d | %s | %s | %v | %.0f %% | %s | %s | %s | %s | %.1f s | %d | %d | %d |\n",
			r.Clients, of, r.Server, r.RoundTrip, 100*r.Loss, r.timerName(), shares(all.Within), shares(r.ideal), after,
			herdTime(r.Clients, r.idealPlaces(), r.RoundTrip).Seconds(), all.Deceived,
			all.Attempts.Refused, r.HalfOpen)
	}
	fmt.Fprintln(w)
}

// curve is a line of the plot.
type curve struct {
	name   string
	points plotter.XYs
}

// curveOf returns the shares that are in within 30 seconds, over the strangers' rate.
func curveOf(name string, results []Result, share func(Result) float64, of func(Result) bool) curve {
	c := curve{name: name}
	for _, r := range results {
		if of(r) && r.Strangers > 0 {
			c.points = append(c.points, plotter.XY{X: float64(r.Strangers), Y: 100 * share(r)})
		}
	}
	return c
}

// plotLimit is the time within which the clients of the plot are in.
const plotLimit = 30 * time.Second

// panels are the plots, by the title of each.
func panels(results []Result) map[string][]curve {
	all := map[string][]curve{}
	newcomers := func(r Result) float64 { return r.New.Within(plotLimit) }
	returning := func(r Result) float64 { return r.Returning.Within(plotLimit) }
	ideal := func(r Result) float64 { return r.ideal(plotLimit) }
	for _, cookies := range []bool{false, true} {
		of := func(server string, oneNetwork bool) func(Result) bool {
			return func(r Result) bool {
				return r.Server == server && r.Flood == Flood{OneNetwork: oneNetwork, ReturnCookies: cookies}
			}
		}
		all[panelTitle(cookies)] = []curve{
			curveOf("dsm, new", results, newcomers, of("ours", false)),
			curveOf("dsm, returning", results, returning, of("ours", false)),
			curveOf("dsm, new; one network floods", results, newcomers, of("ours", true)),
			curveOf("dsm v4, new", results, newcomers, of("ours-v4", false)),
			curveOf("dsm v4, returning", results, returning, of("ours-v4", false)),
			curveOf("ideal, new", results, ideal, of("ours", false)),
			curveOf("pion, new", results, newcomers, of("pion", false)),
		}
	}
	return all
}

func panelTitle(cookies bool) string {
	if cookies {
		return "strangers return their cookies"
	}
	return "strangers return no cookies"
}

// drawPlots writes an SVG file: the share of clients that are in within 30 seconds.
func drawPlots(name string, results []Result) error {
	const width, height = 26 * vg.Centimeter, 11 * vg.Centimeter
	canvas := vgsvg.New(width, height)
	tiles := draw.Tiles{Rows: 1, Cols: 2, PadX: 12, PadTop: 8, PadBottom: 8, PadLeft: 8, PadRight: 8}
	all := panels(results)
	for i, cookies := range []bool{false, true} {
		p, err := newPanel(panelTitle(cookies), all[panelTitle(cookies)])
		if err != nil {
			return err
		}
		p.Draw(tiles.At(draw.New(canvas), i, 0))
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

func newPanel(title string, curves []curve) (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text = "Clients in within 30 s, round trip 1 s: " + title
	p.X.Label.Text, p.Y.Label.Text = "strangers a second", "% of the clients"
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	p.X.Min, p.X.Max = 10, 30_000
	p.Y.Min, p.Y.Max = 0, 105
	p.Legend.Left = true
	p.Legend.YOffs = vg.Points(10)
	p.Legend.TextStyle.Font.Size = vg.Points(8)
	p.Add(plotter.NewGrid())
	for n, c := range curves {
		if len(c.points) == 0 {
			continue
		}
		line, points, err := plotter.NewLinePoints(c.points)
		if err != nil {
			return nil, err
		}
		line.Color, points.Color = plotutil.Color(n), plotutil.Color(n)
		line.Dashes, points.Shape = plotutil.Dashes(n), plotutil.Shape(n)
		if strings.HasPrefix(c.name, "dsm") {
			line.Width = vg.Points(2)
		}
		p.Add(line, points)
		p.Legend.Add(c.name, line, points)
	}
	return p, nil
}

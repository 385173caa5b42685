// SPDX-License-Identifier: MIT

package main

import (
	"bytes"
	"fmt"
	"image/color"
	"os"
	"strings"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
)

// The sizes in the picture.
const (
	columns    = 3
	panelWide  = 400
	panelHigh  = 222
	legendHigh = 32
	headHigh   = 66
	alertHigh  = 26 // of each alert
	gap        = 12
	dotsPer    = 110 // dots per inch
)

// palette is that of Okabe and Ito, which color-blind people can tell apart, with a grey for
// limits.
var palette = []color.Color{
	color.RGBA{0x00, 0x72, 0xb2, 0xff}, color.RGBA{0xd5, 0x5e, 0x00, 0xff}, color.RGBA{0x00, 0x9e, 0x73, 0xff}, color.RGBA{0xcc, 0x79, 0xa7, 0xff},
	color.RGBA{0xe6, 0x9f, 0x00, 0xff}, color.RGBA{0x56, 0xb4, 0xe9, 0xff}, color.RGBA{0x00, 0x00, 0x00, 0xff}, color.RGBA{0x8c, 0x6b, 0x3f, 0xff},
}

var (
	shade  = color.RGBA{0xee, 0xf1, 0xf5, 0xff}
	lines  = color.RGBA{0xd8, 0xdc, 0xe2, 0xff}
	ink    = color.RGBA{0x22, 0x26, 0x2b, 0xff}
	limits = color.RGBA{0x90, 0x96, 0x9e, 0xff}
	alarm  = color.RGBA{0xc6, 0x28, 0x28, 0xff}
)

// draw writes the picture.
func (d *drawing) draw(file string) error {
	rows := (len(d.panels) + columns - 1) / columns
	alerts := vg.Length(len(d.alerts)*alertHigh + 64)
	wide := vg.Length(columns*panelWide + (columns+1)*gap)
	high := headHigh + vg.Length(rows)*(panelHigh+gap) + alerts + gap
	canvas := vgimg.NewWith(vgimg.UseWH(wide, high), vgimg.UseDPI(dotsPer), vgimg.UseBackgroundColor(color.White))
	all := draw.New(canvas)
	all.FillText(style(17, draw.XLeft), vg.Point{X: gap, Y: high - 24}, "DTLS sessions")
	all.FillText(style(10.5, draw.XLeft), vg.Point{X: gap, Y: high - 44},
		fmt.Sprintf("The dashboard of dsmprom over %v of a small server with %d slots, %d devices at first, each with its own delay and loss. Shades are the phases that are named at the bottom. Minutes in the alert rules take 2 s here.", d.lasts.Round(time.Second), slots, initially))
	for i, p := range d.panels {
		x := vg.Length(gap + i%columns*(panelWide+gap))
		top := high - headHigh - vg.Length(i/columns*(panelHigh+gap))
		if err := d.drawPanel(p, part(all, x, top-panelHigh, panelWide, panelHigh)); err != nil {
			return err
		}
	}
	d.drawAlerts(part(all, gap, gap, wide-2*gap, alerts))

	var encoded bytes.Buffer
	if _, err := (vgimg.PngCanvas{Canvas: canvas}).WriteTo(&encoded); err != nil {
		return err
	}
	return os.WriteFile(file, encoded.Bytes(), 0o644)
}

// part returns a part of a canvas.
func part(c draw.Canvas, x, y, wide, high vg.Length) draw.Canvas {
	return draw.Canvas{Canvas: c.Canvas, Rectangle: vg.Rectangle{Min: vg.Point{X: x, Y: y}, Max: vg.Point{X: x + wide, Y: y + high}}}
}

func style(size vg.Length, align text.XAlignment) text.Style {
	font := plot.DefaultFont
	font.Variant, font.Size = "Sans", size
	return text.Style{Color: ink, Font: font, XAlign: align, YAlign: draw.YCenter, Handler: plot.DefaultTextHandler}
}

// newPlot returns a plot of the whole time, with the phases as shades.
func (d *drawing) newPlot(top float64) *plot.Plot {
	p := plot.New()
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 0, d.lasts.Seconds(), 0, top
	p.X.Tick.Marker = plot.TickerFunc(func(_, most float64) (ticks []plot.Tick) {
		for s := 0; float64(s) <= most; s += 30 {
			label := ""
			if s%60 == 0 {
				label = fmt.Sprintf("%d:00", s/60)
			}
			ticks = append(ticks, plot.Tick{Value: float64(s), Label: label})
		}
		return ticks
	})
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.Tick.Label.Font.Variant, axis.Tick.Label.Font.Size = "Sans", 8.5
		axis.Tick.Label.Color, axis.Color, axis.Tick.Color = ink, lines, lines
		axis.Padding = 0
	}
	p.Y.Min, p.Y.Max = 0, top
	for _, phase := range d.phases {
		from, to := phase.begin.Seconds(), phase.end.Seconds()
		area, err := plotter.NewPolygon(plotter.XYs{{X: from, Y: 0}, {X: to, Y: 0}, {X: to, Y: top}, {X: from, Y: top}})
		if err != nil {
			panic(err) // there are points, and all are numbers
		}
		area.Color, area.LineStyle.Width = shade, 0
		p.Add(area)
	}
	return p
}

// drawPanel draws a panel: its title, its lines, and their legend below.
func (d *drawing) drawPanel(panel panel, c draw.Canvas) error {
	top := 0.0
	for _, s := range panel.series {
		for _, part := range s.parts {
			for _, xy := range part {
				top = max(top, xy.Y)
			}
		}
	}
	if top == 0 || panel.unit == "percentunit" {
		top = max(top, 1)
	}
	p := d.newPlot(top * 1.08)
	p.Title.Text, p.Title.Padding = panel.title, 4
	p.Title.TextStyle.Font.Variant, p.Title.TextStyle.Font.Size, p.Title.TextStyle.Color = "Sans", 12, ink
	p.Y.Tick.Marker = unitTicks(panel.unit)
	grid := plotter.NewGrid()
	grid.Vertical.Width, grid.Horizontal.Color = 0, lines
	p.Add(grid)
	colors := 0
	var legend []legendEntry
	for _, s := range panel.series {
		entry := legendEntry{s.name, draw.LineStyle{Width: 1.4}}
		if s.name == "slots" {
			entry.line.Color, entry.line.Dashes = limits, []vg.Length{5, 3}
		} else {
			entry.line.Color = palette[colors%len(palette)]
			if colors >= len(palette) {
				entry.line.Dashes = []vg.Length{2, 2}
			}
			colors++
		}
		for _, part := range s.parts {
			line, err := plotter.NewLine(part)
			if err != nil {
				return err
			}
			line.LineStyle = entry.line
			p.Add(line)
		}
		legend = append(legend, entry)
	}
	p.Draw(part(c, c.Min.X, c.Min.Y+legendHigh, c.Size().X, c.Size().Y-legendHigh))
	drawLegend(legend, part(c, c.Min.X+24, c.Min.Y, c.Size().X-24, legendHigh))
	return nil
}

type legendEntry struct {
	name string
	line draw.LineStyle
}

// drawLegend writes the entries one after the other, in as many rows as they need.
func drawLegend(legend []legendEntry, c draw.Canvas) {
	const sample, space, rowHigh = 16, 12, 12.5
	font := style(9, draw.XLeft)
	at := vg.Point{X: c.Min.X, Y: c.Max.Y - 7}
	for _, entry := range legend {
		wide := font.Width(entry.name) + sample + 4
		if at.X+wide > c.Max.X && at.X > c.Min.X {
			at = vg.Point{X: c.Min.X, Y: at.Y - rowHigh}
		}
		c.StrokeLine2(draw.LineStyle{Color: entry.line.Color, Dashes: entry.line.Dashes, Width: 2}, at.X, at.Y, at.X+sample, at.Y)
		c.FillText(font, vg.Point{X: at.X + sample + 4, Y: at.Y + 0.5}, entry.name)
		at.X += wide + space
	}
}

// drawAlerts draws when each alert has fired, and the names of the phases.
func (d *drawing) drawAlerts(c draw.Canvas) {
	top := float64(len(d.alerts)) + 1.3
	p := d.newPlot(top)
	p.Title.Text, p.Title.Padding = "Alerts that fire", 4
	p.Title.TextStyle.Font.Variant, p.Title.TextStyle.Font.Size, p.Title.TextStyle.Color = "Sans", 12, ink
	var names []plot.Tick
	for i, a := range d.alerts {
		y := float64(len(d.alerts)-i) - 0.5
		names = append(names, plot.Tick{Value: y, Label: a.name})
		for _, part := range a.parts {
			bar, err := plotter.NewLine(plotter.XYs{{X: part[0].X, Y: y}, {X: part[len(part)-1].X + step.Seconds(), Y: y}})
			if err != nil {
				panic(err) // there are points, and all are numbers
			}
			bar.Color, bar.Width = alarm, 9
			p.Add(bar)
		}
	}
	p.Y.Tick.Marker = plot.ConstantTicks(names)
	for _, phase := range d.phases {
		labels, err := plotter.NewLabels(plotter.XYLabels{
			XYs:    plotter.XYs{{X: (phase.begin + phase.end).Seconds() / 2, Y: top - 0.65}},
			Labels: []string{phase.name},
		})
		if err != nil {
			panic(err) // there is a label for the point
		}
		labels.TextStyle[0] = style(9, draw.XCenter)
		p.Add(labels)
	}
	p.Draw(c)
}

// unitTicks marks an axis as Grafana does for a unit.
func unitTicks(unit string) plot.Ticker {
	return plot.TickerFunc(func(least, most float64) []plot.Tick {
		ticks := plot.DefaultTicks{}.Ticks(least, most)
		for i, t := range ticks {
			if t.Label != "" {
				ticks[i].Label = inUnit(t.Value, unit)
			}
		}
		return ticks
	})
}

func inUnit(v float64, unit string) string {
	number := func(v float64) string {
		s := fmt.Sprintf("%.3f", v)
		return strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	switch {
	case v == 0:
		return "0"
	case unit == "percentunit":
		return number(v*100) + " %"
	case unit == "ops":
		return number(v) + "/s"
	case unit == "Bps" && v >= 1000:
		return number(v/1000) + " kB/s"
	case unit == "Bps":
		return number(v) + " B/s"
	case unit == "s" && v < 1:
		return number(v*1000) + " ms"
	case unit == "s":
		return number(v) + " s"
	}
	return number(v)
}

// SPDX-License-Identifier: MIT

package page

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
	"strings"
	"sync"
)

// scheme is a colour scheme.
type scheme uint8

const (
	light scheme = iota
	dark
	numSchemes
)

// palettes have the colour of each class in each scheme. Those of sessions differ in lightness,
// and the latest used has most contrast with the background.
var palettes = [numSchemes][numClasses]uint32{
	light: {0xdde2e8, 0xc2410c, 0x0b3d78, 0x2f78bd, 0x6ea6d8, 0xa9bfd8},
	dark:  {0x272d34, 0xff9d5c, 0xd2ecff, 0x6cb6f0, 0x3b77ab, 0x334f6b},
}

// paletteCSS returns the colours as custom properties for the style sheet, --class-0 and so on.
func paletteCSS() string {
	var rules [numSchemes]string
	for s, palette := range palettes {
		var b strings.Builder
		for c, rgb := range palette {
			fmt.Fprintf(&b, " --class-%d: #%06x;", c, rgb)
		}
		rules[s] = ":root {" + b.String() + " }"
	}
	return rules[light] + "\n@media (prefers-color-scheme: dark) { " + rules[dark] + " }\n"
}

// picture is a snapshot's field in a scheme, made when somebody asks for it.
type picture struct {
	once sync.Once
	png  []byte
}

// PNG returns the picture of the field.
func (s *snapshot) PNG(in scheme) []byte {
	p := &s.pictures[in]
	p.once.Do(func() { p.png = draw(s.cells, in) })
	return p.png
}

// layout says how a field is drawn: so many squares in a row, each pitch pixels wide and high.
type layout struct{ columns, rows, pitch int }

const (
	fieldWidth  = 980 // pixels, where a slot has several
	fieldHeight = 420
)

// layoutOf returns the layout of a field with the largest squares for which there is room.
func layoutOf(slots int) layout {
	for _, pitch := range []int{28, 20, 14, 10, 8, 6, 5, 4, 3, 2} {
		columns := fieldWidth / pitch
		rows := (slots + columns - 1) / columns
		if rows*pitch <= fieldHeight {
			return layout{min(columns, max(slots, 1)), max(rows, 1), pitch}
		}
	}
	columns := max(1000, int(math.Sqrt(float64(slots)))/500*500)
	return layout{columns, (slots + columns - 1) / columns, 1}
}

// Size returns the size of the picture in pixels.
func (l layout) size() (width, height int) { return l.columns * l.pitch, l.rows * l.pitch }

// draw draws a field. Large squares tell the class by their shape, too: those of free slots are
// frames, those of handshakes are chequered, and those of sessions are the lower the older the last
// use is.
func draw(cells []class, in scheme) []byte {
	l := layoutOf(len(cells))
	colours := color.Palette{color.NRGBA{}} // transparent
	for _, rgb := range palettes[in] {
		colours = append(colours, color.NRGBA{uint8(rgb >> 16), uint8(rgb >> 8), uint8(rgb), 255})
	}
	width, height := l.size()
	img := image.NewPaletted(image.Rect(0, 0, width, height), colours)
	side := l.pitch - (l.pitch+3)/6 // the rest is a gap
	if l.pitch < 4 {
		side = l.pitch
	}
	for slot, c := range cells {
		x0, y0 := slot%l.columns*l.pitch, slot/l.columns*l.pitch
		for y := range side {
			line := img.Pix[(y0+y)*img.Stride+x0:][:side]
			for x := range line {
				if side < 5 || inShape(c, x, y, side) {
					line[x] = uint8(c) + 1
				} else if c > classMinute {
					line[x] = uint8(classFree) + 1
				}
			}
		}
	}
	var b bytes.Buffer
	encoder := png.Encoder{CompressionLevel: png.BestSpeed}
	_ = encoder.Encode(&b, img) // a Buffer has no errors
	return b.Bytes()
}

// inShape reports whether a pixel belongs to the shape of a class.
func inShape(c class, x, y, side int) bool {
	switch c {
	case classFree:
		return x == 0 || y == 0 || x == side-1 || y == side-1
	case classHandshake:
		return (x/2+y/2)%2 == 0
	default: // full, 3/4, 1/2, 1/4
		return y >= side*int(c-classMinute)/4
	}
}

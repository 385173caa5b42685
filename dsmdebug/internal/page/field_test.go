// SPDX-License-Identifier: MIT

package page_test

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"net/http"
	"regexp"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/dsmdebug/internal/pagetest"
	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// field returns the picture of the field.
func field(t *testing.T, h http.Handler, scheme string) image.Image {
	t.Helper()
	w := get(t, h, "/field-"+scheme+".png")
	require.Equal(t, http.StatusOK, w.Code)
	assert.Equal(t, "image/png", w.Header().Get("Content-Type"))
	img, err := png.Decode(bytes.NewReader(w.Body.Bytes()))
	require.NoError(t, err)
	return img
}

// colours returns the colours of the classes in the style sheet, the light ones and the dark ones.
func colours(t *testing.T, h http.Handler) map[string][]color.Color {
	t.Helper()
	found := map[string][]color.Color{}
	for i, match := range regexp.MustCompile(`--class-\d: #(\w\w)(\w\w)(\w\w);`).FindAllStringSubmatch(get(t, h, "/style.css").Body.String(), -1) {
		c := color.NRGBA{A: 255}
		_, err := fmt.Sscanf(match[1]+match[2]+match[3], "%02x%02x%02x", &c.R, &c.G, &c.B)
		require.NoError(t, err)
		scheme := []string{"light", "dark"}[i/6]
		found[scheme] = append(found[scheme], c)
	}
	return found
}

// TestFieldShowsEachSlot looks at the square of each slot of small fields, and counts the pixels of
// a large one.
func TestFieldShowsEachSlot(t *testing.T) {
	t.Parallel()
	for _, size := range []struct{ slots, columns, pitch int }{{10, 35, 28}, {1000, 49, 20}} {
		f := numbered(size.slots / 2)
		f.Handshakes = []int{size.slots - 1}
		f.Change(func(s *dtlsserver.Stats, _ *[]dtlsserver.Refusal, _ *[]dtlsserver.HandshakeNetwork) {
			s.MaxEstablished, s.MaxHalfOpen = size.slots-1, 1
		})
		want := make([]int, size.slots) // classes
		for i := range f.Sessions {
			want[i] = 2 + i%4
			idle := []time.Duration{30 * time.Second, 30 * time.Minute, 12 * time.Hour, 72 * time.Hour}[i%4]
			f.Sessions[i].Used = time.Now().Add(-idle)
		}
		want[size.slots-1] = 1
		p := show(t, f)
		for scheme, palette := range colours(t, p) {
			img := field(t, p, scheme)
			require.Equal(t, min(size.columns, size.slots)*size.pitch, img.Bounds().Dx())
			side := size.pitch - (size.pitch+3)/6
			for slot, class := range want {
				x, y := slot%size.columns*size.pitch, slot/size.columns*size.pitch
				if class > 1 {
					y += side - 1 // however old a session is, the lowest line has its colour
				}
				require.Equal(t, palette[class], color.NRGBAModel.Convert(img.At(x, y)), "%s: slot %d of %d", scheme, slot, size.slots)
			}
		}
		counts := regexp.MustCompile(`</th><td class="n">([\d,]+)</td><td class="n">`).FindAllStringSubmatch(html(t, p, "/"), -1)
		var numbers []string
		for _, match := range counts {
			numbers = append(numbers, match[1])
		}
		n := size.slots / 2
		assert.Equal(t, []string{fmt.Sprint(size.slots - n - 1), "1", fmt.Sprint((n + 3) / 4), fmt.Sprint((n + 2) / 4), fmt.Sprint((n + 1) / 4), fmt.Sprint(n / 4)}, numbers)
	}
}

func TestFieldOfMillion(t *testing.T) {
	t.Parallel()
	f := pagetest.New(1_000_000, 1)
	p := show(t, f)
	img := field(t, p, "light")
	assert.Equal(t, image.Rect(0, 0, 1000, 1001), img.Bounds(), "with 64 slots for handshakes")
	paletted, ok := img.(*image.Paletted)
	require.True(t, ok)
	var counts [7]int // a transparent pixel, and the classes
	for _, pixel := range paletted.Pix[:1000*1000] {
		counts[pixel]++
	}
	assert.Zero(t, counts[0])
	assert.InDelta(t, 100_000, counts[1], 64)
	assert.InDelta(t, 900_000, counts[3]+counts[4]+counts[5]+counts[6], 64)
	body := html(t, p, "/")
	assert.Contains(t, body, `width="1000" height="1001" alt="The state of 1,000,064 slots: 100,040 free; 24 handshake in progress; `)
	assert.Equal(t, 1, f.Walks()-1, "one for the field, and one for the list")
}

// TestSnapshotOfMillionTakesLittleMemory also walks over all for the list.
func TestSnapshotOfMillionTakesLittleMemory(t *testing.T) {
	if dtlstest.RaceEnabled {
		t.Skip("the race detector takes memory, too")
	}
	p := show(t, pagetest.New(1_000_000, 1))
	allocated := func(do func()) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		do()
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	assert.Less(t, allocated(func() { html(t, p, "/") }), uint64(3<<20), "a byte for each slot")
	assert.Less(t, allocated(func() { html(t, p, "/?order=newest&page=200") }), uint64(3<<20))
	assert.Less(t, allocated(func() { html(t, p, "/?q=nobody") }), uint64(1<<20))
}

// TestWalksForFieldAreRare has viewers ask all the time, while a walk takes 100 ms.
func TestWalksForFieldAreRare(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := numbered(100)
		var begins []time.Time
		walked := 0
		f.OnVisit = func() {
			if walked%len(f.Sessions) == 0 {
				begins = append(begins, time.Now())
			}
			walked++
			time.Sleep(time.Millisecond)
		}
		p := show(t, f)
		for begin := time.Now(); time.Since(begin) < 31*time.Second; time.Sleep(10 * time.Millisecond) {
			get(t, p, "/field-light.png")
			get(t, p, "/field-dark.png")
		}
		require.Len(t, begins, 4)
		for i := range begins[1:] {
			assert.InDelta(t, 10.1, begins[i+1].Sub(begins[i]).Seconds(), 0.02, "100 times as long as a walk, after its end")
		}

		f.OnVisit = nil
		short := show(t, f)
		before := f.Walks()
		for begin := time.Now(); time.Since(begin) < 10500*time.Millisecond; time.Sleep(10 * time.Millisecond) {
			get(t, short, "/field-light.png")
		}
		assert.Equal(t, 6, f.Walks()-before, "however short a walk is, two seconds pass")
	})
}

// TestNobodyWaitsForNextWalk has walks of a second.
func TestNobodyWaitsForNextWalk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := numbered(100)
		f.OnVisit = func() { time.Sleep(10 * time.Millisecond) }
		p := show(t, f)
		took := func() time.Duration {
			begin := time.Now()
			get(t, p, "/field-light.png")
			return time.Since(begin)
		}
		assert.Equal(t, time.Second, took(), "there is no picture before the first walk has ended")
		time.Sleep(101 * time.Second)
		assert.Zero(t, took())
		synctest.Wait()
		assert.Equal(t, 2, f.Walks(), "the next one has begun")
		time.Sleep(500 * time.Millisecond)
		assert.Zero(t, took(), "the old picture")
	})
}

func TestPageSaysHowOldFieldIs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := numbered(100)
		f.OnVisit = func() { time.Sleep(time.Millisecond) }
		p := show(t, f)
		get(t, p, "/field-light.png")
		time.Sleep(4 * time.Second)
		assert.Contains(t, html(t, p, "/"), "handshakes in progress. As of <time datetime=\"2000-01-01T00:00:00Z\">00:00:00 UTC</time>, 4 s ago. "+
			"The walk over all slots took 100 ms; the next one begins in 5 s at the earliest.")
	})
}

func TestWalkForFieldHasTimeLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := numbered(20_000)
		f.OnVisit = func() { time.Sleep(500 * time.Microsecond) }
		p := show(t, f)
		begin := time.Now()
		get(t, p, "/field-light.png")
		assert.Less(t, time.Since(begin), 7*time.Second)
		assert.Contains(t, html(t, p, "/"), "It took too long and was stopped")
	})
}

// TestSlotBeyondConfigIsShown has a slot of a table that several listeners share.
func TestSlotBeyondConfigIsShown(t *testing.T) {
	t.Parallel()
	f := numbered(10)
	f.Sessions[9].Number = 99
	p := show(t, f)
	img := field(t, p, "light")
	assert.Equal(t, image.Pt(980, 84), img.Bounds().Size(), "35 slots in a line, 28 pixels each")
	assert.Equal(t, colours(t, p)["light"][2], color.NRGBAModel.Convert(img.At(99%35*28, 99/35*28)))
}

// SPDX-License-Identifier: MIT

package admission

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
)

var (
	table    = flag.Bool("table", false, "measure the table, for some minutes")
	cells    = flag.String("cells", "", "measure only cells whose name matches this `regexp`")
	markdown = flag.String("markdown", "", "write the tables into this `file`")
	svg      = flag.String("svg", "", "draw the plot into this `file`")
)

// places is the cap of half-open handshakes in the table.
const places = 1000

var (
	rates      = []int{20, 60, 100, 500, 2000, 20_000} // strangers a second
	roundTrips = []time.Duration{
		20 * time.Millisecond, 300 * time.Millisecond, time.Second, 3 * time.Second, 6 * time.Second, 10 * time.Second,
	}
	losses     = []float64{0, 0.05, 0.2}
	timerNames = []string{"OpenSSL", "Mbed TLS", "RFC 7925"}
)

// flood returns a Cell in which new and returning clients come during a flood: ten a
// second in turn, for 30 seconds, after 20 seconds of it.
func flood(server string, rate int, kind Flood) Cell {
	return Cell{
		Server: server, Places: places, RoundTrip: time.Second, Timer: dtlstest.OpenSSLTimer, Strangers: rate, Flood: kind,
		Clients: 300, After: 20 * time.Second, Over: 30 * time.Second, Returning: 2,
	}
}

// herd returns a Cell whose clients all come at once.
func herd(server string, clients int, rtt time.Duration, oneNetwork bool) Cell {
	return Cell{
		Server: server, Places: places, RoundTrip: rtt, Timer: dtlstest.OpenSSLTimer, Clients: clients, OneNetwork: oneNetwork,
		Horizon: max(3*time.Minute, 4*herdTime(clients, places, rtt)),
	}
}

// adapters are our servers: on pion v2 and on pion v4.
var adapters = []string{"ours", "ours-v4"}

// onBothAdapters returns the cells, with those of dsm's server once on each adapter.
func onBothAdapters(cells []Cell) (all []Cell) {
	for _, c := range cells {
		if c.Server != adapters[0] {
			all = append(all, c)
			continue
		}
		for _, server := range adapters {
			c.Server = server
			all = append(all, c)
		}
	}
	return all
}

// floodCells are those of the plot: both servers, all rates.
func floodCells() (all []Cell) {
	for _, kind := range []Flood{{}, {ReturnCookies: true}} {
		for _, server := range []string{"ours", "pion"} {
			for _, rate := range rates {
				all = append(all, flood(server, rate, kind))
			}
		}
	}
	for _, kind := range []Flood{{OneNetwork: true}, {OneNetwork: true, ReturnCookies: true}, {NameSessions: true}, {Repeat: true}} {
		for _, rate := range rates {
			all = append(all, flood("ours", rate, kind))
		}
	}
	return all
}

// networkCells are floods on other networks, and with other clients.
func networkCells() (all []Cell) {
	for _, rtt := range roundTrips {
		for _, loss := range losses {
			c := flood("ours", 500, Flood{})
			c.RoundTrip, c.Loss = rtt, loss
			all = append(all, c)
		}
	}
	for _, name := range timerNames[1:] {
		for _, rate := range []int{500, 2000} {
			c := flood("ours", rate, Flood{})
			c.Timer = dtlstest.Timers[name]
			all = append(all, c)
		}
	}
	return all
}

// herdCells have no strangers.
func herdCells() (all []Cell) {
	for _, oneNetwork := range []bool{true, false} {
		for _, rtt := range roundTrips {
			for _, loss := range losses {
				c := herd("ours", 300, rtt, oneNetwork)
				c.Loss = loss
				all = append(all, c)
			}
		}
	}
	for _, name := range timerNames[1:] {
		c := herd("ours", 300, 3*time.Second, true)
		c.Timer = dtlstest.Timers[name]
		all = append(all, c)
	}
	for _, rtt := range roundTrips {
		all = append(all, herd("pion", 300, rtt, true))
	}
	for _, oneNetwork := range []bool{true, false} {
		for _, rtt := range append([]time.Duration{2500 * time.Millisecond}, roundTrips...) {
			all = append(all, herd("ours", 10_000, rtt, oneNetwork))
		}
	}
	for _, loss := range losses[1:] {
		c := herd("ours", 10_000, time.Second, true)
		c.Loss = loss
		all = append(all, c)
	}
	return all
}

// defaultCells have the default cap of handshakes.
func defaultCells() []Cell {
	const hop = 200 * time.Millisecond // one way
	timer := dtlstest.OpenSSLTimer
	return []Cell{
		{Server: "ours", Clients: 60, OneNetwork: true, RoundTrip: 2 * hop, Timer: timer},
		{Server: "pion", Clients: 60, OneNetwork: true, RoundTrip: 2 * hop, Timer: timer},
		{Server: "ours", Clients: 300, RoundTrip: 2500 * time.Millisecond, Timer: timer},
		{Server: "ours", Clients: 6, RoundTrip: time.Second, OneNetwork: true, Returning: 1, Sessions: 16, Timer: timer},
		{
			Server: "ours", Clients: 100, RoundTrip: 300 * time.Millisecond, Sessions: 100, Strangers: 60, Timer: timer,
			After: 20 * time.Second, Over: 10 * time.Second,
		},
	}
}

// TestTable measures all cells, one after the other.
func TestTable(t *testing.T) {
	if !*table {
		t.Skip("runs with -table")
	}
	only, err := regexp.Compile(*cells)
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	measure := func(kind string, cells []Cell) (results []Result) {
		for n, c := range onBothAdapters(cells) {
			name := fmt.Sprintf("%s/%d: %v, %s", kind, n, c, c.timerName())
			if !only.MatchString(name) {
				continue
			}
			r := c.measure(t)
			results = append(results, r)
			t.Logf("%s: new %s, returning %s, %.1f s\n%s", name, r.New.shares(), r.Returning.shares(), r.Took.Seconds(), r.Stats)
		}
		return results
	}
	var out bytes.Buffer
	ordinary, floods := measure("default", defaultCells()), measure("flood", floodCells())
	networks, herds := measure("network", networkCells()), measure("herd", herdCells())
	writeSection(&out, ordinary, floods, networks, herds)
	fmt.Fprintf(&out, "Measured in %.0f minutes.\n", time.Since(begin).Minutes())
	if *markdown != "" {
		if err := os.WriteFile(*markdown, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	} else {
		t.Log("\n" + out.String())
	}
	if *svg != "" {
		if err := drawPlots(*svg, floods); err != nil {
			t.Fatal(err)
		}
	}
}

// All contenders let everybody in while nothing is wrong, and the results make a table
// and a plot.
func TestEverybodyIsInOnQuietNetwork(t *testing.T) {
	var results []Result
	for _, server := range append(adapters[:len(adapters):len(adapters)], "pion") {
		c := Cell{
			Server: server, Clients: 10, RoundTrip: 300 * time.Millisecond, Returning: 2, Timer: dtlstest.OpenSSLTimer,
			After: time.Second, Over: 15 * time.Second,
		}
		r := c.measure(t)
		for _, g := range []Group{r.New, r.Returning} {
			if last, all := g.Last(); !all || g.Clients != 5 || last > 2*time.Second {
				t.Errorf("%v: %+v, %s", c, g, r.Stats)
			}
		}
		results = append(results, r)
	}
	var out bytes.Buffer
	writeSection(&out, results, results, results, results)
	if rows := strings.Count(out.String(), "\n| 10 | many networks | ours |"); rows != 2 {
		t.Errorf("%d rows:\n%s", rows, &out)
	}
	if err := drawPlots(filepath.Join(t.TempDir(), "empty.svg"), results); err != nil {
		t.Error(err)
	}
	for i := range results {
		results[i].Strangers = rates[i]
	}
	if err := drawPlots(filepath.Join(t.TempDir(), "plot.svg"), results); err != nil {
		t.Error(err)
	}
}

// A flood takes the places, except those that are reserved: the measurement must see it.
func TestFloodFillsThePlaces(t *testing.T) {
	c := flood("ours", 100, Flood{})
	c.Places, c.Clients, c.After, c.Over, c.Returning = 20, 4, 3*time.Second, 2*time.Second, 0
	r := c.measure(t)
	if r.HalfOpen > c.Places || r.HalfOpen < c.Places*3/4 || r.New.Clients != 4 {
		t.Errorf("%d half-open, %+v", r.HalfOpen, r.New)
	}
}

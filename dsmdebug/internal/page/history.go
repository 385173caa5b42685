// SPDX-License-Identifier: MIT

package page

import (
	"slices"
	"sync"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
)

// sample is what is kept of a Sample.
type sample struct {
	at     time.Time
	levels [len(levelNames)]uint64
	counts []uint64 // in the order of Stats.Counts
}

// levelNames are what is plotted that can also fall.
var levelNames = [...]string{"sessions", "handshakes in progress", "hellos waiting"}

func levelsOf(stats *dtlsserver.Stats) [len(levelNames)]uint64 {
	return [...]uint64{uint64(stats.Established), uint64(stats.HalfOpen), uint64(stats.Backlog)}
}

// history has the samples of the last hour.
type history struct {
	mu      sync.Mutex
	samples []sample // at most maxSamples, the oldest first
}

func countsOf(stats *dtlsserver.Stats) []uint64 {
	var counts []uint64
	for c := range stats.Counts() {
		counts = append(counts, c.N)
	}
	return counts
}

func newSample(s Sample) sample { return sample{s.At, levelsOf(&s.Stats), countsOf(&s.Stats)} }

// add adds a sample.
func (h *history) add(s Sample) {
	kept := newSample(s)
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.samples) == maxSamples {
		h.samples = slices.Delete(h.samples, 0, 1)
	}
	h.samples = append(h.samples, kept)
}

// until returns the samples, the oldest first, and what the counts are now after them: otherwise
// the plots would not have what the page says beside them, for as long as sampleEvery.
func (h *history) until(now Sample) []sample {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append(slices.Clone(h.samples), newSample(now))
}

// plot is what became of a level or a word in the last hour.
type plot struct {
	Word string
	N    uint64           // now: a level, or the count since the listener began
	Bars [plotBars]uint64 // in each minute, the last one at the end
	Hour uint64           // their sum
	Most uint64           // the largest
	Rate float64          // a second, in the last minute
}

// set sets a bar.
func (p *plot) set(bar int, n uint64) {
	p.Bars[bar] = n
	p.Hour += n
	p.Most = max(p.Most, n)
}

// bars calls do with each bar that there are samples for, and the numbers of the samples at its
// begin and its end. The last bar ends now, so it can be longer by sampleEvery.
func bars(samples []sample, do func(bar, from, to int)) {
	now := len(samples) - 1
	for bar := range plotBars {
		to := now - 1 - perBar*(plotBars-1-bar)
		from := max(0, to-perBar)
		if bar == plotBars-1 {
			to = now
		}
		if to > 0 {
			do(bar, from, to)
		}
	}
}

// plotLevels returns the plot of each level: its bars have the highest value of a sample.
func plotLevels(samples []sample, stats *dtlsserver.Stats) []plot {
	var plots []plot
	for i, now := range levelsOf(stats) {
		p := plot{Word: levelNames[i], N: now}
		bars(samples, func(bar, from, to int) {
			most := uint64(0)
			for _, s := range samples[from+1 : to+1] {
				most = max(most, s.levels[i])
			}
			p.set(bar, most)
		})
		plots = append(plots, p)
	}
	return plots
}

// plotCounts returns the plots of the words of each kind, in the order of Stats.Counts.
func plotCounts(samples []sample, stats *dtlsserver.Stats) map[dtlsserver.Kind][]plot {
	plots := map[dtlsserver.Kind][]plot{}
	i := 0
	for c := range stats.Counts() {
		p := plot{Word: c.Word, N: c.N}
		bars(samples, func(bar, from, to int) {
			p.set(bar, samples[to].counts[i]-samples[from].counts[i])
		})
		now := samples[len(samples)-1]
		first := samples[max(0, len(samples)-2-rateSamples)]
		// Just after the first sample one handshake is no rate of a thousand.
		p.Rate = float64(now.counts[i]-first.counts[i]) / max(now.at.Sub(first.at), sampleEvery).Seconds()
		plots[c.Kind] = append(plots[c.Kind], p)
		i++
	}
	return plots
}

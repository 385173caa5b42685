// SPDX-License-Identifier: MIT

package page

import (
	"bytes"
	"fmt"
	"html/template"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/logtext"
)

// live is what changes of the page while it is shown. It does not change itself.
type live struct {
	Parts   map[string]template.HTML // by the name of their template, and of their element
	Field   fieldPicture
	Summary string // what a screen reader reads out
}

// fieldPicture is what the page needs for the element of the picture.
type fieldPicture struct {
	Number uint64 `json:"number"`
	Width  int    `json:"width"`
	Height int    `json:"height"`
	Alt    string `json:"alt"`
}

// liveCache has the last live, for all who ask.
type liveCache struct {
	mu   sync.Mutex
	made time.Time
	last *live
}

// get returns what was made at most liveFor ago.
func (c *liveCache) get(p *Page) *live {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last == nil || time.Since(c.made) >= liveFor {
		c.last = p.render()
		c.made = time.Now()
	}
	return c.last
}

// render makes the parts of the page that change.
func (p *Page) render() *live {
	snapshot := p.field.get(p)
	stats := p.source.Stats()
	samples := p.history.until(Sample{time.Now(), stats})
	counts := plotCounts(samples, &stats)
	networks := p.source.HandshakeNetworks()
	out := &live{Parts: map[string]template.HTML{}, Field: snapshot.element(), Summary: summary(&stats)}
	for name, data := range map[string]any{
		"numbers": numbers{stats, rates(counts)},
		"age":     snapshot.age(time.Now()),
		"legend":  snapshot.legend(),
		"networks": map[string]any{
			"Networks": networks[:min(len(networks), maxNetworks)], "More": max(0, len(networks)-maxNetworks),
		},
		"plots":    plotGroups(plotLevels(samples, &stats), counts),
		"refusals": refusalRows(p.source.Refusals()),
	} {
		var b bytes.Buffer
		if err := templates.ExecuteTemplate(&b, name, data); err != nil { // the templates are tested, so this is a defect
			b.Reset()
			template.HTMLEscape(&b, []byte("could not be made: "+err.Error()))
		}
		out.Parts[name] = template.HTML(b.String())
	}
	return out
}

// numbers is what the part of that name shows.
type numbers struct {
	dtlsserver.Stats
	Rates []rate
}

// rate is how often something has happened a second, in the last minute.
type rate struct {
	What string
	Rate float64
}

func rates(counts map[dtlsserver.Kind][]plot) []rate {
	completed := rate{What: "handshakes completed"}
	var others []rate
	for _, kind := range kinds {
		sum := rate{What: kind.rate}
		for _, p := range counts[kind.kind] {
			if p.Word == "completed" {
				completed.Rate = p.Rate
			} else {
				sum.Rate += p.Rate
			}
		}
		others = append(others, sum)
	}
	return append([]rate{completed}, others...)
}

// kinds are the kinds of words in the order of the page.
var kinds = []struct {
	kind        dtlsserver.Kind
	title, rate string
}{
	{dtlsserver.HandshakeResult, "Handshakes by result", "handshakes not completed"},
	{dtlsserver.SessionEnd, "Sessions by their end", "sessions ended"},
	{dtlsserver.HelloRefusal, "ClientHellos refused", "hellos refused"},
	{dtlsserver.RecordDrop, "Records dropped", "records dropped"},
}

// plotGroup is the plots under a heading.
type plotGroup struct {
	Title string
	Level bool // what they plot can fall
	Plots []plot
	Never string // the words that have never happened
}

func plotGroups(levels []plot, counts map[dtlsserver.Kind][]plot) []plotGroup {
	groups := []plotGroup{{Title: "Levels", Level: true, Plots: levels}}
	for _, kind := range kinds {
		g := plotGroup{Title: kind.title}
		var never []string
		for _, p := range counts[kind.kind] {
			if p.N == 0 {
				never = append(never, p.Word)
			} else {
				g.Plots = append(g.Plots, p)
			}
		}
		g.Never = strings.Join(never, ", ")
		groups = append(groups, g)
	}
	return groups
}

// refusalRow is a Refusal as text.
type refusalRow struct {
	dtlsserver.Refusal
	Detail string // printable and short
}

func refusalRows(refusals []dtlsserver.Refusal) []refusalRow {
	rows := make([]refusalRow, len(refusals))
	for i, r := range refusals {
		rows[i] = refusalRow{r, logtext.Error(textError(r.Detail))}
	}
	return rows
}

// textError is a text as an error, for logtext.
type textError string

func (e textError) Error() string { return string(e) }

func summary(s *dtlsserver.Stats) string {
	return fmt.Sprintf("%s of %s sessions, %s of %s handshakes in progress, %s hellos waiting.", integer(s.Established), integer(s.MaxEstablished),
		integer(s.HalfOpen), integer(s.MaxHalfOpen), integer(s.Backlog))
}

// legendRow is what the legend says of a class.
type legendRow struct {
	Class int
	Name  string
	N     int
	Share float64 // percent
}

func (s *snapshot) legend() []legendRow {
	total := 0
	for _, n := range s.Counts {
		total += n
	}
	rows := make([]legendRow, numClasses)
	for c, n := range s.Counts {
		rows[c] = legendRow{c, classNames[c], n, 100 * float64(n) / float64(max(1, total))}
	}
	return rows
}

func (s *snapshot) element() fieldPicture {
	var words []string
	for _, row := range s.legend() {
		words = append(words, integer(row.N)+" "+row.Name)
	}
	width, height := layoutOf(len(s.cells)).size()
	return fieldPicture{s.Number, width, height, fmt.Sprintf("The state of %s slots: %s.", integer(len(s.cells)), strings.Join(words, "; "))}
}

// fieldAge is what the page says of a snapshot's age.
type fieldAge struct {
	*snapshot
	Age  time.Duration
	Rest time.Duration // until the next walk may begin
}

func (s *snapshot) age(now time.Time) fieldAge {
	return fieldAge{s, now.Sub(s.Taken), max(0, s.Next.Sub(now))}
}

// changed returns the parts that differ from those of an earlier live, which can be nil.
func (l *live) changed(from *live) map[string]template.HTML {
	parts := maps.Clone(l.Parts)
	if from != nil {
		maps.DeleteFunc(parts, func(name string, html template.HTML) bool { return from.Parts[name] == html })
	}
	return parts
}

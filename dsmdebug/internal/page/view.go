// SPDX-License-Identifier: MIT

package page

import (
	"errors"
	"fmt"
	"html/template"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-dsm/dsm/internal/logtext"
)

// functions are what the templates call.
var functions = template.FuncMap{
	"int":      integer[int],
	"uint":     integer[uint64],
	"rate":     func(r float64) string { return strconv.FormatFloat(r, 'f', 1, 64) },
	"percent":  percent,
	"duration": duration,
	"clock":    func(t time.Time) string { return t.UTC().Format("15:04:05") },
	"stamp":    func(t time.Time) string { return t.UTC().Format("2 Jan 15:04:05") },
	"machine":  func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"path":     barPath,
}

// integer writes a number with commas: 1,000,000.
func integer[T int | uint64](n T) string {
	s := strconv.FormatUint(uint64(n), 10) // no count is negative
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// percent writes a share of a hundred. What is not nothing is not shown as nothing.
func percent(share float64) string {
	if share > 0 && share < 0.1 {
		return "< 0.1 %"
	}
	return strconv.FormatFloat(share, 'f', 1, 64) + " %"
}

// duration writes a time in one unit, rounded down.
func duration(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return "< 1 ms"
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	default:
		return fmt.Sprintf("%d d", int(d.Hours()/24))
	}
}

// The coordinates of a plot: each bar is one wide.
const plotHeight = 20

// barPath returns the bars of a plot as the path of an SVG. A bar that is not zero can be seen.
func barPath(p plot) string {
	var b strings.Builder
	for i, n := range p.Bars {
		if n > 0 {
			height := max(1, float64(n)/float64(p.Most)*plotHeight)
			fmt.Fprintf(&b, "M%d %dv-%.4gh.8v%.4gz", i, plotHeight, height, height)
		}
	}
	return b.String()
}

// parseQuery reads what the list is asked for. An error is for the user.
func parseQuery(values url.Values) (query, error) {
	q := query{Text: strings.TrimSpace(values.Get("q")), Newest: values.Get("order") == "newest"}
	if len(q.Text) > maxQuery {
		return q, fmt.Errorf("q has more than %d bytes", maxQuery)
	}
	if page := values.Get("page"); page != "" {
		n, err := strconv.Atoi(page)
		if err != nil || n < 1 || n > maxPages {
			return q, errors.New("page is not from 1 to " + strconv.Itoa(maxPages))
		}
		q.Page = n - 1
	}
	return q, nil
}

// listView is a listing with the links of its page.
type listView struct {
	listing
	First, End     int    // the numbers of its first and its last row, from 1
	Shown          string // Query.Text, printable and short
	Previous, Next string
	Last           bool // more sessions follow, and the list has no further page
}

func newListView(l listing) listView {
	begin := l.Query.Page * pageSize
	v := listView{listing: l, First: begin + 1, End: begin + len(l.Rows), Shown: logtext.Name(l.Query.Text)}
	if l.Query.Page > 0 {
		v.Previous = l.Query.link(l.Query.Page - 1)
	}
	switch {
	case l.More && l.Query.Page+1 < maxPages:
		v.Next = l.Query.link(l.Query.Page + 1)
	case l.More:
		v.Last = true
	}
	return v
}

// link returns the address of another page of the same list.
func (q query) link(page int) string {
	values := url.Values{"page": {strconv.Itoa(page + 1)}}
	if q.Text != "" {
		values.Set("q", q.Text)
	}
	if q.Newest {
		values.Set("order", "newest")
	}
	return "./?" + values.Encode() + "#sessions"
}

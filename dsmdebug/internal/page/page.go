// SPDX-License-Identifier: MIT

package page

import (
	"bytes"
	"context"
	"embed"
	"html/template"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
)

//go:embed assets
var assets embed.FS

// templates are the whole page, and the parts of it that change.
var templates = template.Must(template.New("").Funcs(functions).ParseFS(assets, "assets/*.html"))

// Page shows a Source. It is safe for concurrent use.
type Page struct {
	// Set in New, never changed.
	source Source
	ctx    context.Context // ends with Close
	close  context.CancelFunc
	files  map[string]file
	lists  *gate

	// Each of these has its own lock, or none.
	running sync.WaitGroup // the goroutine that samples, and that of a walk for the field
	viewers chan struct{}  // has an element for each stream
	history history
	field   fieldCache
	live    liveCache
	first   firstCache
}

// file is what never changes.
type file struct {
	kind string
	body []byte
}

// Sample is what the counts were at a time.
type Sample struct {
	At    time.Time
	Stats dtlsserver.Stats
}

// New returns a Page, which samples the counts until Close. past is what the plots have of the time
// before, the oldest first: a test does not wait for it.
func New(source Source, past ...Sample) *Page {
	p := &Page{source: source, lists: newGate(), viewers: make(chan struct{}, maxViewers)}
	p.ctx, p.close = context.WithCancel(context.Background())
	p.files = map[string]file{
		"page.js":   {"text/javascript; charset=utf-8", asset("page.js")},
		"style.css": {"text/css; charset=utf-8", append([]byte(paletteCSS()), asset("style.css")...)},
		"icon.svg":  {"image/svg+xml", asset("icon.svg")},
	}
	for _, s := range append(past, Sample{time.Now(), source.Stats()}) {
		p.history.add(s)
	}
	p.running.Go(p.sample)
	return p
}

func asset(name string) []byte {
	b, err := assets.ReadFile("assets/" + name)
	if err != nil {
		panic("dsmdebug: " + err.Error()) // the build has embedded it
	}
	return b
}

// sample samples the counts until Close.
func (p *Page) sample() {
	ticker := time.NewTicker(sampleEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			p.history.add(Sample{time.Now(), p.source.Stats()})
		case <-p.ctx.Done():
			return
		}
	}
}

// Close ends the streams, and every walk. It waits for the goroutines of the Page; the requests
// are net/http's to wait for.
func (p *Page) Close() {
	p.close()
	p.field.stop()
	p.running.Wait()
}

// policy is the Content-Security-Policy: everything comes from the page's own origin.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// ServeHTTP serves the page at each path that ends with a slash, and its files beside it.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD: the page changes nothing", http.StatusMethodNotAllowed)
		return
	case !fromHere(r):
		http.Error(w, "another site has asked for this page: enter its address yourself", http.StatusForbidden)
		return
	case p.ctx.Err() != nil:
		http.Error(w, "the page was closed", http.StatusServiceUnavailable)
		return
	}
	// Only the last part of the path counts, so that the page works under any prefix.
	name := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	switch {
	case r.URL.Path == "" && !strings.HasSuffix(requestPath(r), "/"):
		redirect(w, r)
	case name == "":
		p.servePage(w, r)
	case name == "events":
		p.serveEvents(w, r)
	case name == "field-light.png":
		p.serveField(w, r, light)
	case name == "field-dark.png":
		p.serveField(w, r, dark)
	case p.files[name].body != nil:
		write(w, r, http.StatusOK, p.files[name].kind, p.files[name].body)
	default:
		http.NotFound(w, r)
	}
}

// fromHere reports whether a browser has sent the request for this page itself, or for its user:
// another site may at most have a link to it, if it is of the same site.
func fromHere(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin": // "": not a browser, or an old one
		return true
	case "same-site":
		return r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document"
	default:
		return false
	}
}

// requestPath returns the path as the client has sent it, or "/".
func requestPath(r *http.Request) string {
	at, err := url.ParseRequestURI(r.RequestURI)
	if err != nil {
		return "/"
	}
	return at.EscapedPath()
}

// redirect leads from a prefix without a slash, which http.StripPrefix has taken off, to the page.
func redirect(w http.ResponseWriter, r *http.Request) {
	path := requestPath(r)
	to := "./" + path[strings.LastIndexByte(path, '/')+1:] + "/"
	if r.URL.RawQuery != "" {
		to += "?" + r.URL.RawQuery
	}
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusTemporaryRedirect)
}

// write sends a whole response.
func write(w http.ResponseWriter, r *http.Request, status int, kind string, body []byte) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body)
	}
}

func (p *Page) serveField(w http.ResponseWriter, r *http.Request, in scheme) {
	write(w, r, http.StatusOK, "image/png", p.field.get(p).PNG(in))
}

// servePage sends the whole page.
func (p *Page) servePage(w http.ResponseWriter, r *http.Request) {
	q, err := parseQuery(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(p.ctx, cancel)()
	var found listing
	search := func() (worked time.Duration) {
		found, worked = list(ctx, p.source, q)
		return worked
	}
	if q == (query{}) {
		found = p.first.get(p.ctx, p.source)
	} else if err := p.lists.do(ctx, search); err != nil {
		w.Header().Set("Retry-After", strconv.Itoa(int(listWait/time.Second)))
		http.Error(w, err.Error()+": try again later", http.StatusServiceUnavailable)
		return
	}
	live := p.live.get(p)
	var b bytes.Buffer
	err = templates.ExecuteTemplate(&b, "page.html", map[string]any{
		"Address": p.source.Address(), "Live": live, "List": newListView(found), "MaxQuery": maxQuery,
	})
	if err != nil { // the templates are tested, so this is a defect
		http.Error(w, "the page could not be made: "+err.Error(), http.StatusInternalServerError)
		return
	}
	write(w, r, http.StatusOK, "text/html; charset=utf-8", b.Bytes())
}

// SPDX-License-Identifier: MIT

package dsmdebug

import (
	"iter"
	"net/http"

	"github.com/go-dsm/dsm/dsmdebug/internal/page"
	"github.com/go-dsm/dsm/dtlsserver"
)

// Page shows a listener. It is an http.Handler, and safe for concurrent use. Whoever has made it
// closes it. It must not be copied.
type Page struct{ page *page.Page }

// New returns a page over a listener. It takes a sample of Stats every 10 seconds until Close, for
// the plots of the last hour: some 150 KB, and one goroutine. The listener may be closed before the
// Page is.
func New(l *dtlsserver.Listener) *Page { return &Page{page.New(source{l})} }

// ServeHTTP serves the page under any prefix, with and without http.StripPrefix: at each path that
// ends with a slash.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.page.ServeHTTP(w, r) }

// Close ends the streams of the viewers, and answers further requests with 503. It waits for the
// goroutines of the Page. http.Server.Shutdown waits for the streams, so it is called after Close.
// A second Close has no effect.
func (p *Page) Close() { p.page.Close() }

// source is a listener as package page knows it.
type source struct{ *dtlsserver.Listener }

func (s source) Address() string { return s.Addr().String() }

func (s source) Slots() iter.Seq2[int, page.Session] {
	return func(yield func(int, page.Session) bool) {
		for slot, c := range s.Listener.Slots() {
			var shown page.Session
			if c != nil {
				shown = c
			}
			if !yield(slot, shown) {
				return
			}
		}
	}
}

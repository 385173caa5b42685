// SPDX-License-Identifier: MIT

package page_test

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"testing"

	"github.com/go-dsm/dsm/dsmdebug/internal/page"
	"github.com/go-dsm/dsm/dsmdebug/internal/pagetest"
	"github.com/stretchr/testify/assert"
)

func TestEveryResponseHasSecurityHeaders(t *testing.T) {
	t.Parallel()
	p := show(t, pagetest.New(10, 1))
	for _, target := range []string{"/", "/page.js", "/style.css", "/icon.svg", "/field-light.png", "/field-dark.png", "/nothing", "/?page=x"} {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
			w := httptest.NewRecorder()
			p.ServeHTTP(w, httptest.NewRequest(method, target, nil))
			h := w.Header()
			assert.Equal(t, "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "+
				"form-action 'self'; base-uri 'none'; frame-ancestors 'none'", h.Get("Content-Security-Policy"), target)
			assert.Equal(t, "nosniff", h.Get("X-Content-Type-Options"), target)
			assert.Equal(t, "no-referrer", h.Get("Referrer-Policy"), target)
			assert.Equal(t, "no-store", h.Get("Cache-Control"), target)
			assert.Equal(t, "same-origin", h.Get("Cross-Origin-Resource-Policy"), target)
			assert.Equal(t, "same-origin", h.Get("Cross-Origin-Opener-Policy"), target)
			assert.NotEmpty(t, h.Get("Content-Type"), target)
		}
	}
}

func TestOnlyGetAndHead(t *testing.T) {
	t.Parallel()
	p := show(t, pagetest.New(10, 1))
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions, http.MethodPatch} {
		for _, target := range []string{"/", "/events", "/page.js"} {
			w := httptest.NewRecorder()
			p.ServeHTTP(w, httptest.NewRequest(method, target, nil))
			assert.Equal(t, http.StatusMethodNotAllowed, w.Code)
			assert.Equal(t, "GET, HEAD", w.Header().Get("Allow"))
		}
	}
	for _, target := range []string{"/", "/events", "/page.js", "/field-dark.png"} {
		w := httptest.NewRecorder()
		p.ServeHTTP(w, httptest.NewRequest(http.MethodHead, target, nil))
		assert.Equal(t, http.StatusOK, w.Code, target)
		assert.Empty(t, w.Body.String(), target)
	}
}

func TestOtherSitesAreRefused(t *testing.T) {
	t.Parallel()
	p := show(t, pagetest.New(10, 1))
	for _, c := range []struct {
		site, mode, dest string
		want             int
	}{
		{"same-origin", "cors", "empty", http.StatusOK},
		{"none", "navigate", "document", http.StatusOK},
		{"same-site", "navigate", "document", http.StatusOK},
		{"same-site", "navigate", "iframe", http.StatusForbidden},
		{"same-site", "no-cors", "image", http.StatusForbidden},
		{"cross-site", "navigate", "document", http.StatusForbidden},
		{"cross-site", "no-cors", "image", http.StatusForbidden},
		{"what-comes", "navigate", "document", http.StatusForbidden},
	} {
		for _, target := range []string{"/", "/field-light.png", "/style.css"} {
			w := get(t, p, target, "Sec-Fetch-Site", c.site, "Sec-Fetch-Mode", c.mode, "Sec-Fetch-Dest", c.dest)
			assert.Equal(t, c.want, w.Code, "%+v %s", c, target)
		}
	}
}

func TestPageWorksUnderAnyPrefix(t *testing.T) {
	t.Parallel()
	p := show(t, pagetest.New(10, 1))
	mux := http.NewServeMux()
	mux.Handle("/stripped/dsm/", http.StripPrefix("/stripped/dsm/", p))
	mux.Handle("/bare", http.StripPrefix("/bare", p))
	mux.Handle("/bare/", http.StripPrefix("/bare", p))
	mux.Handle("/whole/dsm/", p)
	for _, at := range []string{"/stripped/dsm/", "/bare/", "/whole/dsm/"} {
		assert.Contains(t, html(t, mux, at), "<h1>DTLS sessions", at)
		assert.Contains(t, html(t, mux, at+"style.css"), "--class-0", at)
		assert.Equal(t, http.StatusNotFound, get(t, mux, at+"nothing").Code)
	}
	w := get(t, mux, "/bare?q=a%20b")
	assert.Equal(t, http.StatusTemporaryRedirect, w.Code)
	assert.Equal(t, "./bare/?q=a%20b", w.Header().Get("Location"))
}

func TestNothingIsInlineOrFromElsewhere(t *testing.T) {
	t.Parallel()
	fake := pagetest.New(10, 1)
	body := html(t, show(t, fake, fake.Past(1)...), "/")
	assert.NotRegexp(t, regexp.MustCompile(`(?i)<style| style=|\son[a-z]+=|javascript:|https?://|src="/|href="/`), body)
	assert.Len(t, regexp.MustCompile(`<script`).FindAllString(body, -1), 1)
	assert.Contains(t, body, `<script src="page.js" defer></script>`)
	assert.NotContains(t, body, "could not be made")
	assert.NotContains(t, body, "ZgotmplZ", "html/template has refused a value")
}

func TestClosedPageAnswersNobody(t *testing.T) {
	t.Parallel()
	p := page.New(pagetest.New(10, 1))
	p.Close()
	p.Close()
	for _, target := range []string{"/", "/events", "/field-light.png"} {
		assert.Equal(t, http.StatusServiceUnavailable, get(t, p, target).Code)
	}
}

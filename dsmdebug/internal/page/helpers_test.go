// SPDX-License-Identifier: MIT

package page_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/go-dsm/dsm/dsmdebug/internal/page"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/stretchr/testify/assert"
)

func TestMain(m *testing.M) { dtlstest.Main(m) }

// show returns a Page over a source, and closes it when the test ends.
func show(t testing.TB, source page.Source, past ...page.Sample) *page.Page {
	t.Helper()
	p := page.New(source, past...)
	t.Cleanup(p.Close)
	return p
}

// get returns the response to a GET. headers are names and values.
func get(t testing.TB, h http.Handler, target string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// html returns the page at a target.
func html(t testing.TB, h http.Handler, target string) string {
	t.Helper()
	w := get(t, h, target)
	assert.Equal(t, http.StatusOK, w.Code, target)
	return w.Body.String()
}

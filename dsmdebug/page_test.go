// SPDX-License-Identifier: MIT

package dsmdebug_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-dsm/dsm/dsmdebug"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/pionv2"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { dtlstest.Main(m) }

// get returns what a handler answers.
func get(h http.Handler, target string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, target, nil))
	return w
}

// TestPageShowsListener has clients with pre-shared keys, and one that falls silent in its handshake.
func TestPageShowsListener(t *testing.T) {
	t.Parallel()
	l, err := pionv2.Listen("udp", "127.0.0.1:0", dtlstest.PSKConfig("key"), pionv2.Config{Sessions: 10, Handshakes: 5})
	require.NoError(t, err)
	defer l.Close()
	conns := dtlstest.ServeEcho[*pionv2.Conn](t, l)
	page := dsmdebug.New(l)
	defer page.Close()

	hostile := dtlstest.PSKConfig("key")
	hostile.PSKIdentityHint = []byte("<script>alert(1)</script>\u202e" + strings.Repeat("x", 100))
	var peers []net.Addr
	for _, config := range []*dtls.Config{hostile, dtlstest.PSKConfig("key")} {
		client := dtlstest.Dial(t, l.Addr(), nil, config)
		dtlstest.Echo(t, client, "hello")
		dtlstest.Receive(t, conns)
		peers = append(peers, client.Addr())
	}
	stranger := dtlstest.Stranger(t, l.Addr())
	dtlstest.Send(t, stranger, dtlstest.Hello(1))
	dtlstest.Eventually(t, func() bool { return l.Stats().HalfOpen == 1 }, "the handshake begins")

	w := get(page, "/debug/dsm/")
	require.Equal(t, http.StatusOK, w.Code)
	body := w.Body.String()
	assert.Contains(t, body, "<title>DTLS sessions on "+l.Addr().String()+"</title>")
	assert.Contains(t, body, "2 of 10 sessions, 1 of 5 handshakes in progress, 0 hellos waiting.")
	assert.Contains(t, body, "There are slots for 10 sessions and 5 handshakes in progress. As of <time")
	assert.Contains(t, body, "The state of 15 slots: 12 free; 1 handshake in progress; 2 session, last minute;")
	assert.Contains(t, body, `<span class="word">127.0.0.0/24</span> <span class="total">1</span>`)
	assert.Contains(t, body, `&#34;psk:&lt;script&gt;alert(1)&lt;/script&gt;\u202exxxx`)
	assert.NotContains(t, body, "<script>alert")
	assert.Less(t, strings.Index(body, peers[0].String()), strings.Index(body, peers[1].String()), "least recently used first")
	assert.NotContains(t, get(page, "/?q="+peers[1].String()).Body.String(), peers[0].String())

	require.NoError(t, l.Close())
	dtlstest.Eventually(t, func() bool {
		return strings.Contains(get(page, "/?q=psk").Body.String(), `No session matches &#34;psk&#34;.`)
	}, "the page outlives the listener")
}

func TestExamplesMiddlewareAsksForPassword(t *testing.T) {
	t.Parallel()
	h := authenticated("operator", "secret", http.NotFoundHandler())
	for _, c := range []struct {
		user, password string
		want           int
	}{
		{"operator", "secret", http.StatusNotFound},
		{"operator", "wrong", http.StatusUnauthorized},
		{"nobody", "secret", http.StatusUnauthorized},
		{"", "", http.StatusUnauthorized},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		if c.user != "" {
			r.SetBasicAuth(c.user, c.password)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		assert.Equal(t, c.want, w.Code, c)
	}
}

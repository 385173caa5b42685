// SPDX-License-Identifier: MIT

package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestPageIsServedUntilCancelled also has a viewer when the server ends.
func TestPageIsServedUntilCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, in := io.Pipe()
	served := make(chan error, 1)
	go func() {
		served <- run(ctx, []string{"-listen", "127.0.0.1:0", "-slots", "7", "-http", "127.0.0.1:0"}, io.Discard, in)
		_ = in.Close()
	}()
	lines := bufio.NewScanner(out)
	require.True(t, lines.Scan())
	assert.Contains(t, lines.Text(), "listening")
	require.True(t, lines.Scan())
	url := regexp.MustCompile(`http://[^ "]*`).FindString(lines.Text())
	require.NotEmpty(t, url, lines.Text())

	client := new(http.Client)
	response, err := client.Get(url)
	require.NoError(t, err)
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	_ = response.Body.Close()
	assert.Contains(t, string(body), "0 of 7 sessions")

	events, err := client.Get(url + "events")
	require.NoError(t, err)
	cancel()
	_, _ = io.ReadAll(events.Body)
	_ = events.Body.Close()
	for lines.Scan() {
	}
	assert.NoError(t, dtlstest.Receive(t, served))
	client.CloseIdleConnections()
}

func TestPageAddressIsTaken(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	taken := strings.TrimPrefix(server.URL, "http://")
	err := run(t.Context(), []string{"-listen", "127.0.0.1:0", "-http", taken}, io.Discard, io.Discard)
	assert.ErrorContains(t, err, taken)
}

func TestPageIsReachedByAddressOnly(t *testing.T) {
	t.Parallel()
	h := onlyByAddress(http.NotFoundHandler())
	for host, want := range map[string]int{
		"127.0.0.1:8080": http.StatusNotFound, "127.0.0.1": http.StatusNotFound, "localhost:8080": http.StatusNotFound,
		"[::1]:8080": http.StatusNotFound, "[::1]": http.StatusNotFound,
		"site.example:8080": http.StatusMisdirectedRequest, "site.example": http.StatusMisdirectedRequest, "": http.StatusMisdirectedRequest,
		"[": http.StatusMisdirectedRequest, "127.0.0.1.site.example": http.StatusMisdirectedRequest,
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Host = host
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		assert.Equal(t, want, w.Code, host)
	}
}

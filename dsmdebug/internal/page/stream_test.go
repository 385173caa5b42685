// SPDX-License-Identifier: MIT

package page_test

import (
	"bufio"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/dsmdebug/internal/page"
	"github.com/go-dsm/dsm/dsmdebug/internal/pagetest"
	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// event is what a stream says.
type event struct {
	Parts   map[string]string
	Field   map[string]any
	Summary string
}

// stream is a viewer.
type stream struct {
	response *http.Response
	events   chan event // closed at the end of the stream
}

// watch opens a stream over TCP.
func watch(t *testing.T, url string) *stream {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	require.NoError(t, err)
	response, err := new(http.Client).Do(r)
	require.NoError(t, err)
	t.Cleanup(func() { _ = response.Body.Close() })
	s := &stream{response, make(chan event, 100)}
	go s.read()
	return s
}

func (s *stream) read() {
	defer close(s.events)
	lines := bufio.NewScanner(s.response.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			var e event
			if json.Unmarshal([]byte(data), &e) != nil {
				return
			}
			s.events <- e
		}
	}
}

// ends waits for the end of the stream.
func (s *stream) ends(t *testing.T) {
	t.Helper()
	limit := time.After(dtlstest.Patience)
	for {
		select {
		case _, ok := <-s.events:
			if !ok {
				return
			}
		case <-limit:
			t.Fatal("the stream does not end")
		}
	}
}

func TestStreamBeginsWithAllAndEndsWithPage(t *testing.T) {
	dtlstest.CheckLeaks(t)
	p := page.New(pagetest.New(100, 1))
	server := httptest.NewServer(p)
	defer server.Close()
	s := watch(t, server.URL+"/events")
	assert.Equal(t, http.StatusOK, s.response.StatusCode)
	assert.Equal(t, "text/event-stream", s.response.Header.Get("Content-Type"))
	assert.Equal(t, "no-store", s.response.Header.Get("Cache-Control"))
	assert.Equal(t, "no", s.response.Header.Get("X-Accel-Buffering"))
	first := dtlstest.Receive(t, s.events)
	assert.Equal(t, []string{"age", "legend", "networks", "numbers", "plots", "refusals"}, slices.Sorted(maps.Keys(first.Parts)))
	assert.Contains(t, first.Parts["numbers"], "<b>90</b> of 100")
	assert.NotEmpty(t, first.Field["alt"])
	p.Close()
	s.ends(t)
	server.Close() // waits for the requests
}

func TestAtMostSixteenStreams(t *testing.T) {
	dtlstest.CheckLeaks(t)
	p := page.New(pagetest.New(100, 1))
	defer p.Close()
	server := httptest.NewServer(p)
	defer server.Close()
	defer p.Close() // or the server would wait
	var streams []*stream
	for range 16 {
		s := watch(t, server.URL+"/events")
		dtlstest.Receive(t, s.events)
		streams = append(streams, s)
	}
	w := get(t, p, "/events")
	assert.Equal(t, http.StatusServiceUnavailable, w.Code)
	assert.Contains(t, w.Body.String(), "16 viewers")
	assert.Contains(t, html(t, p, "/"), "<h1>", "the page itself is there for more")

	require.NoError(t, streams[0].response.Body.Close())
	dtlstest.Eventually(t, func() bool {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		w := httptest.NewRecorder()
		p.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/events", nil))
		return w.Code == http.StatusOK
	}, "a client that has gone gives its place back")
}

// recorder keeps the events of a stream, and when they came.
type recorder struct {
	*httptest.ResponseRecorder
	events []event
	at     []time.Time
}

func (r *recorder) Write(b []byte) (int, error) {
	var e event
	if err := json.Unmarshal([]byte(strings.TrimPrefix(string(b), "data: ")), &e); err != nil {
		return 0, err
	}
	r.events, r.at = append(r.events, e), append(r.at, time.Now())
	return len(b), nil
}

func TestStreamHasWhatChangesAndRareSummaries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := numbered(100)
		p := show(t, f)
		ctx, cancel := context.WithTimeout(t.Context(), 101*time.Second)
		defer cancel()
		go func() {
			time.Sleep(5 * time.Second)
			change(f, func(s *dtlsserver.Stats) { s.Established = 77 })
		}()
		r := &recorder{ResponseRecorder: httptest.NewRecorder()}
		p.ServeHTTP(r, httptest.NewRequestWithContext(ctx, http.MethodGet, "/events", nil))
		require.Len(t, r.events, 51, "one every two seconds")
		var summaries []int
		for i, e := range r.events {
			assert.Equal(t, time.Duration(i)*2*time.Second, r.at[i].Sub(r.at[0]))
			if e.Summary != "" {
				summaries = append(summaries, i)
			}
			if i > 0 {
				assert.NotContains(t, e.Parts, "refusals", "nothing has changed")
			}
			_, changed := e.Parts["numbers"]
			assert.Equal(t, i == 0 || i == 3, changed, i)
		}
		assert.Contains(t, r.events[3].Parts["numbers"], "<b>77</b>")
		assert.Equal(t, []int{15, 30, 45}, summaries, "every 30 s")
		assert.Equal(t, "77 of 100 sessions, 0 of 0 handshakes in progress, 0 hellos waiting.", r.events[15].Summary)
	})
}

// TestViewersShareWhatIsRendered counts the walks and the looks at the listener.
func TestViewersShareWhatIsRendered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := numbered(100)
		p := show(t, f)
		ctx, cancel := context.WithTimeout(t.Context(), 9*time.Second)
		defer cancel()
		done := make(chan struct{}, 16)
		for range 16 {
			go func() {
				p.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, http.MethodGet, "/events", nil))
				done <- struct{}{}
			}()
		}
		for range 16 {
			<-done
		}
		assert.Equal(t, 5, f.Looks(), "at 0, 2, 4, 6 and 8 s")
		assert.Equal(t, 5, f.Walks())
	})
}

// stalled is a client that reads nothing. Write waits until its deadline.
type stalled struct {
	*httptest.ResponseRecorder
	deadline time.Time
}

func (s *stalled) SetWriteDeadline(at time.Time) error {
	s.deadline = at
	return nil
}

func (s *stalled) Write([]byte) (int, error) {
	if s.deadline.IsZero() {
		select {} // for ever
	}
	time.Sleep(time.Until(s.deadline))
	return 0, os.ErrDeadlineExceeded
}

func TestStalledViewerDoesNotStay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := show(t, numbered(100))
		begin := time.Now()
		w := &stalled{ResponseRecorder: httptest.NewRecorder()}
		p.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/events", nil))
		assert.Equal(t, 10*time.Second, time.Since(begin))
		assert.Equal(t, "close", w.Header().Get("Connection"), "the deadline does not outlive the stream")
	})
}

func TestStreamOfHTTP2LeavesConnection(t *testing.T) {
	t.Parallel()
	p := show(t, numbered(100))
	r := httptest.NewRequestWithContext(t.Context(), http.MethodHead, "/events", nil)
	r.ProtoMajor = 2
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	assert.Equal(t, http.StatusOK, w.Code)
	assert.Empty(t, w.Header().Get("Connection"))
}

func TestStreamEndsInOneSecondOfClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := numbered(100_000)
		f.OnVisit = func() { time.Sleep(100 * time.Microsecond) }
		p := page.New(f)
		ended := make(chan struct{})
		go func() {
			p.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/events", nil))
			close(ended)
		}()
		synctest.Wait()
		begin := time.Now()
		p.Close()
		<-ended
		assert.Less(t, time.Since(begin), time.Second, "also during a walk")
	})
}

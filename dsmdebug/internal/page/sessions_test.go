// SPDX-License-Identifier: MIT

package page_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/dsmdebug/internal/pagetest"
	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/stretchr/testify/assert"
)

// numbered returns a listener with so many sessions, each in the slot of its number. The first one
// was used longest ago.
func numbered(sessions int) *pagetest.Fake {
	f := &pagetest.Fake{Sessions: make([]pagetest.Session, sessions)}
	now := time.Now()
	for i := range f.Sessions {
		f.Sessions[i] = pagetest.Session{
			Number: i, Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}), 5684),
			Key: fmt.Sprintf("psk:Device-%d.", i), Began: now.Add(-time.Hour), Used: now.Add(-time.Second),
		}
	}
	f.Change(func(s *dtlsserver.Stats, _ *[]dtlsserver.Refusal, _ *[]dtlsserver.HandshakeNetwork) {
		s.MaxEstablished, s.Established = sessions, sessions
	})
	return f
}

var identities = regexp.MustCompile(`<td class="text">&#34;psk:Device-(\d+)\.`)

// listed returns the numbers of the sessions on a page of the list.
func listed(t *testing.T, h http.Handler, query string) []string {
	t.Helper()
	var numbers []string
	for _, match := range identities.FindAllStringSubmatch(html(t, h, "/?"+query), -1) {
		numbers = append(numbers, match[1])
	}
	return numbers
}

// count returns the numbers from one to another.
func count(from, to int) []string {
	numbers := []string{fmt.Sprint(from)}
	for from != to {
		if from < to {
			from++
		} else {
			from--
		}
		numbers = append(numbers, fmt.Sprint(from))
	}
	return numbers
}

func TestListHasPagesInBothOrders(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := show(t, numbered(120))
		assert.Equal(t, count(0, 49), listed(t, p, ""))
		assert.Equal(t, count(50, 99), listed(t, p, "page=2"))
		assert.Equal(t, count(100, 119), listed(t, p, "page=3"))
		assert.Empty(t, listed(t, p, "page=4"))
		assert.Equal(t, count(119, 70), listed(t, p, "order=newest"))
		assert.Equal(t, count(69, 20), listed(t, p, "order=newest&page=2"))
		assert.Equal(t, count(19, 0), listed(t, p, "order=newest&page=3"))
		assert.Empty(t, listed(t, p, "order=newest&page=4"))

		body := html(t, p, "/?order=newest&page=2&q=Device")
		assert.Contains(t, body, "Sessions 51 to 100 that match &#34;Device&#34;, most recently used first")
		assert.Contains(t, body, `href="./?order=newest&amp;page=1&amp;q=Device#sessions" rel="prev"`)
		assert.Contains(t, body, `href="./?order=newest&amp;page=3&amp;q=Device#sessions" rel="next"`)
		assert.NotContains(t, html(t, p, "/?page=3"), `rel="next"`)
		assert.NotContains(t, html(t, p, "/"), `rel="prev"`)

		full := show(t, numbered(100))
		assert.NotContains(t, html(t, full, "/?page=2"), `rel="next"`, "no page is empty")
		assert.Equal(t, count(49, 0), listed(t, full, "order=newest&page=2"))
	})
}

func TestSearchFindsAddressNetworkAndIdentity(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := numbered(600)
		f.Sessions[7].Address = netip.MustParseAddrPort("[2001:db8::c0de]:1234")
		f.Sessions[8].Address = netip.MustParseAddrPort("[fe80::1%eth0]:1234")
		f.Handshakes = []int{1000}
		p := show(t, f)
		for query, want := range map[string][]string{
			"192.0.1.17:":                       {"273"},
			":1234":                             {"7", "8"},
			"2001:DB8::C0DE":                    {"7"},
			"192.0.2.0/25":                      count(512, 561),
			"192.0.1.77/31":                     {"332", "333"},
			"2001:db8::/32":                     {"7"},
			"fe80::/10":                         {"8"},
			"198.51.100.0/24":                   nil,
			"Device-599.":                       {"599"},
			"psk:Device-59":                     {"59", "590", "591", "592", "593", "594", "595", "596", "597", "598", "599"},
			"device-599.":                       nil,
			"nobody":                            nil,
			`"psk:Device-5."`:                   {"5"}, // as the list shows it
			`"psk:Device-59"... (9 bytes more)`: {"59", "590", "591", "592", "593", "594", "595", "596", "597", "598", "599"},
			`"psk:Device-5`:                     nil,
			"  Device-599. ":                    {"599"},
			"<script>alert(1)</script":          nil,
		} {
			assert.Equal(t, want, listed(t, p, "q="+url.QueryEscape(query)), query)
		}
		body := html(t, p, "/?q="+url.QueryEscape(`"><script>alert(1)</script>`+"\u202e"))
		assert.NotContains(t, body, "<script>alert")
		assert.Contains(t, body, `No session matches &#34;\&#34;&gt;&lt;script&gt;alert(1)&lt;/script&gt;\u202e&#34;.`)
	})
}

func TestBadQueries(t *testing.T) {
	t.Parallel()
	p := show(t, numbered(1))
	for _, query := range []string{"page=0", "page=-1", "page=201", "page=x", "page=99999999999999999999", "q=" + strings.Repeat("x", 201)} {
		assert.Equal(t, http.StatusBadRequest, get(t, p, "/?"+query).Code, query)
	}
}

func TestListSaysWhatItKnowsOfSession(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := numbered(2)
		f.Sessions[0].Began, f.Sessions[0].Used = time.Now().Add(-50*time.Hour), time.Now().Add(-3*time.Minute)
		f.Sessions[0].IsResumed = true
		f.Sessions[1].Key = ""
		body := html(t, show(t, f), "/")
		assert.Contains(t, body, `<tr><th scope="row">192.0.0.0:5684</th><td class="text">&#34;psk:Device-0.&#34;</td>`+
			`<td class="n">0</td><td class="n">2 d</td><td class="n">3 min</td><td>yes</td></tr>`)
		assert.Contains(t, body, `<td class="text"><span class="none">none</span></td><td class="n">1</td><td class="n">1 h</td><td class="n">1 s</td><td>no</td></tr>`)
	})
}

func TestHostileTextIsHarmlessAndShort(t *testing.T) {
	t.Parallel()
	hostile := "<script>alert(1)</script>\x00\x1b[2J\u202e\n" + strings.Repeat("x", 10_000)
	f := numbered(1)
	f.Sessions[0].Key = hostile
	f.Change(func(_ *dtlsserver.Stats, refusals *[]dtlsserver.Refusal, _ *[]dtlsserver.HandshakeNetwork) {
		*refusals = []dtlsserver.Refusal{{Kind: dtlsserver.HandshakeResult, Word: "failed", Detail: hostile}}
	})
	body := html(t, show(t, f), "/")
	assert.Equal(t, 2, strings.Count(body, `&lt;script&gt;alert(1)&lt;/script&gt;\x00\x1b[2J\u202e\n`))
	assert.NotContains(t, body, "<script>alert")
	assert.NotRegexp(t, `[\x00-\x08\x0b-\x1f\x{202a}-\x{202e}]`, body)
	assert.NotContains(t, body, strings.Repeat("x", 300))
	assert.Contains(t, body, "bytes more)")
}

// TestWalksForListTakeTurns has walks of a second.
func TestWalksForListTakeTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := numbered(1000)
		f.OnVisit = func() { time.Sleep(time.Millisecond) }
		p := show(t, f)
		html(t, p, "/") // the next walk for the field is in 100 s
		type answer struct {
			code int
			took time.Duration
		}
		begin, answers := time.Now(), make(chan answer, 4)
		for range 4 {
			go func() {
				code := get(t, p, "/?q=Device-999.").Code
				answers <- answer{code, time.Since(begin).Round(time.Second)}
			}()
		}
		synctest.Wait()
		w := get(t, p, "/?q=Device-999.")
		assert.Equal(t, http.StatusServiceUnavailable, w.Code, "a fifth does not wait")
		assert.Equal(t, "15", w.Header().Get("Retry-After"))
		assert.Equal(t, count(0, 49), listed(t, p, ""), "the first page of all needs no turn")
		assert.Less(t, time.Since(begin), 100*time.Millisecond)

		var got []answer
		for range 4 {
			got = append(got, <-answers)
		}
		assert.Equal(t, []answer{
			{http.StatusOK, time.Second}, {http.StatusOK, 11 * time.Second}, // nine seconds lie between two walks
			{http.StatusServiceUnavailable, 15 * time.Second}, {http.StatusServiceUnavailable, 15 * time.Second},
		}, got)
	})
}

// TestFirstPageIsSharedIfItsWalkIsLong has a walk of 300 ms, as over a table with many sessions of
// other listeners.
func TestFirstPageIsSharedIfItsWalkIsLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := numbered(3)
		f.OnVisit = func() { time.Sleep(100 * time.Millisecond) }
		p := show(t, f)
		for range 20 {
			assert.Equal(t, count(0, 2), listed(t, p, ""))
		}
		assert.Equal(t, 2, f.Walks(), "one for the field, and one for the list")
		time.Sleep(2 * time.Second)
		body := html(t, p, "/")
		assert.Equal(t, 2, f.Walks())
		assert.Contains(t, body, "As of <time datetime=\"2000-01-01T00:00:00Z\">00:00:00 UTC</time>. The list does not change until")
		time.Sleep(time.Second)
		html(t, p, "/")
		assert.Equal(t, 3, f.Walks(), "after a rest of nine times as long")
	})
}

// TestClientThatHasGoneEndsWalk also looks at one that waits for its turn.
func TestClientThatHasGoneEndsWalk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := numbered(100_000)
		f.OnVisit = func() { time.Sleep(10 * time.Microsecond) }
		p := show(t, f)
		html(t, p, "/")
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan struct{})
		for range 2 {
			go func() {
				r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/?q=Device-99999.", nil)
				p.ServeHTTP(httptest.NewRecorder(), r)
				gone <- struct{}{}
			}()
		}
		synctest.Wait()
		begin := time.Now()
		cancel()
		<-gone
		<-gone
		assert.Less(t, time.Since(begin), 200*time.Millisecond)
	})
}

func TestWalkForListHasTimeLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := numbered(10_000)
		f.OnVisit = func() { time.Sleep(500 * time.Microsecond) }
		p := show(t, f)
		html(t, p, "/") // the next walk for the field is in 500 s
		begin := time.Now()
		body := html(t, p, "/?q=Device-9999.")
		assert.Less(t, time.Since(begin), 4*time.Second)
		assert.Contains(t, body, "The search took too long and was stopped after 4,095 sessions. Others can match.")
	})
}

// SPDX-License-Identifier: MIT

package page_test

import (
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/dsmdebug/internal/page"
	"github.com/go-dsm/dsm/dsmdebug/internal/pagetest"
	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// change changes the counts of a listener.
func change(f *pagetest.Fake, do func(*dtlsserver.Stats)) {
	f.Change(func(s *dtlsserver.Stats, _ *[]dtlsserver.Refusal, _ *[]dtlsserver.HandshakeNetwork) { do(s) })
}

// plotOf returns what the page says of a word: its description, and the path of its bars.
func plotOf(t *testing.T, body, word string) (label, path string) {
	t.Helper()
	plot := regexp.MustCompile(`<span class="word">` + word + `</span>[^~]*?aria-label="([^"]*)"[^~]*?class="bars" d="([^"]*)"`).FindStringSubmatch(body)
	require.NotNil(t, plot, word)
	return plot[1], plot[2]
}

func TestPlotsHaveLastHour(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := numbered(3)
		p := show(t, f)
		time.Sleep(time.Second) // between two samples
		for minute := range 70 {
			change(f, func(s *dtlsserver.Stats) {
				s.Established = minute
				s.Evicted += 2
				switch minute {
				case 5:
					s.Replayed = 1000 // more than an hour ago in the end
				case 69:
					s.Completed = 120
				case 68:
					s.Completed = 60
				}
			})
			time.Sleep(time.Minute)
		}
		body := html(t, p, "/")

		label, path := plotOf(t, body, "evicted")
		assert.Equal(t, "120 in the last hour, at most 2 a minute", label)
		assert.Equal(t, 60, strings.Count(path, "z"))
		assert.Contains(t, body, `<span class="word">evicted</span> <span class="total">140</span>`)

		label, path = plotOf(t, body, "completed")
		assert.Equal(t, "120 in the last hour, at most 60 a minute", label)
		assert.Equal(t, "M58 20v-20h.8v20zM59 20v-20h.8v20z", path)

		label, path = plotOf(t, body, "replayed")
		assert.Equal(t, "0 in the last hour, at most 0 a minute", label)
		assert.Empty(t, path)

		label, _ = plotOf(t, body, "sessions")
		assert.Equal(t, "at most 69 in the last hour", label)

		assert.Contains(t, body, "handshakes completed</th><td class=\"n\">1.0</td>")
		assert.Contains(t, body, "sessions ended</th><td class=\"n\">0.0</td>", "2 in a minute")
		assert.Contains(t, body, "<p class=\"note\">Never: malformed, plaintext, epoch, forged, queue_full, ignored, wrong_key, wrong_finished, stray.</p>")
		assert.NotContains(t, body, `<span class="word">malformed</span>`)
	})
}

func TestPlotsBeginWithPage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := numbered(3)
		change(f, func(s *dtlsserver.Stats) { s.Expired = 500 })
		p := show(t, f)
		body := html(t, p, "/")
		assert.NotContains(t, body, "NaN", "no time has passed")
		_, path := plotOf(t, body, "expired")
		assert.Empty(t, path, "they are of the time before")
		change(f, func(s *dtlsserver.Stats) { s.Expired++; s.Established = 9 })
		for range 2 { // before the next sample, and after it
			time.Sleep(9 * time.Second)
			body := html(t, p, "/")
			label, path := plotOf(t, body, "expired")
			assert.Equal(t, "1 in the last hour, at most 1 a minute", label)
			assert.Equal(t, "M59 20v-20h.8v20z", path)
			label, _ = plotOf(t, body, "sessions")
			assert.Equal(t, "at most 9 in the last hour", label)
			assert.Contains(t, body, "sessions ended</th><td class=\"n\">0.1</td>")
		}
	})
}

func TestRefusalsAndNetworks(t *testing.T) {
	t.Parallel()
	f := pagetest.New(1000, 1)
	body := html(t, show(t, f), "/")
	assert.Equal(t, 100, strings.Count(body, `<th scope="row">198.51.100.`))
	assert.Contains(t, body, `<td>handshake</td><td>unknown_psk_identity</td><td class="text">no key for identity &#34;meter-0041&#34;</td><td class="n"></td>`)
	assert.Contains(t, body, `<td>refusal</td><td>source_share</td><td class="text"></td><td class="n">17</td>`)
	assert.Contains(t, body, `<li><span class="word">192.0.0.0/24</span> <span class="total">9</span></li>`)
	assert.Contains(t, body, "192.0.19.0/24")
	assert.NotContains(t, body, "192.0.20.0/24")
	assert.Contains(t, body, "10 further networks")

	empty := html(t, show(t, numbered(0)), "/")
	for _, text := range []string{"Nobody was refused.", "No handshake is in progress.", "No sessions."} {
		assert.Contains(t, empty, text)
	}
}

// slow is a listener whose counts take a second.
type slow struct{ *pagetest.Fake }

func (s slow) Stats() dtlsserver.Stats {
	time.Sleep(time.Second)
	return s.Fake.Stats()
}

func TestCloseWaitsForSample(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := page.New(slow{numbered(1)})
		time.Sleep(10*time.Second + 100*time.Millisecond)
		begin := time.Now()
		p.Close()
		assert.Equal(t, 900*time.Millisecond, time.Since(begin))
	})
}

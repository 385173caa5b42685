// SPDX-License-Identifier: MIT

package browsertest

import (
	"fmt"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const live = `document.getElementById("connection").textContent === "Live."`

// TestPageInBothColourSchemes has listeners of three sizes.
func TestPageInBothColourSchemes(t *testing.T) {
	b := browser(t)
	for _, slots := range []int{10, 1000, 1_000_000} {
		t.Run(fmt.Sprint(slots), func(t *testing.T) {
			tab := open(t, b, slots)
			tab.resize(1440, 1500)
			backgrounds := map[string]bool{}
			for _, scheme := range []string{"light", "dark"} {
				tab.prefer(scheme)
				tab.eventually(`document.getElementById("field").currentSrc.includes("field-` + scheme + `.png")`)
				tab.eventually(`document.getElementById("field").complete`)
				tab.eventually(live)
				size := eval[[]int](tab, `[field.naturalWidth, field.naturalHeight, field.width, field.height]`)
				assert.Positive(t, size[0])
				assert.Equal(t, size[:2], size[2:], "a pixel of the picture is one of the screen")
				backgrounds[eval[string](tab, `getComputedStyle(document.body).backgroundColor`)] = true
				assert.Empty(t, eval[[]string](tab, lowContrasts), scheme)
				tab.shoot(fmt.Sprintf("page-%d-%s", slots, scheme))
			}
			assert.Len(t, backgrounds, 2)
		})
	}
}

func TestNumbersChangeWithoutReload(t *testing.T) {
	tab := open(t, browser(t), 1000)
	tab.eventually(live)
	assert.Contains(t, eval[string](tab, `document.getElementById("numbers").innerText`), "900 of 1,000")
	tab.eventually(`(document.getElementById("age").remove(), true)`) // as if a later version of the server had that part
	change(tab, 777)
	tab.eventually(`document.getElementById("numbers").innerText.includes("777 of 1,000")`)
	before := eval[string](tab, `field.src`)
	tab.eventually(`field.src !== "` + before + `" && field.complete`)
	assert.Positive(t, eval[int](tab, `field.naturalWidth`))
}

func change(tab *tab, sessions int) {
	tab.fake.Change(func(s *dtlsserver.Stats, _ *[]dtlsserver.Refusal, _ *[]dtlsserver.HandshakeNetwork) {
		s.Established = sessions
	})
}

// TestSelectedTextStays has a user copy a number while it changes.
func TestSelectedTextStays(t *testing.T) {
	tab := open(t, browser(t), 1000)
	tab.eventually(live)
	tab.eventually(`(getSelection().selectAllChildren(document.querySelector("#numbers b")), true)`)
	change(tab, 777)
	events := tab.fake.Looks()
	dtlstest.Eventually(t, func() bool { return tab.fake.Looks() >= events+3 }, "events")
	assert.Equal(t, "900", eval[string](tab, `getSelection().toString()`))
	tab.eventually(`(getSelection().removeAllRanges(), true)`)
	tab.eventually(`document.getElementById("numbers").innerText.includes("777 of 1,000")`)
}

// press presses Tab until an element has the focus.
func (b *tab) press(selector string) {
	b.t.Helper()
	for range 30 {
		b.do(chromedp.KeyEvent(kb.Tab))
		if eval[bool](b, `document.activeElement.matches("`+selector+`")`) {
			visible := eval[string](b, `getComputedStyle(document.activeElement).outlineStyle`)
			assert.NotEqual(b.t, "none", visible, "the focus of %s can be seen", selector)
			return
		}
	}
	b.t.Fatalf("Tab does not lead to %s", selector)
}

func TestPageByKeyboardAlone(t *testing.T) {
	tab := open(t, browser(t), 1000)
	tab.eventually(live)
	tab.press(".skip")
	assert.GreaterOrEqual(t, eval[float64](tab, `document.activeElement.getBoundingClientRect().left`), 0.0, "it is shown")
	tab.press("#pause")
	tab.do(chromedp.KeyEvent(" "))
	tab.eventually(`document.getElementById("connection").textContent === "Paused." && pause.textContent === "Resume"`)
	tab.do(chromedp.KeyEvent(kb.Enter))
	tab.eventually(live)

	tab.press("#q")
	peer := tab.fake.Sessions[500].Address.String()
	tab.do(chromedp.KeyEvent(peer), chromedp.KeyEvent(kb.Enter))
	tab.eventually(`location.search.includes("q=") && document.querySelectorAll("tbody th").length > 0`)
	tab.eventually(live)
	caption := eval[string](tab, `document.getElementById("sessions-caption").innerText`)
	assert.Equal(t, fmt.Sprintf("Sessions 1 to 1 that match %q, least recently used first", peer), caption)
	assert.Equal(t, peer, eval[string](tab, `document.querySelector("#sessions-caption ~ tbody th").innerText`))

	tab.do(chromedp.Navigate(tab.url))
	tab.press("#order")
	tab.do(chromedp.KeyEvent("m")) // ost recently used first
	tab.press("button[type=submit]")
	tab.do(chromedp.KeyEvent(kb.Enter))
	tab.eventually(`document.getElementById("sessions-caption")?.innerText === "Sessions 1 to 50, most recently used first"`)
	tab.press("[rel=next]")
	tab.do(chromedp.KeyEvent(kb.Enter))
	tab.eventually(`document.getElementById("sessions-caption")?.innerText === "Sessions 51 to 100, most recently used first"`)
}

// TestNarrowScreenDoesNotScrollSideways has the width of WCAG 2.1's reflow, 320 pixels.
func TestNarrowScreenDoesNotScrollSideways(t *testing.T) {
	b := browser(t)
	for _, slots := range []int{10, 1_000_000} {
		tab := open(t, b, slots)
		tab.resize(320, 700)
		tab.eventually(live)
		assert.Equal(t, 320, eval[int](tab, `innerWidth`))
		assert.LessOrEqual(t, eval[int](tab, `document.documentElement.scrollWidth`), 320)
		assert.Empty(t, eval[[]string](tab, `[...document.querySelectorAll("body *")].filter((e) => !e.closest(".scroll, .unseen, .skip") && e.getBoundingClientRect().right > 320).map((e) => e.outerHTML.slice(0, 80))`))
		assert.LessOrEqual(t, eval[float64](tab, `field.getBoundingClientRect().right`), 320.0)
	}
}

func TestPageWithoutJavaScript(t *testing.T) {
	tab := open(t, browser(t), 1000)
	call(tab, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	tab.do(chromedp.Navigate(tab.url+"?order=newest"), chromedp.WaitReady("#refusals"))
	text, err := chromedp.Run(tab.Context, chromedp.TextContent("main"))
	require.NoError(t, err)
	assert.Contains(t, text, "900 of 1,000")
	assert.Contains(t, text, "most recently used first")
	state, err := chromedp.Run(tab.Context, chromedp.TextContent("#connection"))
	require.NoError(t, err)
	assert.Contains(t, state, "Reload the page")
}

func TestPageSaysThatServerHasGone(t *testing.T) {
	tab := open(t, browser(t), 10)
	tab.eventually(live)
	tab.page.Close()
	tab.eventually(`/^(Not live|Connection lost)/.test(document.getElementById("connection").textContent)`)
	tab.eventually(`document.getElementById("connection").textContent.startsWith("Not live")`)
	tab.expectComplaint("503")
}

// TestBrowsersComplaintsAreNoticed breaks the page's policy, which the other tests would not notice
// otherwise.
func TestBrowsersComplaintsAreNoticed(t *testing.T) {
	tab := open(t, browser(t), 10)
	for _, c := range []struct{ script, want string }{
		{`document.body.append(Object.assign(document.createElement("script"), {textContent: "1"})), true`, "ContentSecurityPolicyIssue"},
		{`setTimeout(() => { throw new Error("thrown") }), true`, "thrown"},
		{`console.error("said"), true`, "said"},
		{`document.body.append(Object.assign(new Image(), {src: "nothing.png"})), true`, "404"},
	} {
		tab.eventually("(" + c.script + ")")
		tab.expectComplaint(c.want)
	}
}

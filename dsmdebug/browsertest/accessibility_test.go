// SPDX-License-Identifier: MIT

package browsertest

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/stretchr/testify/assert"
)

// lowContrasts is an expression for the texts that have less contrast with their background than
// WCAG 2.1 asks for at level AA, 4.5 to 1.
const lowContrasts = `(() => {
	const parse = (css) => css.match(/[\d.]+/g).map(Number);
	const light = (rgb) => {
		const [r, g, b] = rgb.map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
		return 0.2126 * r + 0.7152 * g + 0.0722 * b;
	};
	const background = (element) => {
		for (; element; element = element.parentElement) {
			const [r, g, b, a = 1] = parse(getComputedStyle(element).backgroundColor);
			if (a > 0) {
				return [r, g, b];
			}
		}
		return [255, 255, 255];
	};
	const low = new Set();
	const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	while (texts.nextNode()) {
		const element = texts.currentNode.parentElement;
		if (texts.currentNode.data.trim() === "" || !element.checkVisibility()) {
			continue;
		}
		const a = light(parse(getComputedStyle(element).color).slice(0, 3)), b = light(background(element));
		const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
		if (contrast < 4.5) {
			low.add(element.outerHTML.slice(0, 80) + ": " + contrast.toFixed(2));
		}
	}
	return [...low];
})()`

// text returns a value of the tree that is a string.
func text(v *accessibility.Value) string {
	var s string
	if v != nil {
		_ = json.Unmarshal(v.Value, &s)
	}
	return s
}

// named are the roles that a user has to be told the name of.
var named = []string{
	"button", "link", "searchbox", "textbox", "combobox", "img", "image", "region", "navigation", "search", "table", "heading", "columnheader",
}

func TestEverythingHasNameInAccessibilityTree(t *testing.T) {
	b := browser(t)
	for _, query := range []string{"", "?order=newest&page=2", "?q=nobody"} {
		tab := openAt(t, b, 1000, query)
		tab.eventually(live)
		found := map[string]int{}
		for _, node := range call(tab, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{}).Nodes {
			role := text(node.Role)
			if node.Ignored || !slices.Contains(named, role) {
				continue
			}
			found[role]++
			assert.NotEmpty(t, text(node.Name), "%s: a %s has no name: %s", query, role, node.Description)
		}
		for role, least := range map[string]int{"button": 2, "link": 6, "searchbox": 1, "combobox": 1, "image": 10, "region": 6, "table": 4, "heading": 12} {
			assert.GreaterOrEqual(t, found[role], least, "%s: %s, of %v", query, role, found)
		}
	}
}

func TestStructureOfPage(t *testing.T) {
	tab := open(t, browser(t), 1000)
	assert.Equal(t, "en", eval[string](tab, `document.documentElement.lang`))
	levels := eval[[]int](tab, `[...document.querySelectorAll("h1, h2, h3, h4, h5, h6")].map((h) => Number(h.tagName[1]))`)
	assert.Equal(t, 1, levels[0])
	for i := range levels[1:] {
		assert.Greater(t, levels[i+1], 1, "one h1")
		assert.LessOrEqual(t, levels[i+1], levels[i]+1, "no level is left out")
	}
	assert.Zero(t, eval[int](tab, `[...document.querySelectorAll("table")].filter((t) => !t.caption).length`), "each table has a caption")
	assert.Zero(t, eval[int](tab, `document.querySelectorAll("th:not([scope])").length`))
	assert.Zero(t, eval[int](tab, `[...document.querySelectorAll("input, select")].filter((e) => e.labels.length === 0).length`), "a placeholder is no label")
	assert.Equal(t, []string{"summary"}, eval[[]string](tab, `[...document.querySelectorAll("[aria-live], [role=status], [role=alert], [role=log]")].map((e) => e.id)`),
		"nothing else is read out when it changes")
	assert.Zero(t, eval[int](tab, `new Set([...document.querySelectorAll("[id]")].map((e) => e.id)).size - document.querySelectorAll("[id]").length`), "no id comes twice")
}

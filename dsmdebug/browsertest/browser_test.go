// SPDX-License-Identifier: MIT

// Package browsertest looks at the page of package dsmdebug with a browser.
package browsertest

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/go-dsm/dsm/dsmdebug/internal/page"
	"github.com/go-dsm/dsm/dsmdebug/internal/pagetest"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/stretchr/testify/require"
)

// tab is a browser's tab with the page of a listener.
type tab struct {
	context.Context
	t    *testing.T
	fake *pagetest.Fake
	page *page.Page
	url  string

	mu sync.Mutex
	// mu guards the following.
	complaints []string
}

// browser starts a browser. It skips the test without one.
func browser(t *testing.T) context.Context {
	t.Helper()
	program := dtlstest.NeedCommand(t, "chromium", "chromium-browser", "google-chrome")
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program), chromedp.UserDataDir(t.TempDir()), chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))
	if os.Getuid() == 0 {
		options = append(options, chromedp.NoSandbox) // which root cannot have
	}
	allocator, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(cancel)
	require.NoError(t, chromedp.Do(ctx), "the browser starts")
	return ctx
}

// open opens the page of a listener with so many slots in a tab of its own.
func open(t *testing.T, browser context.Context, slots int) *tab {
	t.Helper()
	return openAt(t, browser, slots, "")
}

// openAt is open with what follows the page's path.
func openAt(t *testing.T, browser context.Context, slots int, query string) *tab {
	t.Helper()
	fake := pagetest.New(slots, 7)
	p := page.New(fake, fake.Past(7)...)
	mux := http.NewServeMux()
	mux.Handle("/debug/dsm/", http.StripPrefix("/debug/dsm", p))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	t.Cleanup(p.Close)

	b := &tab{t: t, fake: fake, page: p, url: server.URL + "/debug/dsm/"}
	ctx, cancel := chromedp.NewContext(browser)
	t.Cleanup(cancel)
	b.Context, cancel = context.WithTimeout(ctx, 2*time.Minute)
	t.Cleanup(cancel)
	require.NoError(t, chromedp.Listen(ctx, b.note))
	call(b, log.Enable, cdp.Empty{})
	call(b, audits.Enable, cdp.Empty{})
	b.do(chromedp.Navigate(b.url + query))
	t.Cleanup(func() { // before the tab closes
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, c := range b.complaints {
			t.Error("the browser complains:", c)
		}
	})
	return b
}

// note notes what the browser complains of: exceptions, errors and warnings on the console, and
// violations of the Content-Security-Policy.
func (b *tab) note(event any) {
	complaint := ""
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		complaint = "exception: " + e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			complaint += " " + e.ExceptionDetails.Exception.Description
		}
	case *runtime.EventConsoleAPICalled:
		switch e.Type {
		case runtime.ConsoleAPICalledTypeError, runtime.ConsoleAPICalledTypeWarning, runtime.ConsoleAPICalledTypeAssert:
			complaint = "console: " + string(e.Type)
			for _, arg := range e.Args {
				complaint += " " + string(arg.Value)
			}
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			complaint = "log: " + e.Entry.Text + " " + e.Entry.URL
		}
	case *audits.EventIssueAdded:
		complaint = "issue: " + string(e.Issue.Code)
	}
	if complaint != "" {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.complaints = append(b.complaints, complaint)
	}
}

// expectComplaint waits for a complaint with a text, and forgets all.
func (b *tab) expectComplaint(text string) {
	b.t.Helper()
	dtlstest.Eventually(b.t, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		if !strings.Contains(strings.Join(b.complaints, "\n"), text) {
			return false
		}
		b.complaints = nil
		return true
	}, "a complaint of %s", text)
}

// do does what must succeed.
func (b *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	require.NoError(b.t, chromedp.Do(b.Context, actions...))
}

// call calls a command of the browser's protocol.
func call[P, R any](b *tab, command cdp.Command[P, R], params P) R {
	b.t.Helper()
	result, err := chromedp.Call(b.Context, command, params)
	require.NoError(b.t, err)
	return result
}

// eval returns the value of an expression of JavaScript.
func eval[T any](b *tab, expression string) T {
	b.t.Helper()
	value, err := chromedp.Run(b.Context, chromedp.Evaluate[T](expression))
	require.NoError(b.t, err, expression)
	return value
}

// eventually waits until an expression of JavaScript is true.
func (b *tab) eventually(expression string) {
	b.t.Helper()
	dtlstest.Eventually(b.t, func() bool {
		value, err := chromedp.Run(b.Context, chromedp.Evaluate[bool](expression)) // fails while the tab goes to another page
		return err == nil && value
	}, "%s", expression)
}

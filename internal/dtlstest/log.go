// SPDX-License-Identifier: MIT

package dtlstest

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
)

// LogBuffer is an io.Writer that keeps what is written. The zero value is empty. It is
// safe for concurrent use.
type LogBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Logger returns a logger of all levels that writes lines of text to the buffer.
func (b *LogBuffer) Logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// Write implements io.Writer.
func (b *LogBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// String returns what was written so far.
func (b *LogBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// WaitFor waits until the buffer contains text.
func (b *LogBuffer) WaitFor(t testing.TB, text string) {
	t.Helper()
	if !poll(Patience, func() bool { return strings.Contains(b.String(), text) }) {
		t.Fatalf("no %q within %v in:\n%s", text, Patience, b)
	}
}

// WriterFunc is a function as an io.Writer that takes everything, such as a key log.
type WriterFunc func(p []byte)

// Write implements io.Writer.
func (f WriterFunc) Write(p []byte) (int, error) { f(p); return len(p), nil }

// SPDX-License-Identifier: MIT

package main

import (
	"strings"
	"testing"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNoteIsReadAndReplaced(t *testing.T) {
	t.Parallel()
	a := serve(t, 4)
	p := connect(t, a, nil)
	assert.Equal(t, "nothing noted yet", p.get(t, "a"))
	p.put(t, "first")
	m := p.do(t, codes.GET, notePath, "b", -1, "")
	assert.Equal(t, codes.Content, m.Code())
	assert.Equal(t, "first", body(t, m))
	assert.False(t, m.HasOption(message.Observe))
	p.put(t, "")
	assert.Empty(t, p.get(t, "c"))

	long := strings.Repeat("x", noteSize)
	p.put(t, long)
	assert.Equal(t, codes.RequestEntityTooLarge, p.do(t, codes.PUT, notePath, "d", -1, long+"x").Code())
	assert.Equal(t, long, p.get(t, "e"))
	assert.Equal(t, codes.MethodNotAllowed, p.do(t, codes.DELETE, notePath, "f", -1, "").Code())
	assert.Equal(t, codes.NotFound, p.do(t, codes.GET, "/else", "g", -1, "").Code())
}

func TestNoteIsObserved(t *testing.T) {
	t.Parallel()
	a := serve(t, 4)
	observer, writer := connect(t, a, nil), connect(t, a, nil)
	last := observer.observe(t, "one")
	for _, text := range []string{"first", "second", "third"} {
		writer.put(t, text)
		m := observer.notified(t, "one", text)
		version, err := m.Observe()
		require.NoError(t, err)
		require.Greater(t, version, last)
		last = version
		observer.reply(t, m, message.Acknowledgement)
	}
	// A second request with the same token changes nothing. One with another token gets
	// a response without the option.
	assert.Equal(t, last, observer.observe(t, "one"))
	assert.False(t, observer.do(t, codes.GET, notePath, "two", 0, "").HasOption(message.Observe))
	assert.Equal(t, 1, a.observers())

	// A request ends the observation, and so does a reset.
	observer.do(t, codes.GET, notePath, "one", 1, "")
	assert.Zero(t, a.observers())
	writer.put(t, "nobody is told")
	observer.observe(t, "two")
	writer.put(t, "fourth")
	observer.reply(t, observer.notified(t, "two", "fourth"), message.Reset)
	a.awaitNoObserver(t)
	writer.put(t, "nobody is told")
	assert.Equal(t, "nobody is told", observer.get(t, "x"))
}

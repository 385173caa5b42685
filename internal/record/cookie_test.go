// SPDX-License-Identifier: MIT

package record

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// cookieHello is the body of a ClientHello with a cookie of three bytes.
func cookieHello() []byte {
	b := append([]byte{254, 253}, bytes.Repeat([]byte{9}, 32)...)
	b = append(b, 2, 1, 2)              // session ID
	b = append(b, 3, 7, 8, 9)           // cookie
	b = append(b, 0, 4, 0, 1, 0, 2)     // suites
	b = append(b, 1, 0)                 // no compression
	return append(b, 0, 4, 0, 23, 0, 0) // extended master secret
}

func TestClientHelloStart(t *testing.T) {
	t.Parallel()
	body := cookieHello()
	end := len(body) - 6 // in front of the extensions
	for n := range body {
		hello, ok := ClientHelloStart(Handshake{Type: MessageClientHello, Length: len(body), MessageSeq: 1, Body: body[:n]})
		if assert.Equal(t, n >= end, ok, n) && ok {
			assert.Equal(t, []byte{7, 8, 9}, hello.Cookie)
			assert.EqualValues(t, 1, hello.MessageSeq)
		}
	}
	for name, h := range map[string]Handshake{
		"a later fragment": {Type: MessageClientHello, Length: len(body) + 1, Offset: 1, Body: body},
		"another message":  {Type: MessageServerHello, Length: len(body), Body: body},
	} {
		_, ok := ClientHelloStart(h)
		assert.False(t, ok, name)
	}
}

func TestWithoutCookie(t *testing.T) {
	t.Parallel()
	body := cookieHello()
	kept := bytes.Clone(body)
	with, ok := ParseClientHelloBody(body)
	require.True(t, ok)
	without, ok := ParseClientHelloBody(WithoutCookie(body))
	require.True(t, ok)
	assert.Empty(t, without.Cookie)
	assert.True(t, SameParameters(with, without))
	assert.True(t, without.ExtendedMasterSecret)
	assert.Equal(t, kept, body)
}

// TestWithGroup: the last group that the ClientHello names is another one, and nothing else has
// changed.
func TestWithGroup(t *testing.T) {
	t.Parallel()
	const group = 23
	added := []byte{0, 10, 0, 4, 0, 2, 0, group}
	body := cookieHello()
	end := len(body) - 6 // in front of the extensions
	for name, test := range map[string]struct{ body, want []byte }{
		"extensions":          {body, slices.Concat(body[:end], []byte{0, 12, 0, 23, 0, 0}, added)},
		"an empty list":       {slices.Concat(body[:end], []byte{0, 0}), slices.Concat(body[:end], []byte{0, 8}, added)},
		"no list":             {body[:end], slices.Concat(body[:end], []byte{0, 8}, added)},
		"a list that is full": {longHello(body[:end], 1<<16-8), longHello(body[:end], 1<<16-8)},
		"room for one":        {longHello(body[:end], 1<<16-9), slices.Concat(body[:end], []byte{255, 255}, longHello(nil, 1<<16-9)[2:], added)},
	} {
		_, ok := ParseClientHelloBody(test.body)
		require.True(t, ok, name)
		kept := bytes.Clone(test.body)
		assert.Equal(t, test.want, WithGroup(test.body, group), name)
		assert.Equal(t, kept, test.body, name)
	}
}

// longHello appends extensions of so many bytes to the body of a ClientHello: one, of a type that
// nobody knows.
func longHello(body []byte, size int) []byte {
	body = binary.BigEndian.AppendUint16(bytes.Clone(body), uint16(size))
	body = append(body, 250, 250)
	return append(binary.BigEndian.AppendUint16(body, uint16(size-4)), make([]byte, size-4)...)
}

// TestWriteParameters: what is written is the same if and only if the parameters are.
func TestWriteParameters(t *testing.T) {
	t.Parallel()
	sum := func(body []byte) string {
		hello, ok := ClientHelloStart(Handshake{Type: MessageClientHello, Length: len(body), Body: body})
		require.True(t, ok)
		h := sha256.New()
		hello.WriteParameters(h, make([]byte, 0, 36))
		return string(h.Sum(nil))
	}
	body := cookieHello()
	want := sum(body)
	assert.Equal(t, want, sum(WithoutCookie(body)))
	seen := map[string]bool{want: true}
	for _, i := range []int{1, 2, 33, 35, 36, 44, 46, 48} { // version, random, session ID, suites
		changed := bytes.Clone(body)
		changed[i] ^= 4
		if hello, ok := ClientHelloStart(Handshake{Type: MessageClientHello, Length: len(body), Body: changed}); !ok || hello.Version>>8 != 254 {
			continue
		}
		s := sum(changed)
		assert.False(t, seen[s], i)
		seen[s] = true
	}
	assert.GreaterOrEqual(t, len(seen), 7)
}

func TestHelloVerifyRequest(t *testing.T) {
	t.Parallel()
	for _, version := range []uint16{Version10, Version12} {
		raw := AppendHelloVerifyRequest([]byte("before"), version, 77, []byte{1, 2, 3})[len("before"):]
		r, rest, fault := Next(raw)
		require.Equal(t, NoFault, fault)
		assert.Empty(t, rest)
		assert.EqualValues(t, 77, r.Sequence)
		assert.Zero(t, r.Epoch)
		assert.Equal(t, AppendVersion(nil, version), raw[1:3])
		m, rest, ok := NextHandshake(r.Fragment())
		require.True(t, ok)
		assert.Empty(t, rest)
		assert.EqualValues(t, MessageHelloVerifyRequest, m.Type)
		assert.Zero(t, m.MessageSeq)
		assert.True(t, m.Complete())
		assert.Equal(t, append(AppendVersion(nil, version), 3, 1, 2, 3), m.Body)
	}
}

func TestOffersVersion12(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		versions []byte
		want     bool
	}{
		{nil, true}, {[]byte{254, 252}, false}, {[]byte{254, 252, 254, 253}, true}, {[]byte{254, 255}, true}, {[]byte{3, 4}, false},
	} {
		assert.Equal(t, test.want, ClientHello{versions: test.versions}.OffersVersion12(), test.versions)
	}
	body := cookieHello()
	body = append(body[:len(body)-6], 0, 7, 0, 43, 0, 3, 2, 254, 252)
	hello, ok := ParseClientHelloBody(body)
	require.True(t, ok)
	assert.False(t, hello.OffersVersion12())
}

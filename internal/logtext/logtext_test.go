// SPDX-License-Identifier: MIT

package logtext

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
)

func TestNameIsQuotedAndCut(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"":                                      `""`,
		"device":                                `"device"`,
		"a\nb":                                  `"a\nb"`,
		"a\"b":                                  `"a\"b"`,
		"\x1b[2J":                               `"\x1b[2J"`,
		"\xff":                                  `"\xff"`,
		"Gerät":                                 `"Gerät"`,
		"a\u202eb":                              `"a\u202eb"`, // writes from right to left
		strings.Repeat("x", 64):                 `"` + strings.Repeat("x", 64) + `"`,
		strings.Repeat("x", 65):                 `"` + strings.Repeat("x", 64) + `"... (1 bytes more)`,
		strings.Repeat("x", 60_000):             `"` + strings.Repeat("x", 64) + `"... (59936 bytes more)`,
		strings.Repeat("x", 63) + "ä":           `"` + strings.Repeat("x", 63) + `"... (2 bytes more)`,
		strings.Repeat("x", 62) + "ä":           `"` + strings.Repeat("x", 62) + `ä"`,
		strings.Repeat("x", 61) + "\U0001f600y": `"` + strings.Repeat("x", 61) + `"... (5 bytes more)`,
	} {
		assert.Equal(t, want, Name(name))
		assert.Equal(t, want, Name([]byte(name)))
	}
	assert.Len(t, Name(strings.Repeat("\x80", 65)), 2+4*61+len("... (4 bytes more)"), "no character is found to end at")
}

func TestErrorIsOneShortLine(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                         ``,
		`no "device" here`:         `no "device" here`,
		"Gerät":                    `Gerät`,
		"\uFFFD":                   "\uFFFD",
		"a\nb":                     `"a\nb"`,
		"a\r\"b\"":                 `"a\r\"b\""`,
		"a\u2028b":                 `"a\u2028b"`, // a line separator
		"a\xffb":                   `"a\xffb"`,
		strings.Repeat("x", 256):   strings.Repeat("x", 256),
		strings.Repeat("x", 300):   strings.Repeat("x", 256) + "... (44 bytes more)",
		strings.Repeat("\n", 1000): `"` + strings.Repeat(`\n`, 256) + `"... (744 bytes more)`,
	} {
		assert.Equal(t, want, Error(errors.New(text)))
	}
	assert.Equal(t, `"a\nb"`, Error(errors.Join(errors.New("a"), errors.New("b"))))
	assert.Equal(t, "<nil>", Error(nil))
}

func FuzzTextIsShortAndPrintable(f *testing.F) {
	f.Add([]byte("device"))
	f.Add([]byte("a\nb\xff\u2028"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, text := range []string{Name(b), Error(errors.New(string(b)))} {
			if !utf8.ValidString(text) || !printable(text) || len(text) > 4*maxError+40 {
				t.Errorf("%q", text)
			}
		}
	})
}

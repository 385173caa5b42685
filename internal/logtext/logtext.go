// SPDX-License-Identifier: MIT

// Package logtext makes text for a log out of what comes from outside: PSK identities,
// server names, and errors that can contain them. Its strings are short, have one line, and
// have no characters that control a terminal, whatever the handler of the log does.
package logtext

import (
	"fmt"
	"strconv"
	"unicode/utf8"
)

// How many bytes of a text are kept, before it is quoted. Quoting makes a byte that cannot
// be printed four bytes long.
const (
	maxName  = 64  // of an identity or a server name, which a client can make 65535 bytes long
	maxError = 256 // of an error, which can repeat them
)

// Name returns a PSK identity, a server name or another name that a client chooses, always
// quoted, so that its end can be seen. At most 64 bytes of it are kept. How many are left
// out is said after the closing quote.
func Name[T string | []byte](name T) string {
	kept, rest := cut(string(name), maxName)
	return strconv.Quote(kept) + mark(rest)
}

// Error returns the text of an error. It is quoted if it has characters that cannot be
// printed, line breaks included. At most 256 bytes of it are kept. How many are left out is
// said at the end.
func Error(err error) string {
	if err == nil {
		return "<nil>"
	}
	kept, rest := cut(err.Error(), maxError)
	if !printable(kept) {
		kept = strconv.Quote(kept)
	}
	return kept + mark(rest)
}

// cut returns at most limit bytes of s, and how many bytes follow them. It does not divide
// a character.
func cut(s string, limit int) (kept string, rest int) {
	if len(s) <= limit {
		return s, 0
	}
	end := limit
	for end > limit-utf8.UTFMax+1 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end], len(s) - end
}

// mark says how many bytes were left out.
func mark(rest int) string {
	if rest == 0 {
		return ""
	}
	return fmt.Sprintf("... (%d bytes more)", rest)
}

// printable reports whether a text is valid UTF-8 of characters that strconv.Quote leaves
// as they are.
func printable(s string) bool {
	for _, r := range s {
		if !strconv.IsPrint(r) {
			return false
		}
	}
	return utf8.ValidString(s)
}

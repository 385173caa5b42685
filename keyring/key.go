// SPDX-License-Identifier: MIT

package keyring

import (
	"fmt"
	"log/slog"
)

// Key encrypts and authenticates. All servers that open each other's values need the same
// keys.
//
// A Key that is printed, logged or marshalled to JSON shows only its ID. Package fmt calls no
// methods of an unexported field, however, nor of an argument of the verb %p: in both
// cases it prints the Secret.
type Key struct {
	// ID is stored with everything that the key has sealed. It must not be used for
	// another secret while values of the first secret exist.
	ID uint32
	// Secret must come from a cryptographic source of randomness, such as crypto/rand.
	Secret [32]byte `json:"-"`
}

// Format implements fmt.Formatter.
func (k Key) Format(f fmt.State, _ rune) { _, _ = fmt.Fprintf(f, "{ID:%d}", k.ID) }

// LogValue implements slog.LogValuer.
func (k Key) LogValue() slog.Value { return slog.GroupValue(slog.Uint64("ID", uint64(k.ID))) }

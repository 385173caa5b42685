// SPDX-License-Identifier: MIT

package handshake

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"

	"github.com/go-dsm/dsm/internal/record"
)

// KeyLog gets each line that pion writes for its key log. That is how the master secret of a
// full handshake is known while the handshake runs. The lines are passed on to the user's
// writer.
type KeyLog struct {
	User io.Writer // may be nil
	// MasterSecret, if not nil, is called with the master secret.
	MasterSecret func(secret []byte)
	// ClientRandom, if not nil, replaces the random in the line. In an abbreviated
	// handshake pion writes the server's there, but tools look a session up by the
	// client's.
	ClientRandom *record.Random
}

// Write implements io.Writer.
func (k KeyLog) Write(line []byte) (int, error) {
	label, rest, _ := bytes.Cut(line, []byte(" "))
	if _, last, ok := bytes.Cut(rest, []byte(" ")); ok {
		if k.ClientRandom != nil {
			line = fmt.Appendf(nil, "%s %x %s", label, *k.ClientRandom, last)
		}
		if secret, err := hex.AppendDecode(nil, bytes.TrimSpace(last)); err == nil && k.MasterSecret != nil {
			k.MasterSecret(secret)
		}
	}
	if k.User != nil {
		return k.User.Write(line)
	}
	return len(line), nil
}

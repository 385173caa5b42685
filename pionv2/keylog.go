// SPDX-License-Identifier: MIT

package pionv2

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"

	"github.com/go-dsm/dsm/internal/record"
)

// keyLog gets each line that pion writes for dtls.Config.KeyLogWriter. That is how the
// master secret of a full handshake is known while the handshake runs. The lines are
// passed on to the user's writer.
type keyLog struct {
	user io.Writer // may be nil
	// masterSecret, if not nil, is called with the master secret.
	masterSecret func(secret []byte)
	// clientRandom, if not nil, replaces the random in the line. In an abbreviated
	// handshake pion writes the server's there, but tools look a session up by the
	// client's.
	clientRandom *record.Random
}

func (k keyLog) Write(line []byte) (int, error) {
	if fields := bytes.Fields(line); len(fields) == 3 {
		if k.clientRandom != nil {
			line = fmt.Appendf(nil, "%s %x %s\n", fields[0], *k.clientRandom, fields[2])
		}
		if secret, err := hex.DecodeString(string(fields[2])); err == nil && k.masterSecret != nil {
			k.masterSecret(secret)
		}
	}
	if k.user != nil {
		return k.user.Write(line)
	}
	return len(line), nil
}

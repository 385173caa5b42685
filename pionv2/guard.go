// SPDX-License-Identifier: MIT

package pionv2

import (
	"bytes"
	"encoding/hex"
	"io"

	"github.com/go-dsm/dsm/internal/record"
)

// guard opens a client's sealed handshake records before pion does, where the suite
// is a CBC one: pion slices out of bounds, in a goroutine of its own, if the padding
// is sound and longer than what it should leave for the MAC. Whoever gets as far as
// sealing a Finished, and with a certificate suite that is anybody, could end the
// process. What does not open here does not reach pion.
type guard struct {
	session *record.Session // nil until the master secret is known
	waiting [][]byte        // records that came before
}

// maxWaiting bounds them: a Finished and its repetitions.
const maxWaiting = 4

// feedSealed gives pion a handshake record of the next epoch, or keeps it until it
// can be checked, and says whether there was room for it.
func (t *transport) feedSealed(raw []byte) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.guard == nil:
		return t.feed(raw)
	case t.guard.session == nil:
		if len(t.guard.waiting) == maxWaiting {
			return false
		}
		t.guard.waiting = append(t.guard.waiting, bytes.Clone(raw))
		return true
	}
	return t.feedCheckedLocked(raw)
}

// feedCheckedLocked gives pion a record if it is the client's.
func (t *transport) feedCheckedLocked(raw []byte) bool {
	r, _, _ := record.Next(raw)
	if _, err := t.guard.session.Open(nil, r); err != nil {
		return true // not for want of room
	}
	return t.feed(raw)
}

// keyLog gets each line that pion writes for dtls.Config.KeyLogWriter, which is how
// the master secret is known while the handshake runs, and without decoding pion's
// gob after it. The lines are passed on to the user's writer.
type keyLog struct {
	transport *transport
	random    record.Random
	user      io.Writer // may be nil
}

func (k keyLog) Write(line []byte) (int, error) {
	t := k.transport
	t.mu.Lock()
	if fields := bytes.Fields(line); len(fields) == 3 {
		secret := make([]byte, hex.DecodedLen(len(fields[2])))
		if _, err := hex.Decode(secret, fields[2]); err == nil {
			t.secret = secret
		}
	}
	if t.guard != nil && t.guard.session == nil {
		// Without a session nothing reaches pion, and the handshake times out.
		t.guard.session, _ = record.New(record.Config{
			Suite: t.hello.Suite, MasterSecret: t.secret,
			ClientRandom: k.random, ServerRandom: t.hello.Random, Epoch: 1,
		})
		if t.guard.session != nil {
			for _, raw := range t.guard.waiting {
				t.feedCheckedLocked(raw)
			}
			t.guard.waiting = nil
		}
	}
	t.mu.Unlock()
	if k.user != nil {
		return k.user.Write(line)
	}
	return len(line), nil
}

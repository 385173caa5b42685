// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"iter"

	"github.com/go-dsm/dsm"
)

// Slots returns the numbers of the slots that the listener has taken, from 0, least recently
// used first, each with its established session. The session is nil if the slot has a handshake
// in progress. Apart from that Slots does as Sessions does.
func (l *Listener) Slots() iter.Seq2[int, *Conn] {
	return func(yield func(int, *Conn) bool) {
		for session, state := range l.table.All() {
			p := session.Value
			if p.listener != l {
				continue
			}
			slot := p.Slot()
			if slot < 0 {
				continue // its handshake has just begun
			}
			var c *Conn
			if state == dsm.StateEstablished {
				c = p.Conn()
			}
			if !yield(slot, c) {
				return
			}
		}
	}
}

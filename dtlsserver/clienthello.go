// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/internal/record"
)

// firstRecord takes the datagram of a peer that has no slot. It starts a handshake if
// the datagram is exactly one record with one whole ClientHello, the first message of a
// client (message_seq 0). Anything else, such as the late flight of a client whose
// session has ended, would start a handshake that never completes.
func (l *Listener) firstRecord(from route, datagram []byte) {
	r, rest, fault := record.Next(datagram)
	if fault != record.NoFault {
		l.counters.malformed.Add(1)
		return
	}
	hello, ok := record.ParseClientHello(r)
	if !ok || len(rest) != 0 || hello.MessageSeq != 0 {
		l.counters.stray.Add(1)
		return
	}
	l.firstClientHello(from, r, hello)
}

// firstClientHello starts the handshake of a peer that has no slot, if there is room.
func (l *Listener) firstClientHello(from route, r record.Record, hello record.ClientHello) {
	l.countRefusal(l.admission.admit(from.peer.Addr(), false, func() *ticket {
		p := &Peer{listener: l, addr: from.peer}
		p.mu.Lock()
		defer p.mu.Unlock()
		previous, ours := p.holdSlotLocked(dsm.StateHandshake)
		switch {
		case ours:
			return l.startLocked(p, from, r, hello)
		case previous == dsm.NoSpace: // another listener of the table was faster
			l.counters.noRoom.Add(1)
		default: // the reader of another socket was
			l.counters.stray.Add(1)
		}
		return nil
	}))
}

func (l *Listener) countRefusal(cause refusal) {
	switch cause {
	case noRoom:
		l.counters.noRoom.Add(1)
	case shareTaken:
		l.counters.sourceShare.Add(1)
	case tooEarly, alreadyEnded:
		l.counters.plaintext.Add(1) // a client repeats it
	}
}

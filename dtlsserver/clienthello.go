// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/internal/record"
)

// firstFlight takes the datagram of a peer that has no slot. It starts a handshake if
// the datagram can be a client's first flight, and returns what follows its first record.
// Anything else, such as the late flight of a client whose session has ended, would start a
// handshake that never completes.
func (l *Listener) firstFlight(from route, datagram []byte) (rest []byte) {
	r, rest, fault := record.Next(datagram)
	switch {
	case fault != record.NoFault:
		l.counters.malformed.Add(1)
	case !isFirstFlight(datagram):
		l.counters.stray.Add(1)
	case l.firstClientHello(from, r):
		return rest
	}
	return nil
}

// isFirstFlight reports whether a datagram holds nothing but a ClientHello that is the
// first message of a client (message_seq 0), or fragments of one (RFC 6347 section 4.2.3).
func isFirstFlight(datagram []byte) bool {
	length, received := 0, 0
	for len(datagram) > 0 {
		r, after, fault := record.Next(datagram)
		if fault != record.NoFault || r.Type != record.TypeHandshake || r.Epoch != 0 || len(r.Fragment()) == 0 {
			return false
		}
		datagram = after
		for rest := r.Fragment(); len(rest) > 0; {
			f, after, ok := record.NextHandshake(rest)
			if !ok || f.Type != record.MessageClientHello || f.MessageSeq != 0 || len(f.Body) == 0 || length != 0 && f.Length != length {
				return false
			}
			if f.Complete() {
				if _, ok := record.ParseClientHelloBody(f.Body); !ok {
					return false
				}
			}
			rest, length = after, f.Length
			if received += len(f.Body); received > length {
				return false
			}
		}
	}
	return length > 0
}

// firstClientHello starts the handshake of a peer that has no slot, if there is room, and
// reports whether it did.
func (l *Listener) firstClientHello(from route, r record.Record) bool {
	cause := l.admission.admit(from.peer.Addr(), false, func() *ticket {
		p := &Peer{listener: l, addr: from.peer}
		p.mu.Lock()
		defer p.mu.Unlock()
		previous, ours := p.holdSlotLocked(dsm.StateHandshake)
		switch {
		case ours:
			return l.startLocked(p, from, r)
		case previous == dsm.NoSpace: // another listener of the table was faster
			l.counters.noRoom.Add(1)
		default: // the reader of another socket was
			l.counters.stray.Add(1)
		}
		return nil
	})
	l.countRefusal(cause)
	return cause == admitted
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

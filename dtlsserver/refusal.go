// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"log/slog"
	"time"
)

// refusal says why a handshake was not admitted.
type refusal uint8

const (
	admitted     refusal = iota
	noRoom               // too many handshakes, or no free slot
	shareTaken           // too many handshakes of the same network
	addressTaken         // too many handshakes of the same address
	sessionsFull         // Config.WhenFull refuses newcomers
	stopped              // no handshake starts any more
	notNew               // the ClientHello belongs to a handshake in progress, or to the session
	notStarted           // start returned no ticket
)

// word returns the word for a ClientHello that was refused. It reports false for those that
// were not, or have been counted as something else.
func (r refusal) word() (word, bool) {
	switch r {
	case noRoom:
		return helloNoRoom, true
	case shareTaken:
		return helloSourceShare, true
	case addressTaken:
		return helloAddressShare, true
	case sessionsFull:
		return helloSessionsFull, true
	case stopped:
		return helloClosing, true
	default:
		return 0, false
	}
}

// refuse counts a first ClientHello that started no handshake.
func (l *Listener) refuse(from route, cause refusal) {
	if w, ok := cause.word(); ok {
		l.countRefusal(from, w)
	}
}

// countRefusal counts a ClientHello that has begun no handshake. Locks may be held.
func (l *Listener) countRefusal(from route, w word) {
	l.counters.add(w)
	l.events.note(event{what: w.event(), level: slog.LevelInfo, text: "ClientHello refused", peer: from.peer, refuses: true}, time.Now())
}

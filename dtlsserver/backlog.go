// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"bytes"
	"container/list"
	"time"

	"github.com/go-dsm/dsm/internal/lockorder"
)

// backlog has first flights for which there was no room. When a handshake has ended the
// newest one is started. Without it the clients would have to repeat their ClientHello at
// the right moment, and each time they wait twice as long for the next one.
//
// The newest comes first because under a flood the oldest ones would fill all of the
// backlog and each one would be answered late. A client that repeats its flight is the
// newest again.
type backlog struct {
	crowd, maxFlights, maxBytes int // set in init, never changed

	mu lockorder.Mutex[lockorder.Leaf]
	// mu guards the following.
	flights    map[uint64]*list.Element // by firstFlight.key; each Value is a *waitingFlight
	noRoom     list.List                // those refused for noRoom, newest first
	shareTaken list.List                // those refused for shareTaken, newest first
	bytes      int
}

// waitingFlight is a first flight in the backlog.
type waitingFlight struct {
	firstFlight
	cause refusal // noRoom or shareTaken
}

// listOf returns the list of those that were refused for a cause.
func (b *backlog) listOf(cause refusal) *list.List {
	if cause == shareTaken {
		return &b.shareTaken
	}
	return &b.noRoom
}

func (b *backlog) init(handshakes int) {
	b.crowd, b.maxFlights, b.maxBytes = max(1, handshakes/crowdPart), handshakes*backlogFactor, backlogBytes
	b.flights = map[uint64]*list.Element{}
}

// put takes a flight that was refused, instead of an earlier copy of it. The datagram is
// the backlog's.
func (b *backlog) put(f firstFlight, cause refusal) {
	if f.size() > b.maxBytes {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.removeLocked(f.key)
	b.flights[f.key] = b.listOf(cause).PushFront(&waitingFlight{f, cause})
	b.bytes += f.size()
	for _, list := range [...]*list.List{&b.noRoom, &b.shareTaken} { // what nobody has taken
		for e := list.Back(); e != nil && f.arrived.Sub(e.Value.(*waitingFlight).arrived) >= maxFlightAge; e = list.Back() {
			b.removeLocked(e.Value.(*waitingFlight).key)
		}
	}
	for len(b.flights) > b.maxFlights || b.bytes > b.maxBytes {
		longer := &b.noRoom
		if b.shareTaken.Len() > longer.Len() {
			longer = &b.shareTaken
		}
		b.removeLocked(longer.Back().Value.(*waitingFlight).key)
	}
}

// take removes the newest flight, one whose network has its share only if there is no
// other, and returns it. It reports false if there is none.
func (b *backlog) take(now time.Time) (firstFlight, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, cause := range [...]refusal{noRoom, shareTaken} {
		for list := b.listOf(cause); list.Len() > 0; {
			f := list.Front().Value.(*waitingFlight).firstFlight
			b.removeLocked(f.key)
			if now.Sub(f.arrived) < maxFlightAge {
				return f, true
			}
		}
	}
	return firstFlight{}, false
}

// remove forgets a flight.
func (b *backlog) remove(key uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.removeLocked(key)
}

func (b *backlog) removeLocked(key uint64) {
	e := b.flights[key]
	if e == nil {
		return
	}
	delete(b.flights, key)
	w := e.Value.(*waitingFlight)
	b.listOf(w.cause).Remove(e)
	b.bytes -= w.size()
}

// isCrowded reports whether many flights wait.
func (b *backlog) isCrowded() bool { return b.len() >= b.crowd }

// len returns how many flights wait.
func (b *backlog) len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.flights)
}

// updateBacklog puts a first flight that was refused for lack of room into the backlog, and
// removes any other one.
func (l *Listener) updateBacklog(f firstFlight, cause refusal) {
	switch cause {
	case noRoom, shareTaken:
		f.datagram, f.waited = bytes.Clone(f.datagram), true
		l.backlog.put(f, cause)
	default:
		l.backlog.remove(f.key)
	}
}

// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/go-dsm/dsm/internal/lockorder"
	"github.com/go-dsm/dsm/internal/logtext"
)

// events bounds what is told of drops, refusals and ends: of each word and network a few in an
// interval. The log gets them, and Refusals those that say why a client was refused. A word has
// a window for each of eventNetworks networks, and all others share one: a flood from addresses
// that somebody makes up is one network.
type events struct {
	// debug: the log takes what is of level Debug, as told by its handler within the last second.
	// The handler is the application's, so nobody asks it who holds a lock.
	debug atomic.Bool

	mu lockorder.Mutex[lockorder.Leaf]
	// mu guards the following.
	windows  map[eventKey]*eventWindow
	networks [numEvents]int         // how many windows a word has in the map
	others   [numEvents]eventWindow // of all further networks
	waiting  []event                // for tellWaiting
	refusals [maxRefusals]Refusal   // a ring
	refused  int                    // how many were put into it
}

// eventKey is what has a rate of its own. In what take returns the zero Prefix stands for all
// further networks.
type eventKey struct {
	what    eventID
	network netip.Prefix
}

// eventWindow is an interval of a key.
type eventWindow struct {
	began   time.Time // zero: it has not
	told    int
	leftOut uint64 // since the last one that was told
	refusal int    // events.refused when the last one was put into refusals; 0: none was
	level   slog.Level
}

// event is a drop, a refusal or an end.
type event struct {
	what    eventID
	level   slog.Level
	text    string // of the log line
	peer    netip.AddrPort
	err     error // nil: there is no more to say
	refuses bool  // for Refusals
	leftOut uint64
}

func (e *events) init() {
	e.windows = map[eventKey]*eventWindow{}
}

// admit reports whether an event is told, and how many like it were left out before it.
func (e *events) admit(v *event, now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.admitLocked(v, now)
}

func (e *events) admitLocked(v *event, now time.Time) bool {
	w := e.windowLocked(v)
	if w.began.IsZero() || now.Sub(w.began) >= eventInterval {
		w.began, w.told, w.level = now, 0, v.level
	}
	if w.told == eventBurst {
		w.leftOut++
		if w.refusal > max(0, e.refused-maxRefusals) { // it is still there
			e.refusals[(w.refusal-1)%maxRefusals].LeftOut++
		}
		return false
	}
	w.told++
	v.leftOut, w.leftOut = w.leftOut, 0
	if v.refuses {
		detail := ""
		if v.err != nil {
			detail = logtext.Error(v.err)
		}
		e.refusals[e.refused%maxRefusals] = Refusal{Time: now, Peer: v.peer, Kind: v.what.kind(), Word: v.what.String(), Detail: detail}
		e.refused++
		w.refusal = e.refused
	}
	return true
}

func (e *events) windowLocked(v *event) *eventWindow {
	key := eventKey{v.what, networkOf(v.peer.Addr())}
	if w := e.windows[key]; w != nil {
		return w
	}
	if e.networks[v.what] == eventNetworks {
		return &e.others[v.what]
	}
	w := new(eventWindow)
	e.windows[key] = w
	e.networks[v.what]++
	return w
}

// note notes an event of which the reader of a socket, or somebody who holds a lock, knows.
// runTeller writes it to the log. While the log hangs what exceeds maxWaiting is not written.
func (e *events) note(v event, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.admitLocked(&v, now) && len(e.waiting) < maxWaiting {
		e.waiting = append(e.waiting, v)
	}
}

// take returns the events that wait, and what was left out in windows that are over.
func (e *events) take(now time.Time) (waiting []event, leftOut map[eventKey]eventWindow) {
	e.mu.Lock()
	defer e.mu.Unlock()
	waiting, e.waiting = e.waiting, nil
	leftOut = map[eventKey]eventWindow{}
	isOver := func(key eventKey, w *eventWindow) bool {
		if now.Sub(w.began) < eventInterval {
			return false
		}
		if w.leftOut > 0 {
			leftOut[key] = *w
		}
		return true
	}
	for key, w := range e.windows {
		if isOver(key, w) {
			delete(e.windows, key)
			e.networks[key.what]--
		}
	}
	for id := range e.others {
		if w := &e.others[id]; !w.began.IsZero() && isOver(eventKey{what: eventID(id)}, w) {
			*w = eventWindow{}
		}
	}
	return waiting, leftOut
}

// tell writes an event to the log at once, if the rate allows it. No lock may be held.
func (l *Listener) tell(v event) {
	if v.refuses || l.log.Enabled(context.Background(), v.level) {
		if l.events.admit(&v, time.Now()) {
			l.write(v)
		}
	}
}

func (l *Listener) write(v event) {
	lockorder.AssertNone("Config.Logger")
	attrs := []slog.Attr{slog.Any("peer", v.peer), slog.String("reason", v.what.String())}
	if v.err != nil {
		attrs = append(attrs, slog.String("error", logtext.Error(v.err)))
	}
	if v.leftOut > 0 {
		attrs = append(attrs, slog.Uint64("left_out", v.leftOut))
	}
	l.log.LogAttrs(context.Background(), v.level, v.text, attrs...)
}

// noteLevel asks the log's handler whether it takes what is of level Debug. No lock may be held.
func (l *Listener) noteLevel() {
	lockorder.AssertNone("Config.Logger")
	l.events.debug.Store(l.log.Enabled(context.Background(), slog.LevelDebug))
}

// runTeller writes to the log what others have noted, until the listener is closed. The log can
// wait, so nothing else is done by this goroutine.
func (l *Listener) runTeller() {
	ticker := time.NewTicker(tellInterval)
	defer ticker.Stop()
	defer func() { l.tellWaiting(time.Now().Add(eventInterval)) }() // all that is left
	for {
		select {
		case <-l.life.done:
			return
		case now := <-ticker.C:
			l.noteLevel()
			l.tellWaiting(now)
		}
	}
}

// tellWaiting writes to the log what the readers have noted, and what was left out.
func (l *Listener) tellWaiting(now time.Time) {
	waiting, leftOut := l.events.take(now)
	for _, v := range waiting {
		l.write(v)
	}
	for key, w := range leftOut {
		network := key.network.String()
		if !key.network.IsValid() {
			network = "others"
		}
		l.log.Log(context.Background(), w.level, "left out of the log", "kind", key.what.kind(), "reason", key.what.String(), "network", network, "left_out", w.leftOut)
	}
}

// Refusal says why a client was refused: its handshake has failed, its ClientHello has begun
// none, or its session was ended as soon as it was established.
type Refusal struct {
	Time   time.Time
	Peer   netip.AddrPort
	Kind   Kind   // HandshakeResult, HelloRefusal or SessionEnd
	Word   string // as in Stats.Counts
	Detail string // an error's text, or empty
	// LeftOut is how many of the same word and network came after this one, and were left out
	// until the next one.
	LeftOut uint64
}

// Refusals returns the last refusals, newest first, at most 100. The rate limit of the log
// holds for them too, whether there is a Config.Logger or not.
func (l *Listener) Refusals() []Refusal {
	e := &l.events
	e.mu.Lock()
	defer e.mu.Unlock()
	n := min(e.refused, maxRefusals)
	last := make([]Refusal, 0, n)
	for i := e.refused - n; i < e.refused; i++ {
		last = append(last, e.refusals[i%maxRefusals])
	}
	slices.Reverse(last)
	return last
}

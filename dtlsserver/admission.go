// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/go-dsm/dsm/internal/lockorder"
)

// admission decides which handshakes may start, and which have to end for them. It
// knows counts, the networks that handshakes come from, and whether the table has a
// free slot. It knows no socket and no handshake, only their tickets.
//
// A handshake has one of a fixed number of places. While all are taken, the first
// ClientHello of a newcomer is not answered: the client repeats it. A client that was
// asked for its cookie repeats its second ClientHello instead, which no other handshake can
// answer. So its handshake keeps its place for as long as the client's answer may take:
// see type patience. Where the server draws the cookies, a handshake begins with the
// ClientHello that has returned one, and its client is validated from the start.
type admission struct {
	// Set in init, never changed.
	sessions       int         // Config.Sessions
	places         int         // Config.Handshakes
	newcomers      int         // of places: what newcomers can have
	pressure       int         // of newcomers: those beyond which a network has no more than its share
	perSource      int         // Config.HandshakesPerSource
	patient        int         // of places: how many handshakes wait for their cookie for longPatience
	maxLookingUp   int         // of places: how many wait for Config.Resumption
	maxRunning     int         // handshakes that have not ended entirely
	refuseWhenFull bool        // Config.WhenFull is RefuseNewcomer
	slotIsFree     func() bool // reports whether the table has a free slot

	// established counts the sessions. It is raised only with mu held, so that it
	// never exceeds sessions, and lowered with the lock of the session's peer held.
	established atomic.Int64

	mu lockorder.Mutex[lockorder.Admission]
	// mu guards the following.
	stopped   bool                     // for good: Close or Shutdown was called
	paused    bool                     // Save writes
	running   int                      // handshakes that have not ended entirely, with or without a ticket
	lookingUp int                      // tickets whose session is being looked up
	queues    [numClasses]queues       // all tickets
	sources   map[netip.Prefix]*queues // of newcomer, by network; none is empty
	named     map[uint64]int           // handshakes of returning clients, by keyOf the session that they name
	patience  patience
	drained   chan struct{} // closed when no session is left; nil until somebody waits
}

func (a *admission) init(config *Config, isCrowded func() bool) {
	a.sessions, a.places, a.perSource = config.Sessions, config.Handshakes, config.HandshakesPerSource
	reserved := a.places / reservedPart
	a.newcomers = a.places - reserved
	a.pressure = a.newcomers - a.newcomers/pressurePart
	a.patient = a.places / patientPart
	a.maxLookingUp = (reserved + 1) / 2
	a.maxRunning = a.places + a.places/endingPart + minEnding
	a.patience = patience{limit: config.HandshakeTimeout, isCrowded: isCrowded, began: time.Now()}
	a.refuseWhenFull = config.WhenFull == RefuseNewcomer
	a.slotIsFree = func() bool { return config.Table.AvailableSlots() > 0 }
	a.sources, a.named = map[netip.Prefix]*queues{}, map[uint64]int{}
}

// networkOf returns the network of an address: an IPv4 /24 or an IPv6 /64.
func networkOf(addr netip.Addr) netip.Prefix {
	bits := 64
	if addr.Is4() {
		bits = 24
	}
	prefix, _ := addr.WithZone("").Prefix(bits)
	return prefix
}

// request is what a handshake needs to be admitted.
type request struct {
	addr         netip.Addr // the client's
	inSlot       bool       // its peer has a slot already, that of its session or of other handshakes
	class        clientClass
	namesSession bool // it has to be looked up whether the client is returning
	// validatedAfter is how long the client took to return its cookie, before this request. 0:
	// it has not.
	validatedAfter time.Duration
	replaces       *ticket        // a handshake of the same address, which ends for this one; or nil
	start          func() *ticket // starts the handshake, with mu held, and returns its ticket
}

// admit admits one more handshake, if there is room, or if other handshakes can be
// displaced for it.
func (a *admission) admit(r request) refusal {
	a.mu.Lock()
	defer a.mu.Unlock()
	prefix := networkOf(r.addr)
	lookingUp := r.namesSession && r.class == newcomer && a.lookingUp < a.maxLookingUp
	if lookingUp {
		r.class = returning // until Config.Resumption has said more
	}
	maxRunning := a.maxRunning
	if r.class == newcomer {
		maxRunning -= a.places - a.newcomers
	}
	if cause := a.refusesAllLocked(r.inSlot); cause != admitted {
		return cause
	}
	if a.running >= maxRunning {
		// Displaced handshakes take a while to end, and keep pion's memory until then.
		return noRoom
	}
	old := r.replaces
	if old != nil && old.ended {
		old = nil
	}
	if old != nil && (!old.lookingUp || r.namesSession) {
		r.class, lookingUp = old.class, old.lookingUp // the look-up of the old one ends
	} else {
		if old != nil {
			r.class = newcomer // the old one has its place only until its session was looked up
		}
		if cause := a.makeRoomLocked(r.class, prefix); cause != admitted {
			return cause
		}
	}
	if old != nil {
		a.displaceLocked(old)
	}
	if !r.inSlot && !a.slotIsFree() { // other listeners of a shared table have them all
		return noRoom
	}
	t := r.start()
	if t == nil {
		return notStarted
	}
	t.started, t.validatedAfter, t.prefix = time.Now().Add(-r.validatedAfter), r.validatedAfter, prefix
	t.validatedFirst = r.validatedAfter > 0
	kind := a.patienceKindLocked(t)
	if lookingUp {
		t.lookingUp, kind = true, validatedLong
		a.lookingUp++
	}
	a.enterLocked(t, r.class, kind)
	a.running++
	return admitted
}

// refusesAll returns why no first ClientHello is answered now, however much room there is for
// handshakes, or admitted.
func (a *admission) refusesAll(inSlot bool) refusal {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.refusesAllLocked(inSlot)
}

func (a *admission) refusesAllLocked(inSlot bool) refusal {
	switch {
	case a.stopped || a.paused:
		return stopped
	case a.refuseWhenFull && !inSlot && a.full():
		return sessionsFull
	}
	return admitted
}

// patienceKindLocked returns the kind of patience for one more handshake.
func (a *admission) patienceKindLocked(t *ticket) patienceKind {
	if t.validatedAfter > 0 {
		if a.queues[newcomer][validatedLong].Len() < a.patient {
			return validatedLong
		}
		return validated
	}
	if a.queues[newcomer][awaitsCookieLong].Len()+a.queues[returning][awaitsCookieLong].Len() < a.patient {
		return awaitsCookieLong
	}
	return awaitsCookie
}

// makeRoomLocked makes room for one more handshake of a network, if it can.
func (a *admission) makeRoomLocked(class clientClass, prefix netip.Prefix) refusal {
	all := a.queues[newcomer].len() + a.queues[returning].len()
	if class == returning {
		if all >= a.places && !a.displaceOneLocked(&a.queues[newcomer]) && !a.displaceOneLocked(&a.queues[returning]) {
			return noRoom
		}
		return admitted
	}
	newcomers := a.queues[newcomer].len()
	full := newcomers >= a.newcomers || all >= a.places
	source := a.sources[prefix]
	switch {
	case source != nil && a.perSource < a.newcomers && (full || newcomers >= a.pressure) && source.len() >= a.perSource:
		// The network has its share. It may go on, in the places that it has, and gives
		// one back while others find none.
		excess := source.len() > a.perSource
		if !a.displaceOneLocked(source) {
			return shareTaken
		}
		if full && excess {
			a.patience.next = [numPatienceKinds]time.Time{}
			a.displaceOneLocked(source)
		}
	case full && a.displaceOneLocked(&a.queues[newcomer]):
	case full && (newcomers >= a.newcomers || !a.displaceOneLocked(&a.queues[returning])):
		return noRoom // returning clients give back what they have of the newcomers' places
	}
	return admitted
}

// displaceOneLocked ends a handshake that has exceeded its patience, and reports whether
// there was one.
func (a *admission) displaceOneLocked(q *queues) bool {
	now := time.Now()
	t := a.patience.exceeded(q, now)
	if t == nil {
		return false
	}
	kind := t.waiting.kind
	a.patience.pace(kind, a.queues[newcomer][kind].Len()+a.queues[returning][kind].Len(), now)
	a.displaceLocked(t)
	return true
}

func (a *admission) displaceLocked(t *ticket) {
	a.endLocked(t)
	t.owner.displaced()
}

// displace ends a handshake for another one, if it has not ended before.
func (a *admission) displace(t *ticket) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !t.ended {
		a.displaceLocked(t)
	}
}

// classify is told whether Config.Resumption knows the session that a client has named. A
// client that it knows is returning. One that it does not know is a newcomer, for whom
// there may be no room: then the ticket has ended, refused was called with mu held, and the
// refusal says why.
func (a *admission) classify(t *ticket, known bool, refused func()) refusal {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case t.ended:
		return stopped // whoever ended it has counted that
	case known:
		a.leaveLocked(t)
		a.enterLocked(t, returning, validatedLong)
	case t.lookingUp:
		a.leaveLocked(t)
		if cause := a.makeRoomLocked(newcomer, t.prefix); cause != admitted {
			t.ended = true
			refused()
			return cause
		}
		a.enterLocked(t, newcomer, a.patienceKindLocked(t))
	}
	return admitted
}

// validate notes that a handshake's client has validated its address. It returns how long
// that took, or 0 if the ticket has ended.
func (a *admission) validate(t *ticket) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if t.ended || t.validatedAfter > 0 {
		return 0
	}
	class, kind := t.class, validated
	if t.waiting.kind == validatedLong || t.waiting.kind == awaitsCookieLong && a.queues[newcomer][validatedLong].Len() < a.patient {
		kind = validatedLong
	}
	a.leaveLocked(t)
	a.enterLocked(t, class, kind)
	t.validatedAfter = max(time.Since(t.started), 1)
	return t.validatedAfter
}

// end ends a ticket, if it has not ended before.
func (a *admission) end(t *ticket) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.endLocked(t)
}

// name reports whether a client may be a returning one by the session that it names, which
// Config.Resumption knows. A session ID is sent in plaintext: whoever has seen one could
// take all places, from as many addresses.
func (a *admission) name(t *ticket, key uint64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if t.ended || t.named != 0 || a.named[key] >= maxNamed {
		return false
	}
	t.named = key
	a.named[key]++
	return true
}

func (a *admission) forgetNameLocked(t *ticket) {
	if t.named == 0 {
		return
	}
	if a.named[t.named]--; a.named[t.named] == 0 {
		delete(a.named, t.named)
	}
	t.named = 0
}

func (a *admission) endLocked(t *ticket) {
	if t.ended {
		return
	}
	t.ended = true
	a.forgetNameLocked(t)
	a.leaveLocked(t)
}

// complete ends the ticket of a handshake that is done, and calls install with mu held.
// It returns how long the handshake took. It returns 0, and does not call install, if the
// ticket has ended before.
func (a *admission) complete(t *ticket, install func()) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if t.ended {
		return 0
	}
	a.endLocked(t)
	took := max(time.Since(t.started), 1)
	if t.validatedAfter == 0 { // the client has just validated its address, and nobody has noted that yet
		t.validatedAfter = took
	}
	validation, completion := t.validatedAfter, took-t.validatedAfter
	if t.validatedFirst {
		// The age of the cookie includes the time for which the client waited for its place. The
		// completion takes at least one round trip.
		validation = min(validation, completion)
	}
	a.patience.learn(validation, completion)
	install()
	return took
}

// install calls f with mu held: nobody else takes room. It reports true, and does not call f,
// if nothing is admitted any more.
func (a *admission) install(f func()) (stopped bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stopped || a.paused {
		return true
	}
	f()
	return false
}

// pause ends every handshake, and admits no other until resume.
func (a *admission) pause() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.paused = true
	a.displaceAllLocked()
}

// resume ends what pause began. After stop nothing is admitted all the same.
func (a *admission) resume() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.paused = false
}

// roundTrip returns a time in which the answers of most clients come, at least a second.
func (a *admission) roundTrip() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.patience.slowest == 0 {
		return firstRoundTrip
	}
	return max(a.patience.slowest, time.Second)
}

// full reports whether as many sessions are established as may be. While mu is held
// sessions can end, and none is established.
func (a *admission) full() bool { return int(a.established.Load()) >= a.sessions }

// finished notes that a handshake has ended entirely: what it held is free.
func (a *admission) finished() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.running--
}

// stop ends every handshake, and admits no other.
func (a *admission) stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stopped = true
	a.displaceAllLocked()
}

// displaceAllLocked ends every handshake.
func (a *admission) displaceAllLocked() {
	for r := range a.queues {
		for k := range a.queues[r] {
			for q := &a.queues[r][k]; q.Len() > 0; {
				a.displaceLocked(q.Front().Value.(*ticket))
			}
		}
	}
}

// hold calls f while no handshake begins and no session is established.
func (a *admission) hold(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f()
}

// waitDrained returns a channel that is closed when no session is left. It is called
// after stop: before that it may miss a session that is being established.
func (a *admission) waitDrained() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.drained == nil {
		a.drained = make(chan struct{})
		if a.established.Load() == 0 {
			close(a.drained)
		}
	}
	return a.drained
}

// sessionEnded is called after established was lowered, with no lock held.
func (a *admission) sessionEnded() {
	if a.established.Load() > 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.drained == nil || a.established.Load() > 0 { // another one was established since
		return
	}
	select {
	case <-a.drained:
	default:
		close(a.drained)
	}
}

// enterLocked gives a ticket a place in the queues.
func (a *admission) enterLocked(t *ticket, class clientClass, kind patienceKind) {
	t.class = class
	t.waiting = waiting{since: time.Now(), kind: kind, inAll: a.queues[class][kind].PushBack(t)}
	if class != newcomer {
		return
	}
	s := a.sources[t.prefix]
	if s == nil {
		s = new(queues)
		a.sources[t.prefix] = s
	}
	t.waiting.inSource = s[kind].PushBack(t)
}

// leaveLocked takes a ticket out of the queues.
func (a *admission) leaveLocked(t *ticket) {
	w := t.waiting
	a.queues[t.class][w.kind].Remove(w.inAll)
	if t.lookingUp {
		t.lookingUp = false
		a.lookingUp--
	}
	if w.inSource == nil {
		return
	}
	s := a.sources[t.prefix]
	if s[w.kind].Remove(w.inSource); s.len() == 0 {
		delete(a.sources, t.prefix)
	}
}

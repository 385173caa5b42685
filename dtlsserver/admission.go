// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"container/list"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/go-dsm/dsm/internal/lockorder"
)

// admission decides which handshakes may start, and which have to end for them. It
// knows counts, the networks that handshakes come from, and whether the table has a
// free slot. It knows no socket and no handshake, only their tickets.
//
// Under pressure it displaces the oldest handshake whose client has not validated
// its address: most handshakes of a flood never do.
type admission struct {
	// Set in init, never changed.
	sessions       int         // Config.Sessions
	handshakes     int         // Config.Handshakes
	perSource      int         // Config.HandshakesPerSource
	refuseWhenFull bool        // Config.WhenFull is RefuseNewcomer
	slotIsFree     func() bool // reports whether the table has a free slot

	// established counts the sessions. It is raised only with mu held, so that it
	// never exceeds sessions, and lowered with the lock of the session's peer held.
	established atomic.Int64

	mu lockorder.Mutex[lockorder.Admission]
	// mu guards the following.
	stopped     bool
	running     int       // handshakes that have not ended entirely, with or without a ticket
	all         list.List // of *ticket, oldest first
	unvalidated list.List // of *ticket, oldest first: those whose client has not validated its address
	sources     map[netip.Prefix]*source
	drained     chan struct{} // closed when no session is left; nil until somebody waits
}

func (a *admission) init(config *Config) {
	a.sessions, a.handshakes, a.perSource = config.Sessions, config.Handshakes, config.HandshakesPerSource
	a.refuseWhenFull = config.WhenFull == RefuseNewcomer
	a.slotIsFree = func() bool { return config.Table.AvailableSlots() > 0 }
	a.sources = map[netip.Prefix]*source{}
}

// ticket is the place that a handshake has in its admission. The admission's lock
// guards all of it but owner.
type ticket struct {
	owner displaceable // set before the ticket is admitted, never changed

	started   time.Time
	ended     bool // the ticket no longer counts
	validated bool // the client has validated its address
	source    *source

	inAll, inUnvalidated             *list.Element // of admission
	inSourceAll, inSourceUnvalidated *list.Element // of source
}

// displaceable is the owner of a ticket. displaced is called once the ticket has
// ended for another handshake, with the admission's lock held.
type displaceable interface{ displaced() }

// source is a network that handshakes come from.
type source struct {
	prefix      netip.Prefix
	all         list.List // of *ticket, oldest first
	unvalidated list.List // of *ticket, oldest first
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

// refusal says why a handshake was not admitted.
type refusal uint8

const (
	admitted     refusal = iota
	noRoom               // too many handshakes, or no free slot
	shareTaken           // too many handshakes of the same network
	stopped              // no handshake starts any more
	tooEarly             // the handshake to restart is too young, or its address is validated
	alreadyEnded         // the handshake to restart has ended
	notStarted           // start returned no ticket
)

// admit makes room for one more handshake of a client at addr. It calls start, with mu
// held, which returns the ticket of the handshake. inSlot reports whether the peer has a
// slot already, that of its established session.
func (a *admission) admit(addr netip.Addr, inSlot bool, start func() *ticket) refusal {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.admitLocked(networkOf(addr), inSlot, start)
}

// restart admits a handshake of a client that has started again with another
// ClientHello, in the place and the slot of its handshake in progress. That one has to
// be at least restartAfter old, and its address not validated: anybody can send one
// ClientHello after the other. start, which is called with mu held, ends it. If there is
// no room it is displaced nevertheless, for its client has forgotten it.
func (a *admission) restart(old *ticket, start func() *ticket) refusal {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case old.ended:
		return alreadyEnded
	case old.validated || time.Since(old.started) < restartAfter:
		return tooEarly
	}
	a.endLocked(old)
	cause := a.admitLocked(old.source.prefix, true, start)
	if cause != admitted {
		old.owner.displaced()
	}
	return cause
}

func (a *admission) admitLocked(prefix netip.Prefix, inSlot bool, start func() *ticket) refusal {
	if cause := a.makeRoomLocked(prefix, inSlot); cause != admitted {
		return cause
	}
	t := start()
	if t == nil {
		return notStarted
	}
	s := a.sources[prefix]
	if s == nil {
		s = &source{prefix: prefix}
		a.sources[prefix] = s
	}
	t.started, t.source = time.Now(), s
	t.inAll, t.inUnvalidated = a.all.PushBack(t), a.unvalidated.PushBack(t)
	t.inSourceAll, t.inSourceUnvalidated = s.all.PushBack(t), s.unvalidated.PushBack(t)
	a.running++
	return admitted
}

// makeRoomLocked makes room for one more handshake: within its network's share, and
// within the cap.
func (a *admission) makeRoomLocked(prefix netip.Prefix, inSlot bool) refusal {
	switch {
	case a.stopped:
		return stopped
	case a.refuseWhenFull && !inSlot && a.full():
		return noRoom
	case a.running >= runningFactor*a.handshakes+minHandshakes:
		// Displaced handshakes take a while to end, and keep pion's memory until then.
		return noRoom
	}
	if s := a.sources[prefix]; s != nil && s.all.Len() >= a.perSource && !a.displaceOneLocked(&s.unvalidated, &s.all) {
		return shareTaken
	}
	if a.all.Len() >= a.handshakes && !a.displaceOneLocked(&a.unvalidated, &a.all) {
		return noRoom
	}
	if !inSlot && !a.slotIsFree() { // other listeners of a shared table have them all
		return noRoom
	}
	return admitted
}

// displaceOneLocked ends the oldest handshake whose client has not validated its
// address, or else the oldest of all, if it has taken much longer than an honest
// client's takes. It reports whether there was one.
func (a *admission) displaceOneLocked(unvalidated, all *list.List) bool {
	oldest := unvalidated.Front()
	if oldest == nil {
		oldest = all.Front()
		if time.Since(oldest.Value.(*ticket).started) < stallAfter {
			return false
		}
	}
	a.displaceLocked(oldest.Value.(*ticket))
	return true
}

func (a *admission) displaceLocked(t *ticket) {
	a.endLocked(t)
	t.owner.displaced()
}

// validate notes that a handshake's client has validated its address.
func (a *admission) validate(t *ticket) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !t.ended && !t.validated {
		t.validated = true
		a.unvalidated.Remove(t.inUnvalidated)
		t.source.unvalidated.Remove(t.inSourceUnvalidated)
	}
}

// end ends a ticket, if it has not ended before.
func (a *admission) end(t *ticket) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !t.ended {
		a.endLocked(t)
	}
}

func (a *admission) endLocked(t *ticket) {
	t.ended = true
	a.all.Remove(t.inAll)
	t.source.all.Remove(t.inSourceAll)
	if !t.validated {
		a.unvalidated.Remove(t.inUnvalidated)
		t.source.unvalidated.Remove(t.inSourceUnvalidated)
	}
	if t.source.all.Len() == 0 {
		delete(a.sources, t.source.prefix)
	}
}

// complete ends the ticket of a handshake that is done, and calls install with mu held.
// It reports false, and does not call install, if the ticket has ended before.
func (a *admission) complete(t *ticket, install func()) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if t.ended {
		return false
	}
	a.endLocked(t)
	install()
	return true
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
	for a.all.Len() > 0 {
		a.displaceLocked(a.all.Front().Value.(*ticket))
	}
}

// counts returns the numbers of sessions and of handshakes.
func (a *admission) counts() (established, halfOpen int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return int(a.established.Load()), a.all.Len()
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

// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"container/heap"
	"time"

	"github.com/go-dsm/dsm/internal/lockorder"
)

// identities has the sessions of each identity, for Config.SessionsPerIdentity, and remembers
// which identities were ended lately. Without a limit it has no sessions.
type identities struct {
	limit int // Config.SessionsPerIdentity; set in init, never changed

	mu lockorder.Mutex[lockorder.Leaf]
	// mu guards the following, and all groups and their entries.
	groups      map[string]*identityGroup // by identity key; no group is empty
	joined      uint32                    // sessions that were ever added; it wraps around
	withdrawals withdrawals
}

// identityGroup has the sessions of an identity. It is a heap: the entry whose last use, as
// the group knows it, is oldest is the first. A session that is used is not moved, so that use
// costs nothing here: see leastRecentlyUsed.
type identityGroup struct {
	key     string // never changed
	entries []*identityEntry
}

// identityEntry is a session in its group.
type identityEntry struct {
	conn  *Conn          // never changed
	group *identityGroup // never changed

	lastUsed time.Duration // Conn.lastUsed when the group has last read it, and so never later than that
	joined   uint32        // identities.joined, which decides between equal times
	at       int32         // the index in group.entries; -1: it has left
}

var _ heap.Interface = (*identityGroup)(nil)

func (g *identityGroup) Len() int { return len(g.entries) }

func (g *identityGroup) Less(i, j int) bool {
	a, b := g.entries[i], g.entries[j]
	if a.lastUsed != b.lastUsed {
		return a.lastUsed < b.lastUsed
	}
	return int32(a.joined-b.joined) < 0
}

func (g *identityGroup) Swap(i, j int) {
	g.entries[i], g.entries[j] = g.entries[j], g.entries[i]
	g.entries[i].at, g.entries[j].at = int32(i), int32(j)
}

func (g *identityGroup) Push(entry any) {
	e := entry.(*identityEntry)
	e.at = int32(len(g.entries))
	g.entries = append(g.entries, e)
}

func (g *identityGroup) Pop() any {
	last := len(g.entries) - 1
	e := g.entries[last]
	g.entries[last] = nil
	g.entries = g.entries[:last]
	e.at = -1
	return e
}

func (x *identities) init(config *Config) {
	x.limit = config.SessionsPerIdentity
	x.withdrawals.keep = withdrawalFactor * config.HandshakeTimeout
	if x.limit > 0 {
		x.groups = map[string]*identityGroup{}
	}
}

// joinLocked adds a session of an identity, which is in the table. It reports false, and adds
// nothing, if the identity was ended since there were so many withdrawals. The session's peer
// is locked.
//
// So EndIdentity, which notes the withdrawal before it looks for the sessions, finds each
// session that joinLocked has reported true for.
func (x *identities) joinLocked(c *Conn, key string, withdrawals uint64) bool {
	if key == "" {
		return true
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.withdrawals.haveLocked(key, withdrawals) {
		return false
	}
	if x.limit == 0 {
		return true
	}
	g := x.groups[key]
	if g == nil {
		g = &identityGroup{key: key}
		x.groups[key] = g
	}
	x.joined++
	c.quota = &identityEntry{conn: c, group: g, lastUsed: c.lastUsed, joined: x.joined}
	heap.Push(g, c.quota)
	return true
}

// leaveLocked removes a session, if it was added. Its peer is locked.
func (x *identities) leaveLocked(c *Conn) {
	e := c.quota
	if e == nil {
		return
	}
	c.quota = nil // the user may keep the Conn, and would keep the group
	x.mu.Lock()
	defer x.mu.Unlock()
	if heap.Remove(e.group, int(e.at)); e.group.Len() == 0 {
		delete(x.groups, e.group.key)
	}
}

// isFull reports whether an identity has as many sessions as it may have. While the
// admission's lock is held sessions can leave, and none is added.
func (x *identities) isFull(key string) bool {
	if x.limit == 0 || key == "" {
		return false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	g := x.groups[key]
	return g != nil && g.Len() >= x.limit
}

// leastRecentlyUsed returns the session of an identity whose last use is oldest, or nil. now
// is the time of the call, since Listener.began. No peer may be locked.
//
// The first entry of the heap is the one if its time is right, as no other one's last use is
// before the time that the heap has. Otherwise its time is corrected, and another entry may be
// the first. Each use of a session causes one correction at most, of O(log n). A session that
// was used after now is taken for as old as the others then, which all were: so the loop ends.
func (x *identities) leastRecentlyUsed(key string, now time.Duration) *Conn {
	for {
		e, known := x.first(key)
		if e == nil {
			return nil
		}
		e.conn.peer.mu.Lock()
		lastUsed := e.conn.lastUsed
		e.conn.peer.mu.Unlock()
		if lastUsed == known || known >= now {
			return e.conn
		}
		x.correct(e, lastUsed)
	}
}

// first returns the first entry of a group, with its time, or nil.
func (x *identities) first(key string) (e *identityEntry, lastUsed time.Duration) {
	x.mu.Lock()
	defer x.mu.Unlock()
	g := x.groups[key]
	if g == nil {
		return nil, 0
	}
	return g.entries[0], g.entries[0].lastUsed
}

func (x *identities) correct(e *identityEntry, lastUsed time.Duration) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if e.at >= 0 {
		e.lastUsed = lastUsed
		heap.Fix(e.group, int(e.at))
	}
}

// identityNewcomer is a session that is about to be established.
type identityNewcomer struct {
	key         string // its identity key
	withdrawals uint64 // how many there were before its credentials were checked
	refuse      bool   // it is refused if its identity has its sessions
	// needsRoom reports whether it does not take the place of an earlier session of its identity.
	needsRoom func() bool
}

// prepareIdentityRoom does most of the work of makeIdentityRoom, before the admission's lock is
// taken.
func (l *Listener) prepareIdentityRoom(key string) {
	if l.identities.isFull(key) {
		l.identities.leastRecentlyUsed(key, time.Since(l.began))
	}
}

// makeIdentityRoom ends the least recently used sessions of a newcomer's identity while there
// are Config.SessionsPerIdentity. It returns what finishEnd is to be called with, and why the
// newcomer is refused, or 0. The admission's lock is held, and no peer is locked.
func (l *Listener) makeIdentityRoom(n identityNewcomer) (ended []ending, why Reason) {
	if l.identities.isWithdrawn(n.key, n.withdrawals) {
		return nil, Withdrawn
	}
	for l.identities.isFull(n.key) && n.needsRoom() {
		victim := l.identities.leastRecentlyUsed(n.key, time.Since(l.began))
		if victim == nil { // all have ended meanwhile
			break
		}
		if n.refuse && !victim.isInterrupted() {
			return ended, IdentityRefused
		}
		ended = append(ended, l.beginEnd(victim, IdentityReplaced))
	}
	return ended, 0
}

// isInterrupted reports whether a session is only to be closed. One of a server that has crashed
// keeps nobody out. It was last used before the crash, so it is the least recently used one.
func (c *Conn) isInterrupted() bool {
	c.peer.mu.Lock()
	defer c.peer.mu.Unlock()
	return c.stage == stageInterrupted
}

// needsIdentityRoom reports whether a handshake is the peer's still, and no session of the peer
// gives its place in an identity to the new one.
func (p *Peer) needsIdentityRoom(h *pending, key string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	isReplaced := p.conn != nil && p.conn.quota != nil && p.conn.quota.group.key == key
	return p.isPendingLocked(h) && !isReplaced
}

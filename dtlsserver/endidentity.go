// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"net"
	"slices"
	"time"

	"github.com/go-dsm/dsm/internal/lockorder"
)

// EndIdentity ends the sessions of an identity, for the case that its credentials are not
// valid any more. key is what Config.IdentityKey returns. reason is Withdrawn or ClosedByUs:
// any other reason, and an empty key, are errors. The peers are sent close_notify. EndIdentity
// returns how many sessions it has ended.
//
// The credentials have to be invalid before the call: Config.PSK must not return the key any
// more, or the configuration must refuse the certificate. A handshake that began before the
// call, whose credentials may have been checked before, makes no session: the session ends with
// Withdrawn as soon as it is established, and OnEstablished is not called. A handshake that
// begins later is not EndIdentity's concern. The same is true of Attach and Restore.
//
// With Config.Resumption no session of the identity that was made until now can be resumed
// any more, by any listener that shares the store and Config.ResumptionScope: see
// resume.Store.RevokeIdentity. If this fails EndIdentity returns the error. The sessions of
// this listener have ended all the same. Sessions that other listeners have go on, and so do
// those that were detached or saved: EndIdentity has to be called for each listener, and Attach
// and Restore check the credentials. A session that is being saved, or detached with
// Config.Journal, is not among those that EndIdentity returns. It ends if that fails.
//
// Without Config.SessionsPerIdentity EndIdentity asks Config.IdentityKey for each session of the
// listener. It may be called from a handler or a hook. After Close the error wraps
// net.ErrClosed.
func (l *Listener) EndIdentity(ctx context.Context, key string, reason Reason) (ended int, err error) {
	switch {
	case reason != Withdrawn && reason != ClosedByUs:
		return 0, l.opError("end identity", fmt.Errorf("dsm: the reason is %s: want %s or %s", reason, Withdrawn, ClosedByUs))
	case key == "":
		return 0, l.opError("end identity", errors.New("dsm: the identity key is empty"))
	case l.life.isClosed():
		return 0, l.opError("end identity", net.ErrClosed)
	}
	ended = l.endSessionsOf(key, reason)
	if l.config.Resumption == nil {
		return ended, nil
	}
	lockorder.AssertNone("Config.Resumption")
	if err = l.config.Resumption.RevokeIdentity(ctx, l.config.ResumptionScope, key); err != nil {
		err = l.opError("end identity", err)
	}
	// Until now a client whose session has just ended could resume it.
	return ended + l.endSessionsOf(key, reason), err
}

// endSessionsOf ends the sessions of an identity, and sees to it that those end that are being
// established.
func (l *Listener) endSessionsOf(key string, reason Reason) (ended int) {
	conns := l.identities.withdraw(key)
	if l.identities.limit == 0 {
		for _, c := range l.allSessions() {
			if c.IdentityKey() == key {
				conns = append(conns, c)
			}
		}
	}
	for _, c := range conns {
		e := l.beginEndOfIdentity(c, reason)
		if e.conn != nil {
			ended++
		}
		l.finishEnd(e)
	}
	return ended
}

// allSessions returns every session that was established before the call and has not ended. A
// walk through the table misses those that are used meanwhile. The sweeper has them.
func (l *Listener) allSessions() (all []*Conn) {
	found := map[*Conn]bool{}
	add := func(c *Conn) {
		if c != nil && !found[c] {
			found[c] = true
			all = append(all, c)
		}
	}
	for session := range l.table.All() {
		if session.Value.listener == l {
			add(session.Value.session())
		}
	}
	for c := range l.sweeper.all() {
		add(c)
	}
	return all
}

// withdrawals remembers which identities were ended lately. The lock of identities guards it.
type withdrawals struct {
	keep time.Duration // how long one is remembered; set in init, never changed

	count     uint64       // how many there ever were
	recent    []withdrawal // oldest first, at most maxWithdrawals
	forgotten uint64       // the number of the newest one that is not in recent any more
}

type withdrawal struct {
	key    uint64 // a hash of the identity key, which can be long
	number uint64 // from 1
	at     time.Time
}

func hashIdentity(key string) uint64 { return maphash.String(keySeed, key) }

func (w *withdrawals) addLocked(key string, now time.Time) {
	old := 0
	for old < len(w.recent) && now.Sub(w.recent[old].at) > w.keep {
		old++
	}
	if old == 0 && len(w.recent) == maxWithdrawals {
		old = 1
	}
	if old > 0 {
		w.forgotten = w.recent[old-1].number
	}
	w.recent = append(w.recent[:0], w.recent[old:]...)
	w.count++
	w.recent = append(w.recent, withdrawal{hashIdentity(key), w.count, now})
}

// haveLocked reports whether an identity was ended since there were count withdrawals, or may
// have been: if too much is forgotten, that is so for each identity.
func (w *withdrawals) haveLocked(key string, count uint64) bool {
	if count < w.forgotten {
		return true
	}
	if count == w.count {
		return false
	}
	hash := hashIdentity(key)
	for i := len(w.recent) - 1; i >= 0 && w.recent[i].number > count; i-- {
		if w.recent[i].key == hash {
			return true
		}
	}
	return false
}

// withdraw notes that an identity is ended, and returns its sessions, if identities has
// sessions.
func (x *identities) withdraw(key string) (conns []*Conn) {
	now := time.Now()
	x.mu.Lock()
	x.withdrawals.addLocked(key, now)
	var entries []*identityEntry
	if g := x.groups[key]; g != nil {
		entries = slices.Clone(g.entries)
	}
	x.mu.Unlock()
	for _, e := range entries { // their memory is read without the lock
		conns = append(conns, e.conn)
	}
	return conns
}

// withdrawalCount returns how many withdrawals there were. It is called before the credentials
// of a session are checked.
func (x *identities) withdrawalCount() uint64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.withdrawals.count
}

// isWithdrawn reports whether an identity was ended since there were count withdrawals.
func (x *identities) isWithdrawn(key string, count uint64) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return key != "" && x.withdrawals.haveLocked(key, count)
}

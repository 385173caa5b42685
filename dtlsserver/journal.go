// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"encoding/binary"
	"sync/atomic"
	"time"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/internal/journal"
	"github.com/go-dsm/dsm/internal/lockorder"
	"github.com/go-dsm/dsm/internal/logtext"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/keyring"
)

// Journal says where a listener notes its sessions, for the case that its process or machine
// crashes. After a crash the next listener with the same Dir and Keys knows the sessions.
//
// The journal has, of each session, a ceiling: a sequence number that no record is sealed with
// before a higher ceiling is on the disk. After a crash a session goes on above its ceiling,
// so no nonce comes twice, whatever was lost. It goes on at a random distance above it, less
// than 2^40 of the 2^48 numbers, so that a nonce hardly comes twice even after the whole
// directory was put back from an old copy.
//
// One goroutine writes the journal. Once Listen has returned, only Conn.Detach, Save and the
// end of the listener wait for the disk. Detach and Save see to it that nobody else has the
// sessions. Close waits at most a second.
//
// While the disk is full, slow or broken, sessions go on in memory, which Stats.JournalErrors
// counts and the log tells. Then a session ends (Exhausted) when it has used up what it has
// reserved, about 2^23 records at least.
type Journal struct {
	// Dir is a directory that exists. One listener at a time has it.
	Dir string
	// Keys are for AES-256-GCM: the first one seals, all of them open. At least one.
	Keys []keyring.Key
	// AfterCrash says what becomes of the sessions after a crash.
	AfterCrash AfterCrash
	// Interval is the time between two writes. A session that is established within it
	// before a crash is lost. Zero means DefaultJournalInterval.
	Interval time.Duration
	// BytesPerSecond bounds what is written to the disk. While more is to be written the time
	// between two entries of a session is longer. Zero means DefaultJournalRate.
	//
	// The files take at most about three times as many bytes as all sessions take in a
	// snapshot, and 4 MiB.
	BytesPerSecond int
}

// AfterCrash says what becomes of the sessions of a server that has crashed.
type AfterCrash int

const (
	// CloseSessions answers the first authentic record of each peer with close_notify. The
	// peer learns at once that it has to come back, by an abbreviated handshake if it can:
	// Config.Resumption has the session again, also if it keeps sessions in memory. The record
	// is lost. Config.OnRestored is not called.
	CloseSessions AfterCrash = iota
	// ContinueSessions goes on with the sessions. What was received since the journal was
	// last written, Interval before the crash if the disk kept up, is not known: an attacker
	// who has recorded such records can have each of them accepted once more.
	ContinueSessions
)

// dirtiness is what the journal is still to be told of a session. The other bits are the
// round for which that holds, as in journalKeeper.round: in another one it is to be told all
// of it.
type dirtiness uint8

const (
	clean       dirtiness = iota
	dirtyUpdate           // that it was used
	dirtyState            // all of it

	dirtyBits = 2
	whatDirty = 1<<dirtyBits - 1
)

// isNoted reports whether the session is pending already in a round.
func (d dirtiness) isNoted(round dirtiness) bool {
	return d&^whatDirty == round && d&whatDirty != clean
}

// journalKeeper writes the journal of a listener. A nil one does nothing.
type journalKeeper struct {
	// Set in openJournal, never changed.
	listener *Listener
	config   Journal
	limit    int          // of pending
	log      *journal.Log // used by openJournal, then by run
	requests chan func()  // what run is to do with log
	stop     chan struct{}
	stopped  chan struct{} // run has returned

	bytes, errors atomic.Uint64
	round         atomic.Uint32 // of dirtiness, shifted; each file has another one. 0: none was begun

	mu lockorder.Mutex[lockorder.Leaf]
	// mu guards the following.
	pending   fifo[unwritten] // in order
	broken    bool            // the file that is written to is not to be used: nothing is pending
	suspended bool            // the sessions are being saved: nothing is written

	// Of run:
	batch      journal.Batch
	state      []byte // of one session, and the following
	session    sessionState
	records    record.Session
	raises     []raise
	retryAt    time.Time
	backoff    time.Duration
	checkpoint int   // of pending: what is left until the new file is complete; 0: it is
	baseline   int64 // bytes of the file when it was complete
}

// unwritten is a session that the journal is still to be told of.
type unwritten struct {
	conn *Conn
	slot uint32
}

// raise is a ceiling that holds once its entry is on the disk.
type raise struct {
	conn  *Conn
	units uint32
}

// noteUseLocked notes that a session was used. The session's peer is locked, as for the other
// note methods.
func (k *journalKeeper) noteUseLocked(c *Conn) {
	if k == nil {
		return
	}
	round := dirtiness(k.round.Load())
	if c.dirty.isNoted(round) {
		return
	}
	what := dirtyUpdate
	if c.dirty != round { // the file does not have it
		what = dirtyState
	}
	c.dirty = round | what
	k.add(c)
}

// noteStateLocked notes that a session is new, or has changed in more than its use.
func (k *journalKeeper) noteStateLocked(c *Conn) {
	if k == nil || c.ended != 0 { // its slot may be another session's
		return
	}
	round := dirtiness(k.round.Load())
	if !c.dirty.isNoted(round) {
		k.add(c)
	}
	c.dirty = round | dirtyState
}

// noteEndLocked notes that a session ends. Its slot is still its own.
func (k *journalKeeper) noteEndLocked(c *Conn) {
	if k == nil || !isJournalled(c) {
		return
	}
	round := dirtiness(k.round.Load())
	if !c.dirty.isNoted(round) {
		c.dirty = round | dirtyUpdate
		k.add(c)
	}
}

// isJournalled reports whether an entry of the session can be in the journal.
func isJournalled(c *Conn) bool { return c.records.Reserved() != record.Unlimited }

func (k *journalKeeper) add(c *Conn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.broken:
		return // the next file begins with all sessions
	case k.pending.len >= k.limit: // the disk does not keep up, or hangs
		k.errors.Add(1)
		k.breakLocked()
		return
	}
	k.pending.push(unwritten{c, uint32(c.peer.handleLocked().Slot())})
}

// run writes the journal until stop is closed.
func (k *journalKeeper) run() {
	defer close(k.stopped)
	ticker := time.NewTicker(k.config.Interval)
	defer ticker.Stop()
	for {
		select {
		case <-k.stop:
			return
		case now := <-ticker.C:
			k.tick(now)
		case request := <-k.requests:
			request()
		}
	}
}

// tick writes what has come up in an interval.
func (k *journalKeeper) tick(now time.Time) {
	k.mu.Lock()
	broken, suspended := k.broken, k.suspended
	k.mu.Unlock()
	if suspended {
		return
	}
	if broken && k.backoff == 0 {
		k.listener.log.Error("journal: the disk does not keep up", "listener", k.listener.Addr())
	}
	var err error
	switch current := k.log.Size(); {
	case broken && now.Before(k.retryAt):
		return
	case broken || k.checkpoint == 0 && current > 2*k.baseline+journalMinGrowth:
		err = k.beginFile()
	}
	if err == nil {
		err = k.write(now)
	}
	if err == nil {
		k.backoff = 0
		return
	}
	k.errors.Add(1)
	k.backoff = min(max(2*k.backoff, k.config.Interval), maxJournalBackoff)
	k.retryAt = now.Add(k.backoff)
	k.listener.log.Error("journal not written: sessions go on in memory", "listener", k.listener.Addr(),
		"retry", k.backoff, "error", logtext.Error(err))
	k.mu.Lock()
	k.breakLocked()
	k.mu.Unlock()
}

func (k *journalKeeper) breakLocked() { k.broken, k.pending = true, fifo[unwritten]{} }

// beginFile begins a new file, into which all sessions are written.
func (k *journalKeeper) beginFile() error {
	if err := k.log.Begin(); err != nil {
		return err
	}
	round := (k.round.Load() + 1<<dirtyBits) & (1<<8 - 1)
	k.round.Store(max(round, 1<<dirtyBits))
	k.mu.Lock()
	k.broken = false
	k.mu.Unlock()
	k.addAll()
	k.mu.Lock()
	k.checkpoint = max(k.pending.len, 1)
	k.mu.Unlock()
	return nil
}

// addAll notes all sessions, except those that were noted since the round has begun. A walk may
// miss those that are used meanwhile: they note themselves.
func (k *journalKeeper) addAll() {
	l := k.listener
	for session, state := range l.table.All() {
		if p := session.Value; state == dsm.StateEstablished && p.listener == l {
			p.mu.Lock()
			if p.conn != nil {
				k.noteStateLocked(p.conn)
			}
			p.mu.Unlock()
		}
	}
}

// write writes what is pending, as much of it as the rate allows.
func (k *journalKeeper) write(now time.Time) error {
	k.mu.Lock()
	pending := k.pending.len // without those that come meanwhile
	k.mu.Unlock()
	k.batch.Reset()
	k.raises = k.raises[:0]
	budget := int(float64(k.config.BytesPerSecond) * k.config.Interval.Seconds())
	written := 0
	for written < pending && (written == 0 || k.batch.Len() < budget) {
		next, ok := k.next()
		if !ok { // broken meanwhile
			break
		}
		k.append(&k.batch, next, now)
		written++
	}
	k.mu.Lock()
	broken := k.broken
	k.mu.Unlock()
	if k.batch.Len() > 0 {
		before := k.log.Size()
		if err := k.log.Append(&k.batch); err != nil {
			return err
		}
		k.bytes.Add(uint64(k.log.Size() - before))
	}
	k.raise()
	if k.checkpoint == 0 || broken { // broken: the file does not get all sessions
		return nil
	}
	if k.checkpoint -= written; k.checkpoint > 0 && written > 0 {
		return nil
	}
	k.checkpoint = 0
	if err := k.log.Complete(); err != nil {
		return err
	}
	k.baseline = k.log.Size()
	return nil
}

// next takes the next session that is pending.
func (k *journalKeeper) next() (unwritten, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.pending.pop()
}

// append appends the entry of a session to a batch.
func (k *journalKeeper) append(b *journal.Batch, u unwritten, now time.Time) {
	c := u.conn
	c.peer.mu.Lock()
	defer c.peer.mu.Unlock()
	round := dirtiness(k.round.Load())
	what := c.dirty & whatDirty
	if c.dirty&^whatDirty != round {
		what = dirtyState
	}
	c.dirty = round // clean
	units := c.records.Reserved()
	switch {
	case c.ended != 0 || c.records.IsFrozen(): // frozen: it is being detached
		if isJournalled(c) {
			b.Clear(u.slot)
		}
	case what == dirtyState || !isJournalled(c) || record.FirstAfter(units) < c.records.NextSequence()+reservation/2:
		ceiling := c.records.UnitsFor(reservation)
		s := &k.session
		c.stateLocked(s, now)
		s.unread = nil
		k.records = c.records
		k.records.SetNextSequence(record.FirstAfter(ceiling))
		s.records = &k.records
		k.state = s.append(k.state[:0])
		*s, k.records = sessionState{}, record.Session{} // so that nothing of an ended session stays
		b.SetState(u.slot, k.state)
		if isJournalled(c) {
			k.raises = append(k.raises, raise{c, ceiling}) // until then the one that is on the disk holds
		} else {
			c.records.Reserve(ceiling)
		}
	default:
		k.state = binary.BigEndian.AppendUint64(k.state[:0], c.records.Highest())
		k.state = appendTime(k.state, now.Add(-c.idleLocked(now)))
		b.Update(u.slot, k.state)
	}
}

// raise raises the ceilings whose entries are on the disk.
func (k *journalKeeper) raise() {
	for _, r := range k.raises {
		r.conn.peer.mu.Lock()
		r.conn.records.Reserve(r.units)
		r.conn.peer.mu.Unlock()
	}
	clear(k.raises)
}

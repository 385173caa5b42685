// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"cmp"
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/go-dsm/dsm/internal/journal"
	"github.com/go-dsm/dsm/internal/logtext"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/keyring"
)

// openJournal takes the lock of Config.Journal. That comes before Config.Restore claims a
// snapshot, which would be lost if the journal were another listener's still. No session is
// noted until beginFile.
func (l *Listener) openJournal() error {
	ring, err := keyring.New(l.config.Journal.Keys...)
	if err != nil {
		return err
	}
	log, err := journal.Open(l.config.disk, l.config.Journal.Dir, ring)
	if err != nil {
		return err
	}
	l.journal = &journalKeeper{
		listener: l, config: *l.config.Journal, log: log,
		requests: make(chan func()), stop: make(chan struct{}), stopped: make(chan struct{}),
		limit: 2*l.config.Sessions + journalSlack, broken: true,
	}
	return nil
}

// recoverJournal takes over the sessions that a listener before this one has left by a
// crash, and begins a journal.
func (l *Listener) recoverJournal() error {
	k := l.journal
	r := restoring{listener: l}
	err := k.recover(&r)
	if err == nil {
		err = k.beginFile()
	}
	if err != nil {
		r.undo()
		return err
	}
	r.finish()
	l.recovered = r.stats
	if r.stats.Sessions > 0 {
		l.log.Info("sessions of a server that has crashed", "listener", l.Addr(), "sessions", r.stats.Sessions, "restored", r.stats.Restored)
	}
	go k.run()
	return nil
}

// recover takes over what the journal has, and makes it durable in a new file: until then
// the sessions' new numbers must not be used.
func (k *journalKeeper) recover(r *restoring) error {
	var states []*sessionState
	recovery, err := k.log.Recover(func(_ uint32, state, update []byte) error {
		s, err := parseState(state)
		if err != nil {
			k.listener.log.Error("journal: an entry is not a session", "error", logtext.Error(err))
			return nil
		}
		k.afterCrash(s, update)
		states = append(states, s)
		return nil
	})
	if err != nil {
		return err
	}
	for _, damage := range recovery.Damage {
		k.listener.log.Error("journal: a file is damaged, or not of this journal", "error", logtext.Error(damage))
	}
	slices.SortStableFunc(states, func(a, b *sessionState) int { return cmp.Compare(a.lastUsed.UnixMilli(), b.lastUsed.UnixMilli()) })
	states = newestOfEachPeer(states, &r.stats)
	for part := range slices.Chunk(states, recoverPart) {
		if err := r.add(context.Background(), part); err != nil {
			return err
		}
	}
	now := time.Now()
	return k.log.Start(func(b *journal.Batch) error {
		for _, c := range r.conns {
			c.peer.mu.Lock()
			slot, ended := uint32(c.peer.handleLocked().Slot()), c.ended != 0
			c.peer.mu.Unlock()
			if !ended {
				k.append(b, unwritten{c, slot}, now)
			}
		}
		return nil
	})
}

// newestOfEachPeer keeps, of several sessions of a peer, the one that was used last. The
// others had ended, and the disk has not learned it. states are in the order of their use.
func newestOfEachPeer(states []*sessionState, stats *RestoreStats) []*sessionState {
	newest := make(map[netip.AddrPort]*sessionState, len(states))
	for _, s := range states {
		newest[s.peer] = s
	}
	return slices.DeleteFunc(states, func(s *sessionState) bool {
		if newest[s.peer] == s {
			return false
		}
		stats.count(ErrStatePresent)
		return true
	})
}

// afterCrash makes of a session in the journal the one with which its listener goes on.
func (k *journalKeeper) afterCrash(s *sessionState, update []byte) {
	highest := s.records.Highest()
	if len(update) == updateSize {
		highest = max(highest, min(binary.BigEndian.Uint64(update), record.MaxSequence+1))
		r := stateReader{rest: update[8:]}
		s.lastUsed = r.time()
	}
	s.records.MarkBelow(highest)
	s.records.SetNextSequence(min(s.records.NextSequence()+k.listener.config.distance(), record.MaxSequence+1))
	s.interrupted = s.interrupted || k.config.AfterCrash == CloseSessions
}

// randomDistance returns how far above its ceiling a session goes on.
func randomDistance() uint64 { return rand.Uint64N(maxDistance) }

// Recovered says what became of the sessions of Config.Journal when the listener was opened.
// With CloseSessions, Restored counts the sessions whose peers are to be told.
func (l *Listener) Recovered() RestoreStats { return l.recovered }

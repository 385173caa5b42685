// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-dsm/dsm/internal/durable"
	"github.com/go-dsm/dsm/internal/sealed"
	"github.com/go-dsm/dsm/keyring"
)

// RestoreStats says what became of the sessions of a snapshot or of a journal. Sessions is
// the sum of the others.
type RestoreStats struct {
	Sessions int // in the snapshot or the journal
	Restored int // taken over

	// The others, by the error that Attach has for them. Each peer is sent close_notify, so
	// that it comes back at once, unless it has a session already.
	Expired int // ErrStateExpired
	Policy  int // ErrStatePolicy
	Key     int // ErrStateKey
	Refused int // ErrStateRefused
	Denied  int // ErrStateDenied
	Present int // ErrStatePresent
	NoRoom  int // ErrStateNoRoom: there are fewer slots now, and others were used more recently
	// IdentityFull counts by ErrStateIdentityFull, also where Attach would evict: the identity
	// has Config.SessionsPerIdentity that were used more recently.
	IdentityFull int
}

// count counts a session by what came of it.
func (s *RestoreStats) count(err error) {
	s.Sessions++
	switch {
	case err == nil:
		s.Restored++
	case errors.Is(err, ErrStateDenied): // first: it wraps an error of the application's
		s.Denied++
	case errors.Is(err, ErrStateExpired):
		s.Expired++
	case errors.Is(err, ErrStatePolicy):
		s.Policy++
	case errors.Is(err, ErrStateKey):
		s.Key++
	case errors.Is(err, ErrStatePresent):
		s.Present++
	case errors.Is(err, ErrStateNoRoom):
		s.NoRoom++
	case errors.Is(err, ErrStateIdentityFull):
		s.IdentityFull++
	default:
		s.Refused++
	}
}

// ErrReading is the error of Restore and RestoreFile outside of Config.Restore: the listener
// reads its sockets already.
var ErrReading = errors.New("dsm: sessions are restored in Config.Restore, before the first datagram is read")

// Restore brings back the sessions that Listener.Save has written to a stream, in the order
// of their use. It is called in Config.Restore. One of keys must be the key that has sealed
// the stream. When there is no room for all, the most recently used ones stay. So it is with
// Config.SessionsPerIdentity, whatever WhenIdentityFull says. Each session is checked as by
// Attach, several at the same time.
//
// All or nothing: an error says that the stream is not whole, or not a snapshot that was
// sealed with one of the keys, or that ctx has ended, and no session is restored. Otherwise
// Config.OnRestored is called with each session, and then Accept returns it, or Serve's
// handler gets what its peer sends.
//
// A STREAM MUST BE RESTORED ONCE, BY ONE LISTENER. A second one, in any process, would use
// nonces for the second time, which lays open what both send. Nothing here can see that:
// SaveFile and RestoreFile can.
func (l *Listener) Restore(ctx context.Context, r io.Reader, keys ...keyring.Key) (RestoreStats, error) {
	stats, err := l.restoreStream(ctx, r, keys)
	if err != nil {
		err = l.opError("restore", err)
	}
	return stats, err
}

func (l *Listener) restoreStream(ctx context.Context, r io.Reader, keys []keyring.Key) (RestoreStats, error) {
	ring, err := l.ringForRestore(keys)
	if err != nil {
		return RestoreStats{}, err
	}
	reader, err := sealed.NewReader(r, ring, sealed.Snapshot)
	if err != nil {
		return RestoreStats{}, err
	}
	return l.restore(ctx, reader)
}

// ringForRestore returns the keys, if sessions can be restored now.
func (l *Listener) ringForRestore(keys []keyring.Key) (*keyring.Ring, error) {
	ring, err := keyring.New(keys...)
	if err == nil && !l.opening {
		err = ErrReading
	}
	return ring, err
}

// RestoreFile is Restore from a file that SaveFile has written. It claims the file first, so
// that of several processes one restores it. A file that is gone, or that was claimed before,
// is an error that wraps fs.ErrNotExist or ErrClaimed. A file that none of the keys opens is
// not claimed.
//
// A claimed file is never restored again, not even after a crash between the claim and the
// end of RestoreFile: then the peers come back by new handshakes. Two empty files remain in
// the directory: the lock of those who claim, whose name is that of the snapshot with
// .claim-lock added, and the claim, with .claimed and a number added. The claim keeps an old
// copy of the snapshot, put back in its place, from being restored. A COPY IN ANOTHER
// DIRECTORY MUST NOT BE RESTORED.
func (l *Listener) RestoreFile(ctx context.Context, path string, keys ...keyring.Key) (RestoreStats, error) {
	stats, err := l.restoreFile(ctx, path, keys)
	if err != nil {
		err = l.opError("restore", err)
	}
	return stats, err
}

// ErrClaimed is the error of RestoreFile for a snapshot that was restored before, or is being
// restored.
var ErrClaimed = durable.ErrClaimed

func (l *Listener) restoreFile(ctx context.Context, path string, keys []keyring.Key) (RestoreStats, error) {
	ring, err := l.ringForRestore(keys)
	if err != nil {
		return RestoreStats{}, err
	}
	file, err := l.config.disk.Open(path)
	if err != nil {
		return RestoreStats{}, err
	}
	defer file.Close()
	reader, err := sealed.NewReader(file, ring, sealed.Snapshot)
	if err != nil {
		return RestoreStats{}, err
	}
	if err := durable.Claim(l.config.disk, path, reader.Header().Generation); err != nil {
		return RestoreStats{}, err
	}
	stats, err := l.restore(ctx, reader)
	if removeErr := l.config.disk.Remove(path); removeErr != nil && !errors.Is(removeErr, fs.ErrNotExist) {
		l.log.Warn("restored snapshot not removed", "path", path, "error", removeErr)
	}
	return stats, err
}

// restoring is a Restore under way.
type restoring struct {
	listener *Listener
	stats    RestoreStats
	conns    []*Conn // taken over, in their order; some have ended since
	refused  []*Conn // not taken over, and in no slot: their peers are told at the end
	ended    []ending
}

// restore takes over the sessions of a snapshot.
func (l *Listener) restore(ctx context.Context, reader *sealed.Reader) (RestoreStats, error) {
	r := restoring{listener: l}
	for {
		chunk, err := reader.Next()
		if err == io.EOF {
			break
		}
		var states []*sessionState
		if err == nil {
			states, err = parseStates(chunk)
		}
		if err == nil {
			err = r.add(ctx, states)
		}
		if err != nil {
			r.undo()
			return RestoreStats{}, err
		}
	}
	r.finish()
	return r.stats, nil
}

// appendState appends a session to a chunk.
func appendState(chunk []byte, s *sessionState) []byte {
	start := len(chunk)
	chunk = s.append(append(chunk, 0, 0, 0, 0))
	binary.BigEndian.PutUint32(chunk[start:], uint32(len(chunk)-start-4))
	return chunk
}

// parseStates parses the sessions of a chunk.
func parseStates(chunk []byte) (states []*sessionState, err error) {
	for len(chunk) > 0 {
		if len(chunk) < 4 || uint64(len(chunk)-4) < uint64(binary.BigEndian.Uint32(chunk)) {
			return nil, fmt.Errorf("a chunk of a snapshot: %w", errState)
		}
		end := 4 + int(binary.BigEndian.Uint32(chunk))
		s, err := parseState(chunk[4:end])
		if err != nil {
			return nil, fmt.Errorf("a session of a snapshot: %w", err)
		}
		states, chunk = append(states, s), chunk[end:]
	}
	return states, nil
}

// add takes over sessions, in their order.
func (r *restoring) add(ctx context.Context, states []*sessionState) error {
	l := r.listener
	withdrawals := l.identities.withdrawalCount()
	for _, s := range states {
		if s.givesIDs {
			l.ids.adopt(s.idKey)
		}
	}
	errs := l.checkStates(ctx, states, time.Now())
	if err := ctx.Err(); err != nil {
		return err
	}
	now := time.Now() // the checks have waited
	for i, s := range states {
		err := errs[i]
		if err == nil {
			var c *Conn
			var ended []ending
			// In the order of use, so those that make room were used less recently.
			c, ended, err = l.insert(s, now, withdrawals, false, l.leastRecentlyUsed)
			for _, e := range ended {
				switch e.reason {
				case Detached: // s itself
				case IdentityReplaced:
					r.stats.Restored--
					r.stats.IdentityFull++
				default:
					r.stats.Restored--
					r.stats.NoRoom++
				}
				r.ended = append(r.ended, e)
			}
			if err == nil {
				r.conns = append(r.conns, c)
			}
		}
		r.stats.count(err)
		if err != nil && !errors.Is(err, ErrStatePresent) {
			r.refused = append(r.refused, r.withoutSlot(s, now))
		}
	}
	return nil
}

// checkStates checks several sessions at the same time, for Config.PSK and Config.Authorize may
// wait for each. There are at most Config.Handshakes calls of each, and a further one would fail.
func (l *Listener) checkStates(ctx context.Context, states []*sessionState, now time.Time) []error {
	errs := make([]error, len(states))
	var next atomic.Int64
	var checks sync.WaitGroup
	for range min(restoreChecks, len(states), l.config.Handshakes) {
		checks.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(states)); i = next.Add(1) - 1 {
				check, cancel := context.WithTimeout(ctx, l.config.HandshakeTimeout)
				errs[i] = l.checkState(check, states[i], now)
				cancel()
			}
		})
	}
	checks.Wait()
	return errs
}

// withoutSlot returns the session of a peer that is in no slot, to tell the peer.
func (r *restoring) withoutSlot(s *sessionState, now time.Time) *Conn {
	p := &Peer{listener: r.listener, addr: s.peer}
	p.mu.Lock()
	defer p.mu.Unlock()
	s.unread, s.resumable = nil, false
	return s.connLocked(p, now)
}

// undo gives up what was taken over. Nothing is sent: somebody else may have the sessions.
func (r *restoring) undo() {
	l := r.listener
	l.ids.adopted = false // another snapshot may be tried
	for _, c := range r.conns {
		r.ended = append(r.ended, l.beginDetach(c))
	}
	for _, e := range r.ended {
		if e.conn != nil && e.notify {
			e.conn.peer.mu.Lock()
			e.conn.records.Freeze()
			e.conn.peer.mu.Unlock()
		}
		l.finishEnd(e)
	}
}

// finish tells the user and the peers what was restored and what was not.
func (r *restoring) finish() {
	l := r.listener
	for _, e := range r.ended {
		l.finishEnd(e)
	}
	for _, c := range r.refused {
		c.sendCloseNotify()
	}
	kept := r.conns[:0]
	for _, c := range r.conns {
		if c.announceRestored() {
			kept = append(kept, c)
		}
	}
	l.restored = append(l.restored, kept...)
}

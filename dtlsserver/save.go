// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/internal/durable"
	"github.com/go-dsm/dsm/internal/sealed"
	"github.com/go-dsm/dsm/keyring"
)

// SaveStats says what Save has written.
type SaveStats struct {
	Sessions int
	Bytes    int64
}

// Save writes all sessions to a stream, in the order of their use, and closes the listener
// without a word to their peers: Restore, in another process or another listener, goes on
// with them. The first key of keys seals the stream.
//
// Save stops reading the sockets, so that what comes meanwhile waits in the kernel's
// buffers for the successor, if that has the sockets too: see Files. It ends the
// handshakes in progress. It waits until Serve's handlers have handled what was received, at
// most until ctx has ended. What users of Accept have not read goes with the session, up to
// 512 KiB; what they have read they should have answered before. While Save writes, Write
// returns ErrDetached. When all is written Config.OnEnd is called with Detached for each
// session, and Save returns as Close does.
//
// After an error, such as that of w or of ctx, the listener goes on with all sessions, and
// what was written cannot be restored. The exception is an error of the last Write, which
// leaves open whether the stream is whole: then the listener is closed, the peers are not
// told, and the error wraps net.ErrClosed. Save must not be called from a handler or a hook.
//
// Config.Journal is emptied first, so that no two listeners go on with a session. A crash in
// the middle of Save loses the sessions. While the journal's disk is broken Save fails.
//
// A STREAM MUST BE RESTORED ONCE, BY ONE LISTENER: see Restore. SaveFile and RestoreFile see to
// that.
func (l *Listener) Save(ctx context.Context, w io.Writer, keys ...keyring.Key) (SaveStats, error) {
	return l.save(ctx, keys, 0, func(write func(io.Writer) error) error { return write(w) })
}

// SaveFile is Save to a file. The file is written under another name, synced, and then
// takes its name, so that it is there whole or not at all. A file of that name is replaced.
// If the disk fails in a way that leaves open whether the file is there, the listener is
// closed, the peers are not told, as another process may have the sessions, and the error
// wraps net.ErrClosed.
func (l *Listener) SaveFile(ctx context.Context, path string, keys ...keyring.Key) (SaveStats, error) {
	generation, err := durable.NextGeneration(l.config.disk, path)
	if err != nil {
		return SaveStats{}, l.opError("save", err)
	}
	return l.save(ctx, keys, generation, func(write func(io.Writer) error) error {
		err := durable.WriteFile(l.config.disk, path, write)
		if !errors.Is(err, durable.ErrUnclear) {
			if unclear := (errUnclear{}); errors.As(err, &unclear) { // not so: the file has not got its name
				return unclear.error
			}
			return err
		}
		// The file may be there all the same. Nobody may restore it while these sessions
		// go on. ErrClaimed says that somebody has restored it already.
		if claimErr := durable.Claim(l.config.disk, path, generation); claimErr != nil {
			return errUnclear{errors.Join(err, claimErr)}
		}
		return err
	})
}

// Files returns duplicates of the sockets, for a successor to inherit, as by
// exec.Cmd.ExtraFiles: what is received after Save waits in them. The caller closes them. A
// successor opens its listener on them with NewListener, and net.FilePacketConn.
func (l *Listener) Files() ([]*os.File, error) {
	var files []*os.File
	for _, socket := range l.sockets {
		file, err := socket.File()
		if err != nil {
			for _, f := range files {
				_ = f.Close()
			}
			return nil, l.opError("file", err)
		}
		files = append(files, file)
	}
	return files, nil
}

// errUnclear is the error of a Save that leaves open whether there is a whole snapshot which
// can be restored. So the sessions must not be used here any more.
type errUnclear struct{ error }

func (e errUnclear) Unwrap() error { return e.error }

// save saves by commit, which calls write with what it writes to, and makes that durable.
func (l *Listener) save(ctx context.Context, keys []keyring.Key, generation uint64, commit func(write func(io.Writer) error) error) (SaveStats, error) {
	ring, err := keyring.New(keys...)
	if err != nil {
		return SaveStats{}, l.opError("save", err)
	}
	if err := l.life.beginSaving(); err != nil {
		return SaveStats{}, l.opError("save", err)
	}
	l.handover.Lock()
	defer l.handover.Unlock()
	var stats SaveStats
	if err = l.pause(ctx); err == nil {
		err = l.journal.suspend(ctx)
	}
	if err == nil {
		err = commit(func(w io.Writer) error {
			stats, err = l.writeSessions(ctx, w, ring, generation)
			return err
		})
	}
	if unclear := (errUnclear{}); errors.As(err, &unclear) {
		return SaveStats{}, l.opError("save", errors.Join(fmt.Errorf("%w: %w", net.ErrClosed, err), l.closeDetached()))
	}
	if err != nil {
		l.resumeServing()
		return SaveStats{}, l.opError("save", err)
	}
	return stats, l.closeDetached()
}

// pause stops what could change the sessions: readers, handshakes, handlers.
func (l *Listener) pause(ctx context.Context) error {
	l.admission.pause()
	var err error
	for _, socket := range l.sockets {
		err = errors.Join(err, socket.SetReadDeadline(time.Unix(1, 0)))
	}
	if err != nil {
		return err
	}
	l.life.readers.Wait()
	return l.queue.drain(ctx)
}

// thawLocked lets a frozen session go on, and what was received for it be read, or ends it: see
// beginEndOfIdentity. finishEnd must follow.
func (c *Conn) thawLocked() ending {
	c.records.Thaw()
	if c.inbox != nil {
		c.inbox.changed.Broadcast()
	}
	l := c.peer.listener
	if l.serving.Load() {
		l.queue.scheduleLocked(c)
	}
	return l.endThawedLocked(c)
}

// resumeServing ends what pause and writeSessions have begun.
func (l *Listener) resumeServing() {
	for session := range l.table.All() {
		p := session.Value
		if p.listener != l {
			continue
		}
		var e ending
		p.mu.Lock()
		if p.conn != nil && p.conn.records.IsFrozen() {
			e = p.conn.thawLocked()
		}
		p.mu.Unlock()
		l.finishEnd(e)
	}
	l.journal.resume()
	l.admission.resume()
	for _, socket := range l.sockets {
		_ = socket.SetReadDeadline(time.Time{})
	}
	l.life.endSaving(l.startReader)
}

// writeSessions freezes and writes all sessions. A walk misses those that are used meanwhile,
// which comes to an end, as a frozen session is not used.
func (l *Listener) writeSessions(ctx context.Context, w io.Writer, ring *keyring.Ring, generation uint64) (SaveStats, error) {
	out, err := sealed.NewWriter(w, ring, sealed.Header{Kind: sealed.Snapshot, Generation: generation})
	if err != nil {
		return SaveStats{}, err
	}
	var stats SaveStats
	var chunk []byte
	var s sessionState // of one session after the other: it is garbage otherwise
	for found := -1; found != stats.Sessions; {
		found = stats.Sessions
		for session, state := range l.table.All() {
			if state != dsm.StateEstablished || session.Value.listener != l {
				continue
			}
			before := len(chunk)
			if chunk = session.Value.appendFrozen(chunk, &s); len(chunk) > before {
				stats.Sessions++
			}
			if len(chunk) >= snapshotChunk {
				if err := errors.Join(ctx.Err(), out.WriteChunk(chunk)); err != nil {
					return stats, err
				}
				chunk = chunk[:0]
			}
		}
	}
	if len(chunk) > 0 {
		err = out.WriteChunk(chunk)
	}
	if err == nil {
		if err = out.Close(); err != nil { // all of it may be there
			err = errUnclear{err}
		}
	}
	stats.Bytes = out.Bytes()
	return stats, err
}

// appendFrozen freezes the peer's session and appends its state, unless it is frozen already.
// It uses the memory of s.
func (p *Peer) appendFrozen(chunk []byte, s *sessionState) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.conn
	if c == nil || c.userClosed || c.records.IsFrozen() {
		return chunk
	}
	c.stateLocked(s, time.Now())
	chunk = appendState(chunk, s)
	c.records.Freeze()
	return chunk
}

// beginEndSaved ends a session when all are written. One that was about to end when Save came
// is not among them: its peer is told. finishEnd must follow.
func (l *Listener) beginEndSaved(c *Conn) ending {
	c.peer.mu.Lock()
	defer c.peer.mu.Unlock()
	switch {
	case c.records.IsFrozen():
		return l.detachLocked(c)
	case c.stage == stageInterrupted:
		return l.endLocked(c, Interrupted)
	default: // Conn.Close
		return l.endLocked(c, ClosedByUs)
	}
}

// closeDetached closes the listener, whose sessions somebody else has now.
func (l *Listener) closeDetached() error {
	if !l.life.close() { // Close was called meanwhile: it has closed the rest
		return nil
	}
	l.journal.retire()
	for c := l.leastRecentlyUsed(); c != nil; c = l.leastRecentlyUsed() {
		l.finishEnd(l.beginEndSaved(c))
	}
	if err := l.shut(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/go-dsm/dsm/internal/journal"
	"github.com/go-dsm/dsm/internal/logtext"
)

// do has run do something with the log. It returns early when ctx ends.
func (k *journalKeeper) do(ctx context.Context, what func() error) error {
	result := make(chan error, 1)
	select {
	case k.requests <- func() { result <- what() }:
	case <-k.stopped:
		return net.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// suspend empties the journal, before somebody else can have the sessions: otherwise a crash
// could give them to two listeners. resume follows if the sessions stay.
func (k *journalKeeper) suspend(ctx context.Context) error {
	if k == nil {
		return nil
	}
	k.mu.Lock()
	k.suspended = true
	k.breakLocked()
	k.mu.Unlock()
	return k.do(ctx, func() error {
		k.mu.Lock()
		suspended := k.suspended
		k.mu.Unlock()
		if !suspended { // ctx has ended
			return ctx.Err()
		}
		err := k.log.Start(func(*journal.Batch) error { return nil })
		k.mu.Lock()
		k.breakLocked()
		k.mu.Unlock()
		return err
	})
}

// resume begins the journal anew, with the next write.
func (k *journalKeeper) resume() {
	if k == nil {
		return
	}
	k.mu.Lock()
	k.suspended = false
	k.mu.Unlock()
}

// remove removes a frozen session from the journal.
func (k *journalKeeper) remove(c *Conn) error {
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	return k.do(ctx, func() error {
		k.mu.Lock()
		broken := k.broken
		k.mu.Unlock()
		if broken {
			return errBroken
		}
		c.peer.mu.Lock()
		slot, ended := uint32(c.peer.handleLocked().Slot()), c.ended != 0
		c.peer.mu.Unlock()
		if ended { // the slot may be another one's
			return nil
		}
		var b journal.Batch
		b.Clear(slot)
		return k.log.Append(&b)
	})
}

// errBroken is the error of Detach while the journal cannot be written.
var errBroken = errors.New("dsm: the session cannot be removed from the journal, which is broken")

// retire ends the journal: no session of it is left, or somebody else has them. It does not
// wait for a disk that hangs.
func (k *journalKeeper) retire() {
	if k == nil {
		return
	}
	close(k.stop)
	retired := make(chan error, 1)
	go func() {
		<-k.stopped
		retired <- k.log.Close(true)
	}()
	timer := time.NewTimer(storeTimeout)
	defer timer.Stop()
	select {
	case err := <-retired:
		if err != nil {
			k.errors.Add(1)
			k.listener.log.Error("journal not ended", "listener", k.listener.Addr(), "error", logtext.Error(err))
		}
	case <-timer.C:
		k.listener.log.Error("journal not ended yet: the disk hangs", "listener", k.listener.Addr())
	}
}

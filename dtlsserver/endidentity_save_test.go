// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/durable/crashfs"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestPeerIsToldThatItsSessionEndedDuringFailedSave: a frozen session cannot seal close_notify.
func TestPeerIsToldThatItsSessionEndedDuringFailedSave(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		client, c := l.connectAs(t, netip.AddrPort{}, "one")
		go func() {
			time.Sleep(1500 * time.Millisecond)
			ended, err := l.EndIdentity(t.Context(), "psk:one", dtlsserver.Withdrawn)
			assert.NoError(t, err)
			assert.Zero(t, ended, "it may be the successor's")
		}()
		_, err := l.Save(t.Context(), &slowWriter{fails: 2}, saveKey)
		require.ErrorIs(t, err, errFull)
		time.Sleep(time.Second)
		synctest.Wait()
		assert.Equal(t, dtlsserver.Withdrawn, c.EndReason())
		dtlstest.RequireEOF(t, client)
	})
}

// TestEndIdentityDoesNotEndWhatIsSaved: the successor has the session, and decides.
func TestEndIdentityDoesNotEndWhatIsSaved(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		_, c := l.connectAs(t, netip.AddrPort{}, "one")
		go func() {
			time.Sleep(1500 * time.Millisecond)
			ended, err := l.EndIdentity(t.Context(), "psk:one", dtlsserver.Withdrawn)
			assert.NoError(t, err)
			assert.Zero(t, ended)
		}()
		stats, err := l.Save(t.Context(), &slowWriter{}, saveKey)
		require.NoError(t, err)
		assert.Equal(t, 1, stats.Sessions)
		assert.Equal(t, dtlsserver.Detached, c.EndReason())
	})
}

// TestIdentityEndsAfterFailedDetach: the session is frozen meanwhile.
func TestIdentityEndsAfterFailedDetach(t *testing.T) {
	t.Parallel()
	disk := &nonceDisk{FS: crashfs.New(1)}
	inBubble(t, exactJournalOn(nonceJournal, disk), func(t *testing.T, l memory) {
		client, c := l.connectAs(t, netip.AddrPort{}, "one")
		flushed()
		disk.before(1, func() {
			time.Sleep(500 * time.Millisecond)
			disk.FailSync(errDisk)
		})
		detached := make(chan error)
		go func() {
			_, err := c.Detach()
			detached <- err
		}()
		synctest.Wait() // it waits for the disk
		_, err := l.EndIdentity(t.Context(), "psk:one", dtlsserver.Withdrawn)
		require.NoError(t, err)
		require.ErrorIs(t, <-detached, errDisk)
		synctest.Wait()
		assert.Equal(t, dtlsserver.Withdrawn, c.EndReason())
		dtlstest.RequireEOF(t, client)
	})
}

// TestPeerIsToldThatItsSessionEndedDuringDetach, which fails then.
func TestPeerIsToldThatItsSessionEndedDuringDetach(t *testing.T) {
	t.Parallel()
	disk := &nonceDisk{FS: crashfs.New(1)}
	cfg := exactJournalOn(nonceJournal, disk)
	cfg.SessionsPerIdentity = 1
	inBubble(t, cfg, func(t *testing.T, l memory) {
		client, c := l.connectAs(t, netip.AddrPort{}, "one")
		flushed()
		disk.before(1, func() { time.Sleep(500 * time.Millisecond) })
		detached := make(chan error)
		go func() {
			_, err := c.Detach()
			detached <- err
		}()
		synctest.Wait() // it waits for the disk
		_, _ = l.connectAs(t, netip.AddrPort{}, "one")
		require.Equal(t, dtlsserver.IdentityReplaced, c.EndReason())
		require.ErrorIs(t, <-detached, dtlsserver.ErrIdentityReplaced)
		synctest.Wait()
		dtlstest.RequireEOF(t, client)
	})
}

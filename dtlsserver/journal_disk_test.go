// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/durable"
	"github.com/go-dsm/dsm/internal/durable/crashfs"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// journalOn is a Config with a journal on a disk.
func journalOn(disk durable.FS) dtlsserver.Config {
	cfg := dtlsserver.Config{Journal: journalIn("disk", dtlsserver.ContinueSessions)}
	dtlsserver.SetDisk(&cfg, disk, nil)
	return cfg
}

// exactJournalOn is a Config with a journal in a directory on a disk. After a crash a session
// goes on exactly at its ceiling.
func exactJournalOn(dir string, disk durable.FS) dtlsserver.Config {
	cfg := dtlsserver.Config{Journal: journalIn(dir, dtlsserver.ContinueSessions)}
	dtlsserver.SetDisk(&cfg, disk, func() uint64 { return 0 })
	return cfg
}

// TestFullDiskStopsNoSession: it goes on in memory, and is in the journal again when there is
// room.
func TestFullDiskStopsNoSession(t *testing.T) {
	t.Parallel()
	disk := crashfs.New(1)
	inBubble(t, journalOn(disk), func(t *testing.T, l memory) {
		echoServer(t, l.Listener)
		client := l.dial(t, netip.AddrPort{})
		flushed()
		disk.FailWrites(errDisk, 20)
		for range 100 {
			dtlstest.Echo(t, client, "full")
			time.Sleep(dtlsserver.DefaultJournalInterval)
		}
		errs := l.Stats().JournalErrors
		assert.Greater(t, errs, uint64(3))
		assert.Less(t, errs, uint64(12), "it is tried less and less often")
		other := l.dial(t, netip.AddrPort{})
		disk.FailWrites(nil, 0)
		time.Sleep(2 * time.Minute)
		assert.LessOrEqual(t, l.Stats().JournalErrors, errs+1)
		l.Crash()
		next := l.successor(t, journalOn(disk.Crash()))
		assert.Equal(t, dtlsserver.RestoreStats{Sessions: 2, Restored: 2}, next.Recovered())
		echoServer(t, next.Listener)
		dtlstest.Echo(t, client, "after")
		dtlstest.Echo(t, other, "after")
	})
}

// TestFullDiskAtTheStart is an error of Listen: the sessions could not be noted.
func TestFullDiskAtTheStart(t *testing.T) {
	t.Parallel()
	disk := crashfs.New(1)
	inBubble(t, journalOn(disk), func(t *testing.T, l memory) {
		l.connect(t)
		flushed()
		l.Crash()
		socket := l.network.Listen(l.addr())
		disk.FailWrites(errDisk, 20)
		_, err := newListener(socket, psk(), journalOn(disk))
		require.ErrorIs(t, err, errDisk)
		disk.FailWrites(nil, 0)
		next := listenOn(t, socket, psk(), journalOn(disk))
		assert.Equal(t, 1, next.Recovered().Restored)
	})
}

// TestHangingDiskHoldsNobodyUp: neither the sessions nor, for long, Close.
func TestHangingDiskHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var hangs atomic.Bool
		release := make(chan struct{})
		disk := &faultyDisk{FS: crashfs.New(1), sync: func() error {
			if hangs.Load() {
				<-release
			}
			return nil
		}}
		l := listenInMemory(t, psk(), journalOn(disk))
		echoServer(t, l.Listener)
		client := l.dial(t, netip.AddrPort{})
		flushed()
		hangs.Store(true)
		for range 100 {
			dtlstest.Echo(t, client, "hangs")
			time.Sleep(dtlsserver.DefaultJournalInterval)
		}
		began := time.Now()
		require.NoError(t, l.Close())
		assert.LessOrEqual(t, time.Since(began), 2*time.Second)
		close(release)
	})
}

// TestFailedSaveFileGoesOn, and the next one saves.
func TestFailedSaveFileGoesOn(t *testing.T) {
	t.Parallel()
	disk := crashfs.New(1)
	var cfg dtlsserver.Config
	dtlsserver.SetDisk(&cfg, disk, nil)
	inBubble(t, cfg, func(t *testing.T, l memory) {
		echoServer(t, l.Listener)
		client := l.dial(t, netip.AddrPort{})
		for room := range 700 {
			disk.FailWrites(errDisk, room)
			_, err := l.SaveFile(t.Context(), "disk/sessions", saveKey)
			if err == nil {
				require.Greater(t, room, 300)
				break
			}
			require.ErrorIs(t, err, errDisk)
			if room%50 == 0 {
				dtlstest.Echo(t, client, "goes on")
			}
		}
		var stats dtlsserver.RestoreStats
		cfg.Restore = func(l *dtlsserver.Listener) (err error) {
			stats, err = l.RestoreFile(t.Context(), "disk/sessions", saveKey)
			return err
		}
		next := l.successor(t, cfg)
		assert.Equal(t, 1, stats.Restored)
		echoServer(t, next.Listener)
		dtlstest.Echo(t, client, "restored")
	})
}

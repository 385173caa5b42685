// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"bytes"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/durable/crashfs"
	"github.com/go-dsm/dsm/keyring"
	"github.com/go-dsm/dsm/resume"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// journalIn is a journal in a directory.
func journalIn(dir string, after dtlsserver.AfterCrash) *dtlsserver.Journal {
	return &dtlsserver.Journal{Dir: dir, Keys: []keyring.Key{saveKey}, AfterCrash: after}
}

// flushed waits until the journal has what was done.
func flushed() {
	time.Sleep(2 * dtlsserver.DefaultJournalInterval)
	synctest.Wait()
}

// TestCrashTellsPeersAtOnce: the first record of each is answered with close_notify, and it
// comes back by an abbreviated handshake, though the store was in memory.
func TestCrashTellsPeersAtOnce(t *testing.T) {
	t.Parallel()
	skipResuming(t, true)
	newStore := func() *resume.Store {
		store, err := resume.New(resume.Config{})
		require.NoError(t, err)
		return store
	}
	dir := t.TempDir()
	cfg := dtlsserver.Config{Resumption: newStore(), Journal: journalIn(dir, dtlsserver.CloseSessions)}
	inBubble(t, cfg, func(t *testing.T, l memory) {
		config := psk()
		config.SessionStore = new(dtlstest.ClientStore)
		client := l.network.DialClient(t, netip.AddrPort{}, l.addr(), config)
		c, err := l.AcceptConn(t.Context())
		require.NoError(t, err)
		write(t, client, "before")
		require.Equal(t, "before", read(t, c))
		flushed()
		l.Crash()

		cfg.Resumption = newStore()
		cfg.OnRestored = func(*dtlsserver.Conn) { t.Error("a session that is only to be closed was announced") }
		next := l.successor(t, cfg)
		assert.Equal(t, dtlsserver.RestoreStats{Sessions: 1, Restored: 1}, next.Recovered())
		assert.Empty(t, peers(next.Listener))
		write(t, client, "after")
		dtlstest.RequireEOF(t, client)
		s := next.Stats()
		assert.EqualValues(t, 1, s.Interrupted)
		assert.EqualValues(t, 1, s.Restored)

		l.network.DialClient(t, netip.AddrPort{}, l.addr(), config)
		again, err := next.AcceptConn(t.Context())
		require.NoError(t, err)
		assert.True(t, again.Resumed())
	})
}

// TestCrashContinues with ContinueSessions: above the ceiling, and what was received before
// the last entry is refused.
func TestCrashContinues(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := dtlsserver.Config{Journal: journalIn(dir, dtlsserver.ContinueSessions)}
	dtlsserver.SetDisk(&cfg, nil, func() uint64 { return 0 })
	inBubble(t, cfg, func(t *testing.T, l memory) {
		var captured [][]byte
		l.network.SetFilter(dtlstest.ToServer, func(d dtlstest.Datagram, forward func([]byte)) {
			captured = append(captured, bytes.Clone(d.Payload))
			forward(d.Payload)
		})
		client, c := l.connect(t)
		handshake := len(captured)
		for range 5 {
			write(t, client, "before")
			require.Equal(t, "before", read(t, c))
		}
		before := c.NextSequence()
		flushed()
		l.Crash()
		next := l.successor(t, cfg)
		taken, err := next.AcceptConn(t.Context())
		require.NoError(t, err)
		assert.GreaterOrEqual(t, taken.NextSequence(), before+1<<24)
		for _, datagram := range captured[handshake:] {
			l.network.Inject(dtlstest.AddrPort(client.Addr()), l.addr(), datagram)
		}
		synctest.Wait()
		assert.EqualValues(t, 5, next.Stats().Replayed)
		write(t, client, "after")
		require.Equal(t, "after", read(t, taken))
		_, err = taken.Write([]byte("answer"))
		require.NoError(t, err)
		dtlstest.Expect(t, client, "answer")

		first := taken.NextSequence()
		next.Crash() // at once: what the start has written counts
		third := next.successor(t, cfg)
		taken, err = third.AcceptConn(t.Context())
		require.NoError(t, err)
		assert.Greater(t, taken.NextSequence(), first)
	})
}

// TestCeilingIsNotPassed while the disk does not take a new one. It is raised in time
// otherwise.
func TestCeilingIsNotPassed(t *testing.T) {
	t.Parallel()
	cfg := dtlsserver.Config{Journal: journalIn(t.TempDir(), dtlsserver.ContinueSessions)}
	inBubble(t, cfg, func(t *testing.T, l memory) {
		client, c := l.connect(t)
		flushed()
		c.SetNextSequence(1<<25 - 1<<23 + 5) // near the ceiling, which is 2^25 at the start
		write(t, client, "use")
		require.Equal(t, "use", read(t, c))
		flushed()
		c.SetNextSequence(1<<25 + 5)
		_, err := c.Write([]byte("beyond the first ceiling"))
		require.NoError(t, err)
		c.SetNextSequence(1<<26 + 5)
		_, err = c.Write([]byte("beyond the second one"))
		require.ErrorIs(t, err, dtlsserver.ErrExhausted)
	})
}

// TestClosedListenerLeavesNothingInJournal: its sessions have ended. What is saved is
// somebody else's.
func TestClosedListenerLeavesNothingInJournal(t *testing.T) {
	t.Parallel()
	for _, end := range []func(t *testing.T, l memory) error{
		func(_ *testing.T, l memory) error { return l.Close() },
		func(t *testing.T, l memory) error {
			_, err := l.Save(t.Context(), io.Discard, saveKey)
			return err
		},
	} {
		cfg := dtlsserver.Config{Journal: journalIn(t.TempDir(), dtlsserver.ContinueSessions)}
		inBubble(t, cfg, func(t *testing.T, l memory) {
			l.connect(t)
			flushed()
			require.NoError(t, end(t, l))
			next := l.successor(t, cfg)
			assert.Zero(t, next.Recovered())
		})
	}
}

// TestEndedSessionLeavesJournal, and one that has taken its slot stays.
func TestEndedSessionLeavesJournal(t *testing.T) {
	t.Parallel()
	cfg := dtlsserver.Config{Sessions: 1, Handshakes: 1, Journal: journalIn(t.TempDir(), dtlsserver.ContinueSessions)}
	inBubble(t, cfg, func(t *testing.T, l memory) {
		l.connect(t)
		flushed()
		_, c := l.connect(t) // evicts
		flushed()
		l.Crash()
		next := l.successor(t, cfg)
		assert.Equal(t, 1, next.Recovered().Sessions)
		assert.Equal(t, []netip.AddrPort{c.Peer()}, peers(next.Listener))
	})
}

// TestJournalGrowsNoFurther than its bound: a new file is begun, and the old one removed.
func TestJournalGrowsNoFurther(t *testing.T) {
	t.Parallel()
	disk := crashfs.New(1)
	cfg := dtlsserver.Config{Journal: journalIn("disk", dtlsserver.ContinueSessions)}
	dtlsserver.SetDisk(&cfg, disk, nil)
	inBubble(t, cfg, func(t *testing.T, l memory) {
		client, c := l.connect(t)
		largest := 0
		for i := range 22000 {
			write(t, client, "use")
			read(t, c)
			time.Sleep(dtlsserver.DefaultJournalInterval)
			if i%100 == 0 {
				largest = max(largest, sizeOf(t, disk))
			}
		}
		assert.Less(t, largest, 1300<<10)
		assert.Greater(t, l.Stats().JournalBytes, uint64(1200<<10))
		l.Crash()
		assert.Equal(t, 1, l.successor(t, cfg).Recovered().Restored)
	})
}

func sizeOf(t *testing.T, disk *crashfs.FS) (size int) {
	names, err := disk.List("disk")
	require.NoError(t, err)
	for _, name := range names {
		content, _ := disk.Get(filepath.Join("disk", name))
		size += len(content)
	}
	return size
}

// TestJournalRefuses a second listener, and a listener without the keys, to which it does no
// harm.
func TestJournalRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := dtlsserver.Config{Journal: journalIn(dir, dtlsserver.ContinueSessions)}
	inBubble(t, cfg, func(t *testing.T, l memory) {
		l.connect(t)
		flushed()
		second := l.network.Listen(netip.MustParseAddrPort("192.0.2.9:5684"))
		open := func(cfg dtlsserver.Config, config *dtls.Config) error {
			_, err := newListener(second, config, cfg)
			return err
		}
		require.ErrorContains(t, open(cfg, psk()), "locked")
		l.Crash()
		other := cfg
		other.Journal = journalIn(dir, dtlsserver.ContinueSessions)
		other.Journal.Keys = []keyring.Key{{ID: 9, Secret: [32]byte{9}}}
		require.ErrorContains(t, open(other, psk()), "unknown key 7")
		other.Journal = journalIn(filepath.Join(dir, "missing"), dtlsserver.ContinueSessions)
		require.ErrorIs(t, open(other, psk()), os.ErrNotExist)
		next := l.successor(t, cfg)
		assert.Equal(t, 1, next.Recovered().Restored)
	})
}

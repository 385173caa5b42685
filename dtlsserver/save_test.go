// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/keyring"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var saveKey = keyring.Key{ID: 7, Secret: [32]byte{1, 2, 3}}

// save saves the sessions of l, which is closed then.
func save(t *testing.T, l memory) []byte {
	t.Helper()
	var stream bytes.Buffer
	want := len(peers(l.Listener))
	stats, err := l.Save(t.Context(), &stream, saveKey)
	require.NoError(t, err)
	require.Equal(t, dtlsserver.SaveStats{Sessions: want, Bytes: int64(stream.Len())}, stats)
	return stream.Bytes()
}

// restoring is a Config that restores a stream. The result comes in the other return values.
func restoring(t *testing.T, cfg dtlsserver.Config, stream []byte) (dtlsserver.Config, *dtlsserver.RestoreStats, *error) {
	stats, failed := new(dtlsserver.RestoreStats), new(error)
	cfg.Restore = func(l *dtlsserver.Listener) error {
		*stats, *failed = l.Restore(t.Context(), bytes.NewReader(stream), saveKey)
		return nil
	}
	return cfg, stats, failed
}

// TestSavedSessionsGoOn in the order of their use, without a handshake.
func TestSavedSessionsGoOn(t *testing.T) {
	t.Parallel()
	var ends []dtlsserver.Reason
	cfg := dtlsserver.Config{OnEnd: func(_ *dtlsserver.Conn, why dtlsserver.Reason) { ends = append(ends, why) }}
	inBubble(t, cfg, func(t *testing.T, l memory) {
		var clients []*dtlstest.Client
		for range 40 {
			client, _ := l.connect(t)
			clients = append(clients, client)
		}
		write(t, clients[3], "used")
		synctest.Wait()
		order := peers(l.Listener)
		stream := save(t, l)
		assert.Len(t, ends, 40)
		assert.Equal(t, dtlsserver.Detached, ends[0])
		_, err := l.Accept()
		require.ErrorIs(t, err, net.ErrClosed)

		cfg, stats, failed := restoring(t, dtlsserver.Config{AcceptQueue: 1}, stream)
		next := l.successor(t, cfg)
		require.NoError(t, *failed)
		assert.Equal(t, dtlsserver.RestoreStats{Sessions: 40, Restored: 40}, *stats)
		assert.Equal(t, order, peers(next.Listener))
		echoServer(t, next.Listener)
		for i, client := range clients {
			if i == 3 {
				dtlstest.Expect(t, client, "used") // it was received and not read before
			}
			dtlstest.Echo(t, client, fmt.Sprint("echo ", i))
		}
		s := next.Stats()
		assert.Zero(t, s.Started)
		assert.EqualValues(t, 40, s.Restored)
	})
}

// TestRestoreKeepsMostRecentlyUsed when there are fewer slots. The others are told.
func TestRestoreKeepsMostRecentlyUsed(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		var clients []*dtlstest.Client
		for range 10 {
			client, _ := l.connect(t)
			clients = append(clients, client)
		}
		order := peers(l.Listener)
		stream := save(t, l)
		cfg, stats, failed := restoring(t, dtlsserver.Config{Sessions: 4, WhenFull: dtlsserver.RefuseNewcomer}, stream)
		next := l.successor(t, cfg)
		require.NoError(t, *failed)
		assert.Equal(t, dtlsserver.RestoreStats{Sessions: 10, Restored: 4, NoRoom: 6}, *stats)
		assert.Equal(t, order[6:], peers(next.Listener))
		for _, client := range clients[:6] {
			dtlstest.RequireEOF(t, client)
		}
		s := next.Stats()
		assert.EqualValues(t, s.Completed+s.Restored, uint64(s.Established)+s.Evicted)
	})
}

// TestRestoreTellsThoseItRefuses: their key is another one now.
func TestRestoreTellsThoseItRefuses(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		client, _ := l.connect(t)
		stream := save(t, l)
		cfg, stats, failed := restoring(t, dtlsserver.Config{}, stream)
		next := listenOn(t, l.network.Listen(l.addr()), dtlstest.PSKConfig("new"), cfg)
		require.NoError(t, *failed)
		assert.Equal(t, dtlsserver.RestoreStats{Sessions: 1, Key: 1}, *stats)
		assert.Empty(t, peers(next))
		dtlstest.RequireEOF(t, client)
	})
}

// TestFailedSaveGoesOn with all sessions, and what was written is not restored.
func TestFailedSaveGoesOn(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		echoServer(t, l.Listener)
		client := l.dial(t, netip.AddrPort{})
		dtlstest.Echo(t, client, "before")
		var written bytes.Buffer
		for left := range 200 {
			written.Reset()
			_, err := l.Save(t.Context(), &tornWriter{&written, left}, saveKey)
			require.ErrorIs(t, err, errTorn)
			dtlstest.Echo(t, client, "after")
		}
		_, err := l.Save(t.Context(), &written) // without a key
		require.Error(t, err)
		other := l.dial(t, netip.AddrPort{})
		dtlstest.Echo(t, other, "a newcomer")

		cfg, _, failed := restoring(t, dtlsserver.Config{}, written.Bytes())
		next := listenOn(t, l.network.Listen(netip.MustParseAddrPort("192.0.2.9:5684")), psk(), cfg)
		require.Error(t, *failed)
		assert.Empty(t, peers(next))
	})
}

var errTorn = errors.New("torn")

// tornWriter fails after some bytes.
type tornWriter struct {
	w    *bytes.Buffer
	left int
}

func (w *tornWriter) Write(b []byte) (int, error) {
	if len(b) > w.left {
		n, _ := w.w.Write(b[:w.left])
		w.left = 0
		return n, errTorn
	}
	w.left -= len(b)
	return w.w.Write(b)
}

// TestSaveWaitsForHandlers at most until its context ends. Then the listener goes on.
func TestSaveWaitsForHandlers(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		release := make(chan struct{})
		go func() {
			_ = l.Serve(t.Context(), func(c *dtlsserver.Conn, b []byte) {
				<-release
				_, _ = c.Write(b)
			})
		}()
		client := l.dial(t, netip.AddrPort{})
		write(t, client, "slow")
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := l.Save(ctx, &bytes.Buffer{}, saveKey)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		saved := make(chan error, 1)
		go func() {
			_, err := l.Save(t.Context(), &bytes.Buffer{}, saveKey)
			saved <- err
		}()
		synctest.Wait()
		_, err = l.Save(t.Context(), &bytes.Buffer{}, saveKey)
		require.ErrorContains(t, err, "another Save")
		close(release)
		require.NoError(t, <-saved)
		dtlstest.Expect(t, client, "slow") // it was answered before the session was written
	})
}

// TestSnapshotFileIsRestoredOnce whatever is done with copies of it.
func TestSnapshotFileIsRestoredOnce(t *testing.T) {
	t.Parallel()
	l := listen(t, psk(), dtlsserver.Config{})
	echoServer(t, l)
	client := dial(t, l, nil)
	dtlstest.Echo(t, client, "one")
	files, err := l.Files()
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "sessions")
	_, err = l.SaveFile(t.Context(), path, saveKey)
	require.NoError(t, err)
	stream := readFile(t, path)

	open := func(keys ...keyring.Key) (*dtlsserver.Listener, dtlsserver.RestoreStats, error) {
		var stats dtlsserver.RestoreStats
		var failed error
		socket, err := net.FilePacketConn(files[0])
		require.NoError(t, err)
		return listenOn(t, socket, psk(), dtlsserver.Config{Restore: func(l *dtlsserver.Listener) error {
			stats, failed = l.RestoreFile(t.Context(), path, keys...)
			return nil
		}}), stats, failed
	}
	other, _, err := open(keyring.Key{ID: 9, Secret: [32]byte{9}})
	require.ErrorContains(t, err, "unknown key 7") // not claimed
	require.NoError(t, other.Close())
	write(t, client, "meanwhile") // it waits in the socket
	next, stats, err := open(saveKey)
	require.NoError(t, err)
	require.Equal(t, dtlsserver.RestoreStats{Sessions: 1, Restored: 1}, stats)
	require.NoFileExists(t, path)
	echoServer(t, next)
	dtlstest.Expect(t, client, "meanwhile")
	dtlstest.Echo(t, client, "two")
	_, err = next.RestoreFile(t.Context(), path, saveKey)
	require.ErrorIs(t, err, dtlsserver.ErrReading)

	_, stats, err = open(saveKey)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.Zero(t, stats)
	writeFile(t, path, stream) // an old copy
	_, stats, err = open(saveKey)
	require.ErrorIs(t, err, dtlsserver.ErrClaimed)
	require.Zero(t, stats)
	for _, file := range files {
		require.NoError(t, file.Close())
	}
}

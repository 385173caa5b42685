// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/durable"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// faultyDisk is a disk on which the test can have steps fail or wait.
type faultyDisk struct {
	durable.FS
	create, syncDir, sync func() error // nil: nothing
}

var errDisk = errors.New("disk fails")

func call(f func() error) error {
	if f == nil {
		return nil
	}
	return f()
}

func (d *faultyDisk) Create(name string) (durable.File, error) {
	if err := call(d.create); err != nil {
		return nil, err
	}
	f, err := d.FS.Create(name)
	if err != nil {
		return nil, err
	}
	return &faultyFile{f, d}, nil
}

func (d *faultyDisk) SyncDir(dir string) error {
	if err := call(d.syncDir); err != nil {
		return err
	}
	return d.FS.SyncDir(dir)
}

type faultyFile struct {
	durable.File
	disk *faultyDisk
}

func (f *faultyFile) Sync() error {
	if err := call(f.disk.sync); err != nil {
		return err
	}
	return f.File.Sync()
}

// writerFunc is an io.Writer.
type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// TestSaveFileThatWroteNothing, on a disk that is full or read-only, leaves the listener
// open and claims nothing.
func TestSaveFileThatWroteNothing(t *testing.T) {
	t.Parallel()
	disk := &faultyDisk{FS: durable.OS, create: func() error { return errDisk }}
	var cfg dtlsserver.Config
	dtlsserver.SetDisk(&cfg, disk, nil)
	inBubble(t, cfg, func(t *testing.T, l memory) {
		echoServer(t, l.Listener)
		client := l.dial(t, netip.AddrPort{})
		path := filepath.Join(t.TempDir(), "sessions")
		_, err := l.SaveFile(t.Context(), path, saveKey)
		require.ErrorIs(t, err, errDisk)
		dtlstest.Echo(t, client, "after")
		disk.create = nil
		stats, err := l.SaveFile(t.Context(), path, saveKey)
		require.NoError(t, err)
		assert.Equal(t, 1, stats.Sessions)
	})
}

// TestSaveFileThatIsRestoredAlready closes the listener, though the disk has reported an
// error: the successor uses the sessions.
func TestSaveFileThatIsRestoredAlready(t *testing.T) {
	t.Parallel()
	for _, restored := range []bool{true, false} {
		path := filepath.Join(t.TempDir(), "sessions")
		disk := &faultyDisk{FS: durable.OS}
		disk.syncDir = func() error {
			disk.syncDir = nil
			if restored {
				require.NoError(t, durable.Claim(durable.OS, path, 1))
			}
			return errDisk
		}
		var cfg dtlsserver.Config
		dtlsserver.SetDisk(&cfg, disk, nil)
		inBubble(t, cfg, func(t *testing.T, l memory) {
			_, c := l.connect(t)
			_, err := l.SaveFile(t.Context(), path, saveKey)
			require.ErrorIs(t, err, errDisk)
			_, err = c.Write([]byte("after"))
			if restored {
				require.ErrorIs(t, err, dtlsserver.ErrDetached)
			} else {
				require.NoError(t, err)
				require.ErrorIs(t, durable.Claim(durable.OS, path, 1), durable.ErrClaimed)
			}
		})
	}
}

// TestSavedDatagramIsReadOnce: what is in the snapshot is not read here any more, unless Save
// fails.
func TestSavedDatagramIsReadOnce(t *testing.T) {
	t.Parallel()
	for _, fails := range []bool{true, false} {
		inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
			client, c := l.connect(t)
			write(t, client, "once")
			synctest.Wait()
			type result struct {
				text string
				err  error
			}
			got := make(chan result, 1)
			var stream bytes.Buffer
			_, err := l.Save(t.Context(), writerFunc(func(b []byte) (int, error) {
				if len(b) > 200 { // the session's chunk
					go func() {
						b := make([]byte, 10)
						n, err := c.Read(b)
						got <- result{string(b[:n]), err}
					}()
					synctest.Wait()
					if fails {
						return 0, errTorn
					}
				}
				return stream.Write(b)
			}), saveKey)
			r := <-got
			if fails {
				require.ErrorIs(t, err, errTorn)
				assert.Equal(t, result{"once", nil}, r)
				return
			}
			require.NoError(t, err)
			require.ErrorIs(t, r.err, dtlsserver.ErrDetached)
			cfg, _, failed := restoring(t, dtlsserver.Config{}, stream.Bytes())
			next := l.successor(t, cfg)
			require.NoError(t, *failed)
			taken, err := next.AcceptConn(t.Context())
			require.NoError(t, err)
			assert.Equal(t, "once", read(t, taken))
		})
	}
}

// TestFailedSaveDoesNotUndoShutdown: no client is admitted any more.
func TestFailedSaveDoesNotUndoShutdown(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		_, c := l.connect(t)
		done := make(chan error, 1)
		go func() { done <- l.Shutdown(t.Context()) }()
		synctest.Wait()
		_, err := l.Save(t.Context(), &tornWriter{&bytes.Buffer{}, 10}, saveKey)
		require.ErrorIs(t, err, errTorn)
		l.occupy(t, 1)
		synctest.Wait()
		assert.Zero(t, l.Stats().Started-1)
		require.NoError(t, c.Close())
		require.NoError(t, <-done)
	})
}

// TestAttachedBeforeServe: the handler gets what was received before.
func TestAttachedBeforeServe(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{}, func(t *testing.T, l memory) {
		client, c := l.connect(t)
		write(t, client, "before")
		synctest.Wait()
		state, err := c.Detach()
		require.NoError(t, err)
		require.NoError(t, l.Close())
		next := l.successor(t, dtlsserver.Config{})
		_, err = next.Attach(state)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		got := make(chan string, 1)
		done := make(chan error, 1)
		go func() { done <- next.Serve(ctx, func(_ *dtlsserver.Conn, b []byte) { got <- string(b) }) }()
		synctest.Wait()
		assert.Len(t, got, 1)
		cancel()
		<-done
	})
}

// TestConcurrentFailingSaves with handshakes, uses, Detach and Attach, Close of sessions and in
// the end of the listener: nothing hangs, and the counts are right.
func TestConcurrentFailingSaves(t *testing.T) {
	t.Parallel()
	cfg := dtlsserver.Config{Sessions: 8, Handshakes: 8, MinAvailable: 1, MinAvailableAfter: time.Second, IdleTimeout: 20 * time.Second,
		Journal: journalIn(t.TempDir(), dtlsserver.ContinueSessions)}
	inBubble(t, cfg, func(t *testing.T, l memory) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{}, 8)
		role := func(f func(i int)) {
			go func() {
				for i := 0; ctx.Err() == nil; i++ {
					f(i)
					time.Sleep(time.Duration(i%7) * 10 * time.Millisecond)
				}
				done <- struct{}{}
			}()
		}
		role(func(int) {
			client, err := dtlstest.Handshake(l.network.Dial(netip.AddrPort{}, l.addr()), psk())
			if err == nil {
				_, _ = client.Write([]byte("hello"))
				client.Kill()
			}
		})
		role(func(i int) {
			_, err := l.Save(ctx, &tornWriter{&bytes.Buffer{}, 15 * (i % 9)}, saveKey) // less than without sessions
			assert.Error(t, err)
		})
		role(func(i int) {
			c, err := l.AcceptConn(ctx)
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("x"))
			switch i % 4 {
			case 0:
				_ = c.Close()
			case 1:
				if state, err := c.Detach(); err == nil {
					_, _ = l.Attach(state)
				}
			}
		})
		role(func(int) { // a user who reads
			for c := range l.Sessions() {
				_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
				_, _ = c.Read(make([]byte, 10))
			}
		})
		time.Sleep(30 * time.Second)
		s := l.Stats()
		assert.NotZero(t, s.Detached)
		cancel()
		for range 4 {
			<-done
		}
		last := make(chan error, 1)
		go func() {
			_, err := l.Save(t.Context(), &tornWriter{&bytes.Buffer{}, 100}, saveKey)
			last <- err
		}()
		if err := l.Close(); err != nil {
			require.ErrorIs(t, err, net.ErrClosed)
		}
		require.Error(t, <-last)
		s = l.Stats()
		assert.Zero(t, s.Established)
		ends := s.ClosedByUs + s.ClosedByPeer + s.Evicted + s.Expired + s.Replaced + s.Refused + s.Exhausted + s.Detached + s.Interrupted
		assert.Equal(t, s.Completed+s.Restored, ends)
		assert.Equal(t, l.Table().AvailableSlots(), l.Table().MaxSlots())
	})
}

// FuzzSessionState: bytes that UnmarshalBinary takes are those that MarshalBinary returns.
func FuzzSessionState(f *testing.F) {
	network := dtlstest.NewNetwork(1)
	l, err := newListener(network.Listen(netip.AddrPort{}), psk(), dtlsserver.Config{})
	require.NoError(f, err)
	client := network.DialClient(f, netip.AddrPort{}, dtlstest.AddrPort(l.Addr()), psk())
	c, err := l.AcceptConn(f.Context())
	require.NoError(f, err)
	_, err = client.Write([]byte("unread"))
	require.NoError(f, err)
	state, err := c.Detach()
	require.NoError(f, err)
	seed, err := state.MarshalBinary()
	require.NoError(f, err)
	client.Kill()
	require.NoError(f, l.Close())
	require.NoError(f, network.Close())
	f.Add(seed)
	for i := 0; i < len(seed); i += 7 {
		changed := bytes.Clone(seed)
		changed[i] ^= 0xff
		f.Add(changed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var s dtlsserver.SessionState
		if s.UnmarshalBinary(data) != nil {
			return
		}
		again, err := s.MarshalBinary()
		require.NoError(t, err)
		require.Equal(t, data, again)
	})
}

var _ io.Writer = writerFunc(nil)

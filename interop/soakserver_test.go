// SPDX-License-Identifier: MIT

package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/keyring"
	"github.com/go-dsm/dsm/pionv4"
	"github.com/go-dsm/dsm/resume"
	"github.com/pion/dtls/v4/pkg/crypto/ciphersuite"
	"github.com/stretchr/testify/assert"
)

// soakServer is the server of TestSoakRoaming: one listener after the other, on the same
// sockets. One goroutine restarts it.
type soakServer struct {
	*soak
	addr  net.Addr
	dir   string // of the snapshot and the journals
	key   keyring.Key
	store *resume.Store
	seed  maphash.Seed // of tokens

	journals int          // directories so far
	restarts atomic.Int64 // begun and ended
	listener atomic.Pointer[dtlsserver.Listener]
	serving  sync.WaitGroup

	// Of the listener:
	table        *dsm.Table[*dtlsserver.Peer]
	began, ended atomic.Int64 // calls of its hooks

	total dtlsserver.Stats // of the listeners that have ended
}

// soakCrash is what clients need to know of a crash.
type soakCrash struct {
	closes int64 // how many crashes so far the sessions did not outlive
	// known is the number of the last client that had connected when the journal was written
	// last. It knows the session of each one.
	known int64
}

func startSoakServer(s *soak) *soakServer {
	server := &soakServer{soak: s, dir: s.t.TempDir(), key: keyring.Key{ID: 1, Secret: [32]byte{1}}, seed: maphash.MakeSeed()}
	s.require(os.Mkdir(server.journal(), 0o700))
	server.forget()
	cfg := server.config(soakIdleTimeout, dtlsserver.ContinueSessions)
	cfg.Sockets, cfg.ReadBuffer = 2, 4<<20
	l, err := pionv4.Listen("udp", "127.0.0.1:0", soakConfig(), cfg)
	s.require(err)
	server.addr = l.Addr()
	server.serve(l)
	s.t.Cleanup(func() {
		_ = server.current().Close()
		server.serving.Wait()
	})
	return server
}

func (s *soakServer) current() *dtlsserver.Listener { return s.listener.Load() }

func (s *soakServer) snapshot() string { return filepath.Join(s.dir, "snapshot") }

func (s *soakServer) journal() string {
	return filepath.Join(s.dir, fmt.Sprint("journal-", s.journals))
}

// forget makes the server forget the sessions that it has kept for resumption.
func (s *soakServer) forget() {
	store, err := resume.New(resume.Config{})
	s.require(err)
	s.store = store
}

func soakConfig() pionv4.Config {
	return pionv4.Config{
		PSK: func([]byte) ([]byte, error) { return key, nil }, CipherSuites: []ciphersuite.ID{ciphersuite.TLS_PSK_WITH_AES_128_GCM_SHA256},
		FlightInterval: dtlstest.FlightInterval,
	}
}

func (s *soakServer) config(idle time.Duration, afterCrash dtlsserver.AfterCrash) dtlsserver.Config {
	s.began.Store(0)
	s.ended.Store(0)
	table, err := dsm.New[*dtlsserver.Peer](soakSessions + soakHandshakes)
	s.require(err)
	s.table = table
	begins := func(*dtlsserver.Conn) { s.began.Add(1) }
	return dtlsserver.Config{
		Table: table, Sessions: soakSessions, Handshakes: soakHandshakes, HandshakesPerSource: -1, HandshakeTimeout: 2 * connectTimeout,
		IdleTimeout: idle, ServerID: []byte("soak"), Resumption: s.store,
		Journal:       &dtlsserver.Journal{Dir: s.journal(), Keys: []keyring.Key{s.key}, AfterCrash: afterCrash, Interval: soakJournalInterval},
		OnEstablished: begins, OnRestored: begins, OnEnd: func(*dtlsserver.Conn, dtlsserver.Reason) { s.ended.Add(1) },
	}
}

func (s *soakServer) serve(l *dtlsserver.Listener) {
	s.listener.Store(l)
	s.serving.Go(func() {
		err := l.Serve(context.Background(), s.echo)
		assert.ErrorIs(s.t, err, net.ErrClosed)
	})
}

// tokenSize is the size of a line's token, at its end. It is the token of the address to which
// the answer before has gone, if that was not verified: by CoAP's Echo option a client shows
// in the same way where it receives (RFC 9175 section 2.3).
const tokenSize = 16

var noToken = bytes.Repeat([]byte{'-'}, tokenSize)

func (s *soakServer) token(to netip.AddrPort) []byte {
	return fmt.Appendf(nil, "%0*x", tokenSize, maphash.String(s.seed, to.String()))
}

// echo answers a line by the same line with another token.
func (s *soakServer) echo(c *dtlsserver.Conn, line []byte) {
	answer := bytes.Clone(line)
	token := answer[len(answer)-tokenSize:]
	to, ok := c.UnverifiedAddress()
	if ok && bytes.Equal(token, s.token(to)) && c.ConfirmAddress(to) {
		s.done.confirmed.Add(1)
		ok = false
	}
	copy(token, noToken)
	if ok {
		copy(token, s.token(to))
	}
	_, _ = c.Write(answer)
}

// inherit returns duplicates of the listener's sockets.
func (s *soakServer) inherit() []net.PacketConn {
	files, err := s.current().Files()
	s.require(err)
	var conns []net.PacketConn
	for _, file := range files {
		conn, err := net.FilePacketConn(file)
		s.require(err)
		s.require(file.Close())
		conns = append(conns, conn)
	}
	return conns
}

// save restarts the server: it saves its sessions, and the next listener restores them.
func (s *soakServer) save(idle time.Duration) {
	s.restarts.Add(1)
	defer s.restarts.Add(1)
	conns := s.inherit()
	old := s.current()
	saved, err := old.SaveFile(context.Background(), s.snapshot(), s.key)
	s.require(err)
	s.check(old, false)
	assert.EqualValues(s.t, saved.Sessions, old.Stats().Detached, "%+v", old.Stats())

	cfg := s.config(idle, dtlsserver.ContinueSessions)
	var restored dtlsserver.RestoreStats
	cfg.Restore = func(l *dtlsserver.Listener) (err error) {
		restored, err = l.RestoreFile(context.Background(), s.snapshot(), s.key)
		return err
	}
	l, err := pionv4.NewListener(conns, soakConfig(), cfg)
	s.require(err)
	s.serve(l)
	assert.Equal(s.t, dtlsserver.RestoreStats{Sessions: saved.Sessions, Restored: restored.Restored, Expired: restored.Expired}, restored)
	assert.Zero(s.t, l.Recovered().Sessions, "the journal was emptied")
	s.done.savings.Add(1)
	s.done.restored.Add(int64(restored.Restored))
}

// failToSave has the server begin a restart that fails, so that it serves on.
func (s *soakServer) failToSave() {
	s.restarts.Add(1)
	defer s.restarts.Add(1)
	_, err := s.current().Save(context.Background(), &fullDisk{room: 100}, s.key)
	assert.ErrorIs(s.t, err, errFullDisk)
	s.done.failedSavings.Add(1)
}

var errFullDisk = errors.New("no space left")

// fullDisk is a writer with room for the beginning of a snapshot.
type fullDisk struct{ room int }

func (d *fullDisk) Write(p []byte) (int, error) {
	if d.room -= len(p); d.room < 0 {
		return 0, errFullDisk
	}
	return len(p), nil
}

// crash restarts the server with what a crash has left: the journal as it is on the disk at
// one moment. What the server sends after that is lost.
func (s *soakServer) crash(ctx context.Context, after dtlsserver.AfterCrash) {
	l := s.current()
	known := s.done.connects.Load()
	for range 2 { // the first time may be for what was noted before
		if !s.awaitJournal(ctx, l) {
			return
		}
	}
	select {
	case <-ctx.Done():
	case <-time.After(rand.N(soakJournalInterval)): // some clients connect meanwhile
	}
	s.restarts.Add(1)
	defer s.restarts.Add(1)
	conns := s.inherit()
	s.die(known, after == dtlsserver.CloseSessions, conns[0])

	s.forget()
	l, err := pionv4.NewListener(conns, soakConfig(), s.config(soakIdleTimeout, after))
	s.require(err)
	s.serve(l)
	recovered := l.Recovered()
	assert.Zero(s.t, recovered.Policy+recovered.Key+recovered.Refused+recovered.NoRoom, "%+v", recovered)
	s.done.crashes.Add(1)
	s.done.recovered.Add(int64(recovered.Restored))
}

// die ends the listener as a crash does.
func (s *soakServer) die(known int64, closes bool, socket net.PacketConn) {
	s.roaming.Lock()
	defer s.roaming.Unlock()
	for _, r := range s.roamers {
		r.disturbed.Add(1)
		r.muted.Store(true)
	}
	dir := s.journal()
	s.journals++
	s.require(copyJournal(dir, s.journal()))
	s.noteCrash(known, closes)
	l := s.current()
	s.require(l.Close())
	s.check(l, true)
	s.require(os.RemoveAll(dir))
	s.unmute(socket)
}

// noteCrash tells the clients and strangers of a crash.
func (s *soakServer) noteCrash(known int64, closes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := &soakCrash{closes: s.lastCrash.Load().closes, known: known}
	if closes {
		last.closes++
		s.forgetCapturedLocked()
	}
	s.lastCrash.Store(last)
}

// awaitJournal waits until the journal has been written.
func (s *soakServer) awaitJournal(ctx context.Context, l *dtlsserver.Listener) bool {
	before := l.Stats().JournalBytes
	for ctx.Err() == nil {
		if l.Stats().JournalBytes != before {
			return true
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Millisecond):
		}
	}
	return false
}

// copyJournal copies the files of a journal that is being written, as they are at one moment.
func copyJournal(from, to string) error {
	for {
		if err := os.RemoveAll(to); err != nil {
			return err
		}
		if err := os.Mkdir(to, 0o700); err != nil {
			return err
		}
		before, err := os.ReadDir(from)
		if err != nil {
			return err
		}
		for _, file := range before {
			b, err := os.ReadFile(filepath.Join(from, file.Name()))
			if errors.Is(err, os.ErrNotExist) {
				break
			}
			if err == nil {
				err = os.WriteFile(filepath.Join(to, file.Name()), b, 0o600)
			}
			if err != nil {
				return err
			}
		}
		after, err := os.ReadDir(from)
		if err != nil {
			return err
		}
		if slices.EqualFunc(before, after, func(a, b os.DirEntry) bool { return a.Name() == b.Name() }) {
			return nil // no file was begun or removed; what was appended meanwhile does not matter
		}
	}
}

// endOfCrash is a datagram that says to a NAT that the server before it has sent everything.
var endOfCrash = []byte("end of crash")

// unmute lets the NATs pass on what the server sends from now on.
func (s *soakServer) unmute(socket net.PacketConn) {
	for _, r := range s.roamers {
		dtlstest.Eventually(s.t, func() bool {
			if r.muted.Load() {
				_, _ = socket.WriteTo(endOfCrash, net.UDPAddrFromAddrPort(r.relay.Outside()))
			}
			return !r.muted.Load()
		}, "the NAT has got everything")
		r.disturbed.Add(1)
	}
}

// check checks the counts of a listener that has ended, and adds them to the total.
func (s *soakServer) check(l *dtlsserver.Listener, crashed bool) {
	s.serving.Wait()
	stats := l.Stats()
	ends := stats.ClosedByUs + stats.ClosedByPeer + stats.Evicted + stats.Expired + stats.Replaced + stats.Refused + stats.Exhausted + stats.Detached + stats.Interrupted
	ok := assert.Equal(s.t, s.table.MaxSlots(), s.table.AvailableSlots())
	ok = assert.Zero(s.t, stats.Established) && ok
	ok = assert.Zero(s.t, stats.HalfOpen) && ok
	ok = assert.Equal(s.t, stats.Started, stats.Completed+stats.Failed+stats.TimedOut+stats.Displaced) && ok
	ok = assert.Equal(s.t, stats.Completed+stats.Restored, ends) && ok
	ok = assert.Zero(s.t, stats.Evicted+stats.Refused+stats.Exhausted+stats.JournalErrors+stats.QueueFull) && ok
	ok = assert.Equal(s.t, s.began.Load(), s.ended.Load(), "hooks") && ok
	if !crashed {
		ok = assert.Zero(s.t, stats.ClosedByUs) && ok
	}
	if !ok {
		s.t.Logf("crashed: %t, %+v", crashed, stats)
	}
	total, counts := reflect.ValueOf(&s.total).Elem(), reflect.ValueOf(stats)
	for i := range counts.NumField() {
		if sum := total.Field(i); sum.Kind() == reflect.Uint64 {
			sum.SetUint(sum.Uint() + counts.Field(i).Uint())
		}
	}
}

// close ends the last listener.
func (s *soakServer) close() {
	l := s.current()
	s.require(l.Close())
	s.check(l, false)
}

// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/durable/crashfs"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/require"
)

// mutant says which part of the protection is missing.
type mutant struct{ lie, noClaim, noCeiling bool }

// nonceCounts says what schedules have done.
type nonceCounts struct {
	schedules, records, clients           int
	saves, failedSaves, closedByFailure   int
	restores, claimed, races, putBack     int // races: a restore in the middle of a save
	crashes, powerLosses, recoveries      int
	failedOpenings, exhausted, attached   int
	restoredSessions, recoveredSessions   int
	streamSaves, streamRestores, detached int
}

func (c *nonceCounts) add(o nonceCounts) {
	c.schedules += o.schedules
	c.records += o.records
	c.clients += o.clients
	c.saves += o.saves
	c.failedSaves += o.failedSaves
	c.closedByFailure += o.closedByFailure
	c.restores += o.restores
	c.claimed += o.claimed
	c.races += o.races
	c.putBack += o.putBack
	c.crashes += o.crashes
	c.powerLosses += o.powerLosses
	c.recoveries += o.recoveries
	c.failedOpenings += o.failedOpenings
	c.exhausted += o.exhausted
	c.attached += o.attached
	c.restoredSessions += o.restoredSessions
	c.recoveredSessions += o.recoveredSessions
	c.streamSaves += o.streamSaves
	c.streamRestores += o.streamRestores
	c.detached += o.detached
}

// The names on the disk, and the addresses of the listeners: the first one has the journal
// and gets what clients send, the second one only restores the snapshot.
const (
	nonceSnapshot = "state/sessions"
	nonceJournal  = "journal"
	nonceClients  = 4
)

var (
	firstAddr  = netip.MustParseAddrPort("192.0.2.1:5684")
	secondAddr = netip.MustParseAddrPort("192.0.2.9:5684")
)

// nonceWorld is what a schedule acts on.
type nonceWorld struct {
	t       *testing.T
	rng     *rand.Rand
	mutant  mutant
	after   dtlsserver.AfterCrash
	network *dtlstest.Network
	sent    sentRecords
	counts  nonceCounts
	step    int
	trace   []byte // what was done

	disk          *nonceDisk
	first, second *nonceServer // nil: closed
	clients       []*dtlstest.Client
	stream        []byte            // a saved stream that was not restored yet
	states        [][]byte          // of detached sessions
	snapshots     [][]byte          // copies of all there were
	journals      map[string][]byte // copies of journal files, by their names
}

// nonceServer is a listener and its sessions.
type nonceServer struct {
	*dtlsserver.Listener
	mu    sync.Mutex
	conns []*dtlsserver.Conn
}

func newNonceWorld(t *testing.T, seed uint64, m mutant) *nonceWorld {
	w := &nonceWorld{
		t: t, rng: rand.New(rand.NewPCG(seed, 2)), mutant: m, network: dtlstest.NewNetwork(seed), journals: map[string][]byte{},
	}
	w.sent.sessions, w.sent.secrets = map[netip.AddrPort][]*record.Session{}, map[record.Random]bool{}
	w.after = []dtlsserver.AfterCrash{dtlsserver.ContinueSessions, dtlsserver.ContinueSessions, dtlsserver.CloseSessions}[seed%3]
	w.setDisk(crashfs.New(seed))
	w.network.SetFilter(dtlstest.ToClient, func(d dtlstest.Datagram, forward func([]byte)) {
		w.sent.add(d, w.step)
		forward(d.Payload)
	})
	return w
}

func (w *nonceWorld) setDisk(fs *crashfs.FS) {
	fs.Lie(w.mutant.lie, w.mutant.lie)
	w.disk = &nonceDisk{FS: fs, noClaim: w.mutant.noClaim}
}

// run executes random operations. At the end what is left of the sessions goes on once more.
func (w *nonceWorld) run() {
	w.open()
	var choices []nonceOperation
	for _, o := range []struct {
		weight int
		name   string
		do     func()
	}{
		{4, "connect", w.connect}, {6, "talk", w.talk}, {6, "write", w.write}, {6, "jump", w.jump}, {8, "sleep", w.sleep},
		{3, "save", w.saveFile}, {1, "save a stream", w.saveStream}, {2, "crash", w.crash}, {1, "lose power", w.losePower},
		{6, "open", w.open}, {2, "open the second", w.openSecond}, {1, "close the second", w.closeSecond},
		{2, "put a snapshot back", w.putSnapshotBack}, {1, "put a journal back", w.putJournalBack}, {1, "break the disk", w.breakDisk},
		{2, "mend the disk", w.mendDisk}, {1, "crash the disk", w.crashDisk}, {1, "detach", w.detach}, {2, "attach", w.attach},
	} {
		choices = append(choices, slices.Repeat([]nonceOperation{{o.name, o.do}}, o.weight)...)
	}
	for range nonceClients {
		w.next(nonceOperation{"connect", w.connect})
	}
	for range 10 + w.rng.IntN(50) {
		w.next(choices[w.rng.IntN(len(choices))])
	}
	for _, operation := range []func(){
		w.mendDisk, w.open, w.writeAll, w.sleep, w.attach, w.writeAll, w.losePower, w.open, w.openSecond, w.writeAll, w.crash, w.closeSecond,
	} {
		w.next(nonceOperation{"end", operation})
	}
}

// nonceOperation is an operation of a schedule.
type nonceOperation struct {
	name string
	do   func()
}

func (w *nonceWorld) next(o nonceOperation) {
	w.step++
	w.note("\n%d %s", w.step, o.name)
	if w.disk.isCrashed() && w.one(2) { // until then the listeners run without a disk
		w.losePower()
	}
	o.do()
	synctest.Wait()
	w.keepCopies()
}

// note adds to the trace, which is shown after a violation.
func (w *nonceWorld) note(format string, args ...any) {
	w.trace = fmt.Appendf(w.trace, format+" ", args...)
}

// one reports true once in n times.
func (w *nonceWorld) one(n int) bool { return w.rng.IntN(n) == 0 }

func (w *nonceWorld) connect() {
	if w.first == nil || len(w.clients) == nonceClients {
		return
	}
	from := netip.AddrPort{}
	if n := len(w.clients); n > 0 && w.one(4) { // in the place of an earlier one
		from = dtlstest.AddrPort(w.clients[n-1].Addr())
		w.clients[n-1].Kill()
		w.clients = w.clients[:n-1]
	}
	client := w.network.DialClient(w.t, from, firstAddr, psk())
	go func() { _, _ = io.Copy(io.Discard, client) }()
	w.clients = append(w.clients, client)
	w.counts.clients++
}

// talk has a client say something, which the first listener answers.
func (w *nonceWorld) talk() {
	if len(w.clients) > 0 {
		client := w.clients[w.rng.IntN(len(w.clients))]
		for range 1 + w.rng.IntN(3) {
			_, _ = client.Write([]byte(w.text()))
		}
	}
}

// text returns what was not sent before.
func (w *nonceWorld) text() string { return fmt.Sprintf("%016x", w.rng.Uint64()) }

// write has a session send something of its own accord.
func (w *nonceWorld) write() {
	if c := w.session(); c != nil {
		w.writeTo(c, 1+w.rng.IntN(3))
	}
}

func (w *nonceWorld) writeAll() {
	for _, s := range w.servers() {
		for _, c := range s.sessions() {
			w.writeTo(c, 3)
		}
	}
}

func (w *nonceWorld) writeTo(c *dtlsserver.Conn, times int) {
	for range times {
		w.send(c, w.text())
	}
}

func (w *nonceWorld) send(c *dtlsserver.Conn, text string) {
	if w.mutant.noCeiling {
		c.WithoutCeiling(func() { _, _ = c.Write([]byte(text)) })
		return
	}
	_, _ = c.Write([]byte(text))
}

// jump has a session come near its ceiling.
func (w *nonceWorld) jump() {
	if c := w.session(); c != nil {
		w.note("%v of %v", c.Peer(), c.Listener().Addr())
		c.JumpBelowCeiling(uint64(1+w.rng.IntN(4)), uint64(w.rng.IntN(2)))
		w.writeTo(c, w.rng.IntN(3))
	}
}

func (w *nonceWorld) sleep() { time.Sleep(time.Duration(1+w.rng.IntN(40)) * 100 * time.Millisecond) }

func (w *nonceWorld) servers() (servers []*nonceServer) {
	for _, s := range []*nonceServer{w.first, w.second} {
		if s != nil {
			servers = append(servers, s)
		}
	}
	return servers
}

// session returns a session of a listener, or nil.
func (w *nonceWorld) session() *dtlsserver.Conn {
	var all []*dtlsserver.Conn
	for _, s := range w.servers() {
		all = append(all, s.sessions()...)
	}
	if len(all) == 0 {
		return nil
	}
	return all[w.rng.IntN(len(all))]
}

func (s *nonceServer) add(c *dtlsserver.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns = append(s.conns, c)
}

// sessions returns the sessions, those too that have ended.
func (s *nonceServer) sessions() []*dtlsserver.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.conns)
}

// listen opens a listener.
func (w *nonceWorld) listen(addr netip.AddrPort, cfg dtlsserver.Config) (*nonceServer, error) {
	s := &nonceServer{}
	writesAtOnce := w.one(2)
	cfg.OnEstablished = func(c *dtlsserver.Conn) {
		w.sent.learn(w.t, c)
		s.add(c)
	}
	cfg.OnRestored = func(c *dtlsserver.Conn) {
		s.add(c)
		if writesAtOnce {
			w.send(c, "restored by "+addr.String()+" "+fmt.Sprint(w.step))
		}
	}
	dtlsserver.SetDisk(&cfg, w.disk, func() uint64 { return 0 })
	socket := w.network.Listen(addr)
	l, err := newListener(socket, psk(), cfg)
	if err != nil {
		_ = socket.Close()
		w.counts.failedOpenings++
		w.note("failed: %v", err)
		return nil, err
	}
	s.Listener = l
	serve(w.t, l, func(c *dtlsserver.Conn, b []byte) { w.send(c, "answer to "+string(b)) })
	return s, nil
}

// open opens the first listener, unless it is open.
func (w *nonceWorld) open() {
	if w.first != nil {
		return
	}
	cfg := dtlsserver.Config{Sessions: 8, Journal: journalIn(nonceJournal, w.after)}
	cfg.Journal.Interval = 200 * time.Millisecond
	cfg.Restore = func(l *dtlsserver.Listener) error {
		if w.stream != nil {
			stats, err := l.Restore(w.t.Context(), bytes.NewReader(w.stream), saveKey)
			require.NoError(w.t, err)
			w.counts.streamRestores++
			w.counts.restoredSessions += stats.Restored
			w.stream = nil
		}
		w.restoreFile(l)
		return nil
	}
	if s, err := w.listen(firstAddr, cfg); err == nil {
		w.first = s
		w.counts.recoveries++
		w.note("recovered %d", s.Recovered().Restored)
		w.counts.recoveredSessions += s.Recovered().Restored
	}
}

// restoreFile restores the snapshot, if it can be.
func (w *nonceWorld) restoreFile(l *dtlsserver.Listener) {
	stats, err := l.RestoreFile(w.t.Context(), nonceSnapshot, saveKey)
	w.note("restored %d at %v: %v", stats.Restored, l.Addr(), err)
	switch {
	case err == nil:
		w.counts.restores++
		w.counts.restoredSessions += stats.Restored
	case errors.Is(err, dtlsserver.ErrClaimed):
		w.counts.claimed++
	}
}

// openSecond opens the second listener, which restores the same snapshot. It closes the one
// before by a crash.
func (w *nonceWorld) openSecond() {
	w.closeSecond()
	s, err := w.listen(secondAddr, dtlsserver.Config{Sessions: 8, Restore: func(l *dtlsserver.Listener) error {
		w.restoreFile(l)
		return nil
	}})
	if err == nil {
		w.second = s
	}
}

func (w *nonceWorld) closeSecond() {
	if w.second == nil {
		return
	}
	if w.one(2) {
		w.second.Crash()
	} else {
		_ = w.second.Close()
	}
	w.second = nil
}

// saveFile saves to the file. At one of the operations of the disk the sessions may write and
// the second listener may open, and the disk may fail.
func (w *nonceWorld) saveFile() {
	if w.first == nil {
		return
	}
	if w.one(3) {
		w.disk.before(1+w.rng.IntN(14), func() {
			w.counts.races++
			w.note("meanwhile:")
			w.writeAll()
			w.openSecond()
			if w.one(2) {
				w.disk.failAt(1, 1+w.rng.IntN(3))
			}
		})
	}
	if w.one(3) {
		w.disk.failAt(1+w.rng.IntN(14), 1+w.rng.IntN(3))
	}
	if w.one(8) {
		w.disk.CrashAfter(1 + w.rng.IntN(14))
	}
	_, err := w.first.SaveFile(w.t.Context(), nonceSnapshot, saveKey)
	w.disk.before(0, nil)
	w.disk.failAt(0, 0)
	w.saved(err)
}

// saved counts a Save, after which the first listener may be closed.
func (w *nonceWorld) saved(err error) {
	if err != nil {
		w.counts.failedSaves++
		w.note("failed: %v", err)
	} else {
		w.counts.saves++
	}
	if w.first.IsClosed() {
		if err != nil {
			w.counts.closedByFailure++
		}
		w.leave()
	}
}

// saveStream saves to a stream, which may be torn.
func (w *nonceWorld) saveStream() {
	if w.first == nil || w.stream != nil {
		return
	}
	var stream bytes.Buffer
	var to io.Writer = &stream
	if w.one(2) {
		to = &tornWriter{&stream, w.rng.IntN(1000)}
	}
	_, err := w.first.Save(w.t.Context(), to, saveKey)
	if err == nil {
		w.stream = stream.Bytes()
		w.counts.streamSaves++
	}
	w.saved(err)
}

// leave forgets the first listener, which has ended.
func (w *nonceWorld) leave() {
	w.counts.exhausted += int(w.first.Stats().Exhausted)
	w.first = nil
}

func (w *nonceWorld) crash() {
	if w.first != nil {
		w.counts.crashes++
		w.first.Crash()
		w.leave()
	}
}

// losePower ends all processes. The disk may lose what was not synced.
func (w *nonceWorld) losePower() {
	w.counts.powerLosses++
	w.note("power is lost")
	w.crash()
	if w.second != nil {
		w.second.Crash()
		w.second = nil
	}
	w.setDisk(w.disk.Crash())
	w.stream = nil // it was in memory
}

// crashDisk lets the power be lost at one of the next operations of the disk.
func (w *nonceWorld) crashDisk() { w.disk.CrashAfter(1 + w.rng.IntN(20)) }

func (w *nonceWorld) breakDisk() {
	if w.one(2) {
		w.disk.FailWrites(errDisk, w.rng.IntN(3000))
	} else {
		w.disk.FailSync(errDisk)
	}
}

func (w *nonceWorld) mendDisk() {
	w.disk.FailWrites(nil, 0)
	w.disk.FailSync(nil)
}

// keepCopies copies the files there are.
func (w *nonceWorld) keepCopies() {
	if b, ok := w.disk.Get(nonceSnapshot); ok {
		if n := len(w.snapshots); n == 0 || !bytes.Equal(w.snapshots[n-1], b) {
			w.snapshots = append(w.snapshots, b)
		}
	}
	names, _ := w.disk.List(nonceJournal)
	for _, name := range names {
		if b, ok := w.disk.Get(filepath.Join(nonceJournal, name)); ok && w.journals[name] == nil || w.one(4) {
			w.journals[name] = b
		}
	}
}

// putSnapshotBack puts an old copy of the snapshot in its place.
func (w *nonceWorld) putSnapshotBack() {
	if n := len(w.snapshots); n > 0 {
		w.disk.Put(nonceSnapshot, w.snapshots[w.rng.IntN(n)])
		w.counts.putBack++
	}
}

// putJournalBack puts an old copy of a file of the journal in its place. The file is gone: a
// later one has all that counts.
func (w *nonceWorld) putJournalBack() {
	there, err := w.disk.List(nonceJournal)
	if err != nil {
		return
	}
	var gone []string
	for _, name := range slices.Sorted(maps.Keys(w.journals)) {
		if !slices.Contains(there, name) && strings.HasPrefix(name, "journal.") {
			gone = append(gone, name)
		}
	}
	if len(gone) > 0 {
		name := gone[w.rng.IntN(len(gone))]
		w.disk.Put(filepath.Join(nonceJournal, name), w.journals[name])
		w.counts.putBack++
	}
}

// detach takes a session out of its listener.
func (w *nonceWorld) detach() {
	if c := w.session(); c != nil {
		if state, err := c.Detach(); err == nil {
			data, err := state.MarshalBinary()
			require.NoError(w.t, err)
			w.states = append(w.states, data)
			w.counts.detached++
			w.note("%v", c.Peer())
		}
	}
}

// attach goes on with detached sessions at one of the listeners.
func (w *nonceWorld) attach() {
	servers := w.servers()
	if len(servers) == 0 {
		return
	}
	for _, data := range w.states {
		if _, err := servers[w.rng.IntN(len(servers))].Attach(unmarshal(w.t, data)); err == nil {
			w.counts.attached++
		}
	}
	w.states = nil
}

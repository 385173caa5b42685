// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/require"
)

// Bounds of a program.
const (
	maxProgram    = 1024 // bytes
	maxOperations = 64
	maxCaptured   = 64   // datagrams of one direction that a program can choose from
	maxInjected   = 20e3 // bytes of a datagram: more than the listener reads
)

// program is the rest of an input. What is read after its end is zero.
type program struct{ rest []byte }

func (p *program) byte() int {
	if len(p.rest) == 0 {
		return 0
	}
	b := p.rest[0]
	p.rest = p.rest[1:]
	return int(b)
}

func (p *program) number() int { return p.byte()<<8 | p.byte() }

func (p *program) bytes(n int) []byte {
	n = min(n, len(p.rest))
	b := bytes.Clone(p.rest[:n])
	p.rest = p.rest[n:]
	return b
}

// The operations of a program. Each is a byte, and its arguments follow.
const (
	opInject   = iota // source, template, mutations: a forged datagram
	opSleep           // how long
	opEcho            // peer: an honest client says something
	opConnect         // peer, rank: a client dies, and begins a handshake on its port
	opWrongKey        // peer, rank: the same with another pre-shared key
	opRelease         // peer, rank: a stalled handshake goes on
	opLeave           // peer: an honest client closes its session
	opKill            // peer: an honest client dies
	opEnd             // peer: the server closes a session
	opDeafen          // peer: nothing reaches a client, until this comes again
	opSealed          // peer, type, length, payload: a client turns hostile, and seals a record of the program's making
	opForge           // peer, type, length, payload: a hostile client seals such a record in the place of its Finished
	operations
)

// step executes the next operation of a program.
func (w *fuzzWorld) step(p *program) {
	switch p.byte() % operations {
	case opInject:
		w.inject(p)
	case opSleep:
		time.Sleep([]time.Duration{10 * time.Millisecond, time.Second, 10 * time.Second, 65 * time.Second}[p.byte()%4])
	case opEcho:
		if peer := w.peer(p); peer.lives() {
			w.talk(peer.honest()) // a lost session counts at the end
		}
	case opConnect:
		peer := w.peer(p)
		w.connect(peer, 1+p.byte()%rankFinished)
	case opWrongKey:
		peer := w.peer(p)
		w.connectWrongKey(peer, 1+p.byte()%rankFinished)
	case opSealed:
		peer, kind := w.peer(p), record.Type(p.byte())
		w.sendSealed(peer, kind, p.bytes(p.byte()))
	case opForge:
		peer, kind := w.peer(p), record.Type(p.byte())
		w.connectForger(peer, kind, p.bytes(p.byte()))
	case opRelease:
		w.peer(p).release(1 + p.byte()%rankFinished)
	case opLeave:
		w.peer(p).leave()
	case opKill:
		w.peer(p).kill()
	case opEnd:
		w.closeSession(w.peer(p))
	case opDeafen:
		peer := w.peer(p)
		peer.setDeaf(!peer.isDeaf())
	}
}

func (w *fuzzWorld) peer(p *program) *fuzzPeer { return w.peers[p.byte()%fuzzPeers] }

// inject sends a datagram of the program's making, from an honest peer's address or from a
// stranger's.
func (w *fuzzWorld) inject(p *program) {
	source := p.byte() % (2 * fuzzPeers)
	from := dtlstest.NthAddr(40, source, 5684)
	switch {
	case source < fuzzPeers:
		from = w.peers[source].addr
	case source < fuzzPeers+fuzzPeers/2:
		from = dtlstest.NthAddr(20+byte(source%2), source, 5684) // in a network of honest clients
	}
	datagram := w.mutated(p)
	w.mu.Lock()
	w.arriveLocked(datagram)
	w.mu.Unlock()
	w.network.Inject(from, w.addr(), datagram)
	synctest.Wait()
	if s := w.Stats(); isForgedAtWill(datagram) {
		require.Equal(w.t, outcomes(w.before), outcomes(s), "what anybody can send has changed something")
	}
}

// isForgedAtWill reports whether a datagram has no record that a listener may heed at
// once: plaintext alerts and data.
func isForgedAtWill(datagram []byte) bool {
	for rest := datagram; len(rest) > 0; {
		r, after, fault := record.Next(rest)
		rest = after
		if fault == record.NoFault && (r.Epoch > 0 || r.Type == record.TypeHandshake || r.Type == record.TypeChangeCipherSpec) {
			return false
		}
	}
	return true
}

// outcomes returns the counts of handshakes and sessions.
func outcomes(s dtlsserver.Stats) [7]uint64 {
	return [7]uint64{uint64(s.Established), uint64(s.HalfOpen), s.Started, s.Completed, s.Failed, s.TimedOut, s.Displaced}
}

// The ranks of a client's records: their order in its flights.
const (
	rankFirstHello = iota + 1
	rankHello      // with the cookie
	rankCertificate
	rankKeyExchange
	rankVerify
	rankChangeCipherSpec
	rankFinished // and all other protected records
)

func rankOf(r record.Record) int {
	switch {
	case r.Epoch > 0:
		return rankFinished
	case r.Type == record.TypeChangeCipherSpec:
		return rankChangeCipherSpec
	case r.Type != record.TypeHandshake:
		return rankFirstHello
	}
	h, _, _ := record.NextHandshake(r.Fragment())
	switch h.Type {
	case record.MessageCertificate:
		return rankCertificate
	case record.MessageClientKeyExchange:
		return rankKeyExchange
	case record.MessageCertificateVerify:
		return rankVerify
	}
	return min(rankFirstHello+int(h.MessageSeq), rankHello)
}

// toServer passes of a client's datagram the records up to its rank, and captures them
// all: what a stalled client would have sent next can be injected, too.
func (w *fuzzWorld) toServer(d dtlstest.Datagram, forward func([]byte)) {
	w.capture(dtlstest.ToServer, d.From, d.Payload)
	rank := rankFinished
	for _, p := range w.peers {
		if p.addr == d.From {
			rank = p.stalledAt()
		}
	}
	var passed []byte
	for _, r := range dtlstest.Records(d.Payload) {
		if rankOf(r) <= rank {
			passed = append(passed, r.Raw...)
		}
	}
	if len(passed) == 0 {
		return
	}
	w.mu.Lock()
	w.arriveLocked(passed)
	w.mu.Unlock()
	forward(passed)
}

func (w *fuzzWorld) toClient(d dtlstest.Datagram, forward func([]byte)) {
	w.capture(dtlstest.ToClient, d.To, d.Payload)
	for _, p := range w.peers {
		if p.addr == d.To && (p.isDeaf() || p.lives() && !isProtected(d.Payload)) {
			return
		}
	}
	forward(d.Payload)
}

// isProtected reports whether a datagram has a protected record. An established client of
// pion v2 ends at a plaintext alert. This one takes no plaintext, as RFC 6347 section
// 4.1.1.1 allows.
func isProtected(datagram []byte) bool {
	for _, r := range dtlstest.Records(datagram) {
		if r.Epoch > 0 {
			return true
		}
	}
	return false
}

// capture keeps a datagram, unless it repeats a flight.
func (w *fuzzWorld) capture(direction dtlstest.Direction, peer netip.AddrPort, datagram []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	content := fmt.Sprint(direction, peer, string(datagram[record.HeaderSize:]))
	first := dtlstest.Records(datagram)[0]
	if len(dtlstest.Records(datagram)) > 1 {
		content = fmt.Sprint(direction, peer, string(first.Fragment()))
	}
	if w.seen[content] {
		return
	}
	w.seen[content] = true
	c := &w.captured[direction]
	*c = append((*c)[max(0, len(*c)-maxCaptured+1):], bytes.Clone(datagram))
}

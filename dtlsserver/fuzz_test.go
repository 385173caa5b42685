// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/resume"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/require"
)

// The bits of the first byte of an input: which listener it runs against.
const (
	fuzzPSK          = 0 // TLS_PSK_WITH_AES_128_GCM_SHA256
	fuzzCertificates = 1 // ECDHE_ECDSA, and any client certificate is required
	fuzzECDHEPSK     = 2 // ECDHE_PSK or ECDHE_ECDSA, and a client certificate is requested
	fuzzCBC          = 3 // TLS_PSK_WITH_AES_128_CBC_SHA256
	fuzzKind         = 3 // the mask of the above

	fuzzResumption = 4 // with Config.Resumption
	fuzzTight      = 8 // with room for so few sessions that newcomers evict some
)

// FuzzListener runs programs against a listener that has established sessions and
// half-open handshakes. A program injects datagrams from any address, changes and repeats
// what clients and the server have sent, lets time pass, and has honest clients come, talk
// and go: see fuzzProgram. After each step the counts agree. At the end every session that
// the program has not ended still echoes, a newcomer gets in, and nothing is left after
// Close.
func FuzzListener(f *testing.F) {
	certificate := dtlstest.SelfSigned(f, dtlstest.ECDSA).Certificate
	for _, seed := range fuzzSeeds() {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		synctest.Test(t, func(t *testing.T) {
			p := program{input[:min(len(input), maxProgram)]}
			w := newFuzzWorld(t, p.byte(), certificate)
			for n := 0; len(p.rest) > 0 && n < maxOperations && !t.Failed(); n++ {
				w.step(&p)
				w.checkCounts()
			}
			w.finish()
		})
	})
}

const (
	fuzzEstablished = 2  // sessions at the beginning
	fuzzPeers       = 6  // honest clients' addresses
	fuzzSessions    = 16 // Config.Sessions
	fuzzFewSessions = 3  // with fuzzTight
	fuzzHandshakes  = 6  // Config.Handshakes
	fuzzShare       = 3  // Config.HandshakesPerSource
)

// fuzzWorld is the listener, the network and the honest clients of one input.
type fuzzWorld struct {
	memory
	t           *testing.T
	kind        int
	cfg         dtlsserver.Config
	certificate tls.Certificate
	peers       [fuzzPeers + 1]*fuzzPeer // the last one comes at the end
	begun       int                      // handshakes of honest clients
	before      dtlsserver.Stats
	running     sync.WaitGroup // handshakes

	mu sync.Mutex
	// mu guards the following.
	texts        int                                 // that clients have sent
	expected     map[string]bool                     // texts that the server has not received
	captured     [2][][]byte                         // what was sent, by dtlstest.Direction
	seen         map[string]bool                     // what need not be captured again
	sessions     map[netip.AddrPort]*dtlsserver.Conn // the last one of each address
	began, ended int                                 // calls of OnEstablished and OnEnd

	// Records that were sent to the server since before, and of these the protected ones.
	arrived, protected int
	delivered          int // texts that the server has received since before
	undecided          int // at most so many protected records can still be dropped
}

func newFuzzWorld(t *testing.T, kind int, certificate tls.Certificate) *fuzzWorld {
	w := &fuzzWorld{t: t, kind: kind, certificate: certificate, expected: map[string]bool{}, seen: map[string]bool{}, sessions: map[netip.AddrPort]*dtlsserver.Conn{}}
	w.cfg = dtlsserver.Config{
		Sessions: fuzzSessions, Handshakes: fuzzHandshakes, HandshakesPerSource: fuzzShare,
		OnEstablished: w.noteEstablished, OnEnd: w.noteEnd,
	}
	if kind&fuzzTight != 0 {
		w.cfg.Sessions = fuzzFewSessions
	}
	if kind&fuzzResumption != 0 {
		w.cfg.Resumption = newStore(t, resume.Config{})
	}
	for n := range w.peers {
		w.peers[n] = &fuzzPeer{number: n, addr: dtlstest.NthAddr(20+byte(n%2), n, 5684), kept: &dtlstest.ClientStore{}}
	}
	w.peers[fuzzPeers].addr = dtlstest.NthAddr(30, 0, 5684)
	t.Cleanup(w.killAll)
	w.memory = listenInMemory(t, w.serverConfig(), w.cfg)
	w.network.SetFilter(dtlstest.ToServer, w.toServer)
	w.network.SetFilter(dtlstest.ToClient, w.toClient)
	serve(t, w.Listener, w.echo)
	for n := range fuzzEstablished {
		w.connect(w.peers[n], rankFinished)
		require.True(t, w.peers[n].lives(), "an honest client gets in")
	}
	for n, rank := range []int{rankFirstHello, rankHello, rankKeyExchange} {
		w.connect(w.peers[fuzzEstablished+n], rank)
	}
	w.checkCounts()
	return w
}

func (w *fuzzWorld) serverConfig() *dtls.Config {
	config := w.clientConfig(1)
	config.ConnectContextMaker = nil
	switch w.kind & fuzzKind {
	case fuzzCertificates:
		config.ClientAuth = dtls.RequireAnyClientCert
	case fuzzECDHEPSK:
		certificates := w.clientConfig(0)
		config.CipherSuites = append(config.CipherSuites, certificates.CipherSuites...)
		config.Certificates, config.ClientAuth = certificates.Certificates, dtls.RequestClientCert
	}
	return config
}

// clientConfig returns the configuration of the n-th client, with the right key. With
// fuzzECDHEPSK every other client has a certificate and no key.
func (w *fuzzWorld) clientConfig(n int) *dtls.Config {
	switch kind := w.kind & fuzzKind; {
	case kind == fuzzECDHEPSK && n%2 == 1:
		return dtlstest.PSKConfig("key", dtls.TLS_ECDHE_PSK_WITH_AES_128_CBC_SHA256)
	case kind == fuzzCertificates || kind == fuzzECDHEPSK:
		return dtlstest.WithTimeout(&dtls.Config{
			Certificates: []tls.Certificate{w.certificate}, InsecureSkipVerify: true, FlightInterval: dtlstest.FlightInterval,
			CipherSuites: []dtls.CipherSuiteID{dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
		}, dtlstest.Patience)
	case kind == fuzzCBC:
		return dtlstest.PSKConfig("key", dtls.TLS_PSK_WITH_AES_128_CBC_SHA256)
	}
	return psk()
}

// echo is the server's handler. It gets what an honest client has sent, and once.
func (w *fuzzWorld) echo(c *dtlsserver.Conn, datagram []byte) {
	w.mu.Lock()
	text := fmt.Sprint(c.Peer(), " ", string(datagram))
	if !w.expected[text] {
		w.t.Errorf("%q was delivered, which no client has sent, or twice", text)
	}
	delete(w.expected, text)
	w.delivered++
	w.mu.Unlock()
	_, _ = c.Write(datagram)
}

// arriveLocked notes what is sent to the server.
func (w *fuzzWorld) arriveLocked(datagram []byte) {
	w.arrived++ // also an empty datagram, and what is left after the last record
	for rest := datagram; len(rest) > 0; {
		r, after, fault := record.Next(rest)
		rest = after
		if len(rest) > 0 {
			w.arrived++
		}
		if fault == record.NoFault && r.Epoch > 0 {
			// Each handshake of the address can keep it, and count it when there are keys.
			w.protected += dtlsserver.MaxPending
			w.arrived += dtlsserver.MaxPending - 1
		}
	}
}

// checkCounts compares the counts of the listener when nothing happens any more.
func (w *fuzzWorld) checkCounts() {
	w.t.Helper()
	synctest.Wait()
	s, t := w.Stats(), w.t
	require.Equal(t, s.Started, uint64(s.HalfOpen)+s.Completed+s.Failed+s.TimedOut+s.Displaced, "handshakes: %+v", s)
	require.Equal(t, s.Completed, uint64(s.Established)+allEnds(s), "sessions: %+v", s)
	require.LessOrEqual(t, s.Established, w.cfg.Sessions)
	require.LessOrEqual(t, s.HalfOpen, w.cfg.Handshakes)
	table := w.Table().Stats()
	require.Equal(t, table.Stored, table.Removed+table.Evicted+uint64(table.Established+table.Handshakes))
	require.Equal(t, s.Established, table.Established)
	require.LessOrEqual(t, table.Handshakes, s.HalfOpen)

	w.mu.Lock()
	defer w.mu.Unlock()
	require.LessOrEqual(t, s.Completed, uint64(w.begun), "nobody else can complete a handshake")
	require.EqualValues(t, s.Completed-s.Refused, w.began)
	require.EqualValues(t, allEnds(s)-s.Refused, w.ended)
	// Each record is dropped once at most, a protected one once by each handshake of its
	// address, and a record that had its effect is not. Of a protected record a handshake may
	// know only later.
	dropped := int(allDrops(s) - allDrops(w.before))
	effects := w.delivered + int(s.Completed-w.before.Completed+s.ClosedByPeer-w.before.ClosedByPeer)
	w.undecided += min(w.arrived-dropped, w.protected) - effects
	require.GreaterOrEqual(t, w.undecided, 0, "%d of %d records were dropped: before %+v, after %+v", dropped, w.arrived, w.before, s)
	w.before, w.arrived, w.protected, w.delivered = s, 0, 0, 0
}

func allEnds(s dtlsserver.Stats) uint64 {
	return s.ClosedByUs + s.ClosedByPeer + s.Evicted + s.Expired + s.Replaced + s.Refused + s.Exhausted
}

func allDrops(s dtlsserver.Stats) uint64 {
	return s.NoRoom + s.SourceShare + s.Stray + s.Malformed + s.Plaintext + s.Epoch + s.Replayed + s.Forged + s.QueueFull +
		s.Ignored + s.WrongKey + s.WrongFinished
}

// finish checks what must hold after every program.
func (w *fuzzWorld) finish() {
	lost := 0
	for _, p := range w.peers {
		p.setDeaf(false)
		if p.lives() && !w.talk(p.honest()) {
			w.t.Logf("the session of %v is lost: %+v", p.addr, w.Stats())
			lost++
		}
		if !p.lives() {
			p.kill() // its ClientHello would compete with the newcomer's, which is not repeated once a cookie was sent
		}
	}
	require.LessOrEqual(w.t, uint64(lost), w.Stats().Evicted, "honest sessions were lost")
	w.checkCounts()
	// Then whoever holds a place without a reason has exceeded its patience.
	time.Sleep(dtlsserver.DefaultHandshakeTimeout / 2)
	newcomer := w.peers[fuzzPeers]
	w.connect(newcomer, rankFinished)
	w.running.Wait()
	require.True(w.t, newcomer.lives(), "a newcomer gets in: %+v", w.Stats())
	w.checkCounts()

	w.killAll()
	require.NoError(w.t, w.Close())
	w.checkCounts()
	s := w.Stats()
	require.Zero(w.t, s.Established+s.HalfOpen)
	require.Equal(w.t, w.Table().MaxSlots(), w.Table().AvailableSlots())
}

// killAll ends all clients and waits for their handshakes.
func (w *fuzzWorld) killAll() {
	for _, p := range w.peers {
		p.kill()
	}
	w.running.Wait()
}

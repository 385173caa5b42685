// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/pion/dtls/v2"
)

// fuzzPeer is an address of clients, of which one at a time is there.
type fuzzPeer struct {
	number int
	addr   netip.AddrPort
	kept   *dtlstest.ClientStore

	mu sync.Mutex
	// mu guards the following.
	rank   int              // of the records that pass to the server
	deaf   bool             // no datagram passes to the client
	socket *dtlstest.Socket // nil: no client is there
	client *dtlstest.Client // nil: the client has not heard its echo
	lively bool             // client is honest and has not ended its session
}

func (p *fuzzPeer) stalledAt() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rank
}

func (p *fuzzPeer) isDeaf() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.deaf
}

func (p *fuzzPeer) setDeaf(deaf bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deaf = deaf
}

// honest returns the client of a session that must not be lost, or nil.
func (p *fuzzPeer) honest() *dtlstest.Client {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.lively {
		return nil
	}
	return p.client
}

func (p *fuzzPeer) lives() bool { return p.honest() != nil }

// giveUp returns the client of a session that may be lost from now on, or nil.
func (p *fuzzPeer) giveUp() *dtlstest.Client {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lively = false
	return p.client
}

// release lets further records pass.
func (p *fuzzPeer) release(rank int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rank = max(p.rank, rank)
}

// leave has the client close its session.
func (p *fuzzPeer) leave() {
	if c := p.giveUp(); c != nil {
		_ = c.Close()
	}
}

// kill ends the client or its handshake, and frees its address.
func (p *fuzzPeer) kill() {
	c := p.giveUp()
	p.mu.Lock()
	socket := p.socket
	p.client, p.socket = nil, nil
	p.mu.Unlock()
	if c != nil {
		c.Kill()
	}
	if socket != nil {
		_ = socket.Close()
	}
}

// replace ends the client of a peer. It returns the socket of the next one, whose records
// pass up to a rank.
func (w *fuzzWorld) replace(p *fuzzPeer, rank int) *dtlstest.Socket {
	p.kill()
	socket := w.network.Dial(p.addr, w.addr())
	p.mu.Lock()
	p.rank, p.socket = rank, socket
	p.mu.Unlock()
	w.mu.Lock()
	clear(w.seen) // a key exchange can be the same in each handshake
	w.mu.Unlock()
	return socket
}

// connect has an honest client begin a handshake, whose records pass up to a rank.
func (w *fuzzWorld) connect(p *fuzzPeer, rank int) {
	config := w.clientConfig(p.number)
	if w.kind&fuzzResumption != 0 {
		config.SessionStore = p.kept
	}
	w.begun++
	socket := w.replace(p, rank)
	w.handshake(p, socket, socket, config)
}

// connectWrongKey is connect with another pre-shared key, if the client has one.
func (w *fuzzWorld) connectWrongKey(p *fuzzPeer, rank int) {
	config := w.clientConfig(p.number)
	if config.PSK == nil {
		return
	}
	config.PSK = func([]byte) ([]byte, error) { return []byte("another"), nil }
	socket := w.replace(p, rank)
	w.handshake(p, socket, socket, config)
}

// connectForger has a client begin a handshake that seals another record in the place of
// its Finished. A record of no type is PaddingForMAC.
func (w *fuzzWorld) connectForger(p *fuzzPeer, kind record.Type, payload []byte) {
	config := w.clientConfig(p.number)
	socket := w.replace(p, rankFinished)
	forger := dtlstest.NewFinishedForger(socket, record.SuiteID(config.CipherSuites[0]), func(client *record.Session) ([]byte, error) {
		if kind == 0 {
			return dtlstest.PaddingForMAC(client)
		}
		return client.Seal(nil, kind, payload)
	})
	config.KeyLogWriter = forger.KeyLog()
	w.handshake(p, socket, forger, config)
}

// handshake runs the handshake of a client. A client that then hears its echo has a
// session, which must not be lost.
func (w *fuzzWorld) handshake(p *fuzzPeer, socket *dtlstest.Socket, over net.Conn, config *dtls.Config) {
	w.running.Go(func() {
		client, err := dtlstest.Handshake(over, config)
		if err != nil {
			return
		}
		// In an abbreviated handshake the client does not learn that the server is done.
		established := w.talk(client)
		p.mu.Lock()
		defer p.mu.Unlock()
		if established && p.socket == socket {
			p.client, p.lively, p.rank = client, true, rankFinished // all of its records pass now
			return
		}
		w.running.Go(client.Kill)
	})
	synctest.Wait()
}

// talk has a client say something, and reports whether it comes back.
func (w *fuzzWorld) talk(c *dtlstest.Client) bool {
	w.mu.Lock()
	w.texts++
	text := fmt.Sprint("text ", w.texts)
	w.mu.Unlock()
	w.expect(c, text)
	if _, err := c.Write([]byte(text)); err != nil {
		return false
	}
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	buf := make([]byte, 100)
	n, err := c.Read(buf)
	return err == nil && string(buf[:n]) == text
}

// expect notes what the server may receive of a client.
func (w *fuzzWorld) expect(c *dtlstest.Client, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.expected[fmt.Sprint(c.Transport.LocalAddr(), " ", text)] = true
}

// sendSealed has an established client send a record that pion would not send. Its
// sequence number is beyond those of all others.
func (w *fuzzWorld) sendSealed(p *fuzzPeer, kind record.Type, payload []byte) {
	c := p.giveUp()
	if c == nil {
		return
	}
	w.mu.Lock()
	w.texts++
	next := 1<<20 + w.texts
	w.mu.Unlock()
	records, err := dtlstest.ClientRecords(c.Conn, uint64(next))
	if err != nil {
		return // the client is closed
	}
	if kind == record.TypeApplicationData {
		w.expect(c, string(payload))
	}
	raw, err := records.Seal(nil, kind, payload)
	if err != nil {
		w.t.Error(err)
		return
	}
	w.mu.Lock()
	w.arriveLocked(raw)
	w.mu.Unlock()
	w.network.Inject(p.addr, w.addr(), raw)
}

// closeSession has the server close the session of a peer, if it has one.
func (w *fuzzWorld) closeSession(p *fuzzPeer) {
	w.mu.Lock()
	c := w.sessions[p.addr]
	w.mu.Unlock()
	if c != nil {
		p.giveUp()
		_ = c.Close()
	}
}

// noteEstablished is Config.OnEstablished.
func (w *fuzzWorld) noteEstablished(c *dtlsserver.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.began++
	w.sessions[c.Peer()] = c
}

// noteEnd is Config.OnEnd.
func (w *fuzzWorld) noteEnd(*dtlsserver.Conn, dtlsserver.Reason) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended++
}

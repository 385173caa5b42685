// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/require"
)

// mobileWorld is a listener that gives its clients connection IDs, on a network in memory. It
// echoes what it receives.
type mobileWorld struct {
	*Listener
	network *dtlstest.Network
	server  netip.AddrPort

	mu   sync.Mutex
	sent map[netip.AddrPort][][]byte // by the listener, by address; guarded by mu
}

// withMobiles runs a test in a bubble with such a listener.
func withMobiles(t *testing.T, handshaker *scriptedHandshaker, cfg Config, test func(t *testing.T, w *mobileWorld)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newMobileWorld(t, handshaker, cfg)) })
}

func newMobileWorld(t *testing.T, handshaker *scriptedHandshaker, cfg Config) *mobileWorld {
	t.Helper()
	w := &mobileWorld{network: dtlstest.NewNetwork(1), sent: map[netip.AddrPort][][]byte{}}
	w.network.SetUnclaimed(func(d dtlstest.Datagram) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.sent[d.To] = append(w.sent[d.To], d.Payload)
	})
	handshaker.connectionIDs = true
	socket := w.network.Listen(netip.AddrPort{})
	w.server = socket.AddrPort()
	var err error
	w.Listener, err = NewListener([]net.PacketConn{socket}, handshaker, cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		_ = w.Serve(ctx, func(c *Conn, datagram []byte) { _, _ = c.Write(datagram) })
	})
	t.Cleanup(func() {
		cancel()
		serving.Wait()
		_ = w.Close()
	})
	synctest.Wait()
	return w
}

// takeSent returns the datagrams that the listener has sent to an address since the last call.
func (w *mobileWorld) takeSent(to netip.AddrPort) [][]byte {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	sent := w.sent[to]
	delete(w.sent, to)
	return sent
}

// place returns the n-th address that the tests use.
func place(n int) netip.AddrPort { return dtlstest.NthAddr(10, n, 5684) }

// mobile is a client that can send from any address.
type mobile struct {
	t       testing.TB
	w       *mobileWorld
	conn    *Conn // the server's side
	records *record.Session
}

// connect has a client complete a handshake.
func (w *mobileWorld) connect(t *testing.T, from netip.AddrPort, random byte) *mobile {
	t.Helper()
	w.network.Inject(from, w.server, dtlstest.Hello(random))
	synctest.Wait()
	session, state := w.table.Get(w.sock, from)
	require.Equal(t, dsm.StateEstablished, state)
	return w.clientOf(t, session.Value.Conn())
}

// clientOf returns the client of a session.
func (w *mobileWorld) clientOf(t testing.TB, c *Conn) *mobile {
	secrets := c.secrets()
	records := scriptedRecords(secrets.ClientRandom, true)
	records.SetConnectionIDs(secrets.PeerConnectionID, secrets.ConnectionID)
	return &mobile{t, w, c, records}
}

// seal returns a record of the client's.
func (m *mobile) seal(kind record.Type, payload ...byte) []byte {
	m.t.Helper()
	sealed, err := m.records.Seal(nil, kind, payload)
	require.NoError(m.t, err)
	return sealed
}

// data returns a record with a text.
func (m *mobile) data(text string) []byte { return m.seal(record.TypeApplicationData, []byte(text)...) }

// inject has a datagram arrive.
func (m *mobile) inject(from netip.AddrPort, datagram []byte) {
	m.w.network.Inject(from, m.w.server, datagram)
	synctest.Wait()
}

// received opens what has arrived at an address since the last call.
func (m *mobile) received(at netip.AddrPort) (messages []mobileMessage) {
	m.t.Helper()
	for _, datagram := range m.w.takeSent(at) {
		for rest := datagram; len(rest) > 0; {
			kind := record.Type(rest[0])
			if kind == record.TypeRoutabilityCheck { // to a client without an ID; no server gets one
				rest[0] = byte(record.TypeApplicationData)
			}
			r, after, fault := record.NextWithID(rest, len(m.records.ConnectionID()))
			require.Equal(m.t, record.NoFault, fault)
			rest[0], r.Type = byte(kind), kind
			rest = after
			payload, kind, err := m.records.Open(nil, r)
			require.NoError(m.t, err)
			messages = append(messages, mobileMessage{kind, string(payload)})
		}
	}
	return messages
}

// mobileMessage is what a client has received.
type mobileMessage struct {
	kind    record.Type
	payload string
}

// echo is the echo of a text.
func echo(text string) mobileMessage { return mobileMessage{record.TypeApplicationData, text} }

// addrInTable returns the address that the table has of the session.
func (m *mobile) addrInTable() netip.AddrPort {
	p := m.conn.peer
	p.mu.Lock()
	handle := p.handleLocked()
	p.mu.Unlock()
	session, state := handle.Get()
	require.Equal(m.t, dsm.StateEstablished, state)
	require.Equal(m.t, session.Peer, m.conn.Peer(), "the table and the peer agree")
	return session.Peer
}

// stall keeps the handshakes of a scriptedHandshaker from going on.
type stall struct{ over chan struct{} }

func newStall(handshaker *scriptedHandshaker) stall {
	s := stall{make(chan struct{})}
	handshaker.run = func(ctx context.Context, _ *scriptedHandshake) error {
		select {
		case <-s.over:
		case <-ctx.Done():
		}
		return ctx.Err()
	}
	return s
}

// end lets them go on.
func (s stall) end() { close(s.over) }

// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/internal/udp"
	"github.com/stretchr/testify/require"
)

// bareListener is a listener that does not read its socket, and whose sessions have never
// had a handshake. What it sends is lost.
type bareListener struct {
	*Listener
	conns   []*Conn
	clients []*record.Session
}

func newBareListener(t testing.TB, sessions int) bareListener {
	t.Helper()
	table, err := dsm.New[*Peer](sessions)
	require.NoError(t, err)
	l := bareListener{Listener: &Listener{table: table, sock: dsm.NewSock(), began: time.Now()}}
	l.config, err = Config{Sessions: sessions}.withDefaults()
	require.NoError(t, err)
	l.log = l.config.Logger
	network := dtlstest.NewNetwork(1)
	t.Cleanup(func() { _ = network.Close() })
	l.sockets = newSockets([]*udp.Socket{udp.New(network.Listen(netip.AddrPort{}))})
	l.admission.init(&l.config, l.backlog.isCrowded)
	l.queue.init(0)
	l.queued.init(l.config.QueueTotal, sessions)
	for n := range sessions {
		p := &Peer{listener: l.Listener, addr: dtlstest.NthAddr(10, n, 5684)}
		_, ours := p.holdSlotLocked(dsm.StateEstablished)
		require.True(t, ours)
		c := p.newConn()
		c.records = *bareRecords(t, false)
		p.conn, c.stage = c, stageOpened
		l.admission.established.Add(1)
		l.conns = append(l.conns, c)
		l.clients = append(l.clients, bareRecords(t, true))
	}
	return l
}

// bareRecords returns one side of the record layer of a session.
func bareRecords(t testing.TB, isClient bool) *record.Session {
	t.Helper()
	s, err := record.New(record.Config{
		Suite: 0x00a8, MasterSecret: bytes.Repeat([]byte{1}, 48), IsClient: isClient, Epoch: 1, NextSequence: 1,
	})
	require.NoError(t, err)
	return s
}

// from returns the route of the n-th session.
func (l bareListener) from(n int) route { return route{peer: l.conns[n].peer.addr} }

// forge has a datagram arrive that is not the n-th session's peer's.
func (l bareListener) forge(n int, datagram []byte, now time.Time) {
	l.receive(l.from(n), datagram, now)
}

// use has a datagram arrive that is the n-th session's peer's.
func (l bareListener) use(t testing.TB, n int, now time.Time) {
	t.Helper()
	sealed, err := l.clients[n].Seal(nil, record.TypeApplicationData, []byte("x"))
	require.NoError(t, err)
	l.receive(l.from(n), sealed, now)
}

// withBuiltCiphers returns how many sessions keep ciphers.
func (l bareListener) withBuiltCiphers() int {
	n := 0
	for _, c := range l.conns {
		if c.HasBuiltCiphers() {
			n++
		}
	}
	return n
}

// unauthentic is one record of application data that nobody has sealed.
func unauthentic() []byte { return dtlstest.Unauthentic(record.TypeApplicationData, 1000, 40) }

// SPDX-License-Identifier: MIT

package pionv2

import (
	"fmt"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// listen opens a listener on a free port of 127.0.0.1, and closes it in the end.
func listen(t *testing.T, config *dtls.Config, cfg Config) *Listener {
	t.Helper()
	l, err := Listen("udp", "127.0.0.1:0", config, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func TestListenEcho(t *testing.T) {
	checkLeaks(t)
	l := listen(t, pskConfig("key"), Config{})
	conns := server[*Conn](t, l)
	for n := range 5 {
		c := dial(t, l, nil)
		for i := range 20 {
			echo(t, c, fmt.Sprint(n, i))
		}
		require.NoError(t, c.Close())
	}
	for range 5 {
		<-conns
	}
	t.Logf("%+v", l.Stats())
}

// client is a pion client that a test can make die, or send datagrams of its own
// making: what somebody could forge who knows its address.
type client struct {
	*dtls.Conn
	udp *net.UDPConn
}

// kill ends the client as a loss of power would: without close_notify.
func (c *client) kill() {
	_ = c.udp.Close()
	_ = c.Conn.Close()
}

func (c *client) port() *net.UDPAddr { return c.udp.LocalAddr().(*net.UDPAddr) }

func tryClient(l *Listener, from *net.UDPAddr, config *dtls.Config) (*client, error) {
	udp, err := net.DialUDP("udp", from, l.Addr().(*net.UDPAddr))
	if err != nil {
		return nil, err
	}
	c, err := dtls.Client(slowToClose{udp}, config)
	if err != nil {
		_ = udp.Close()
		return nil, err
	}
	return &client{c, udp}, nil
}

func newClient(t *testing.T, l *Listener, from *net.UDPAddr) *client {
	t.Helper()
	c, err := tryClient(l, from, pskConfig("key"))
	require.NoError(t, err)
	t.Cleanup(c.kill)
	return c
}

// eventually waits for what other goroutines do.
func eventually(t *testing.T, what func() bool, message string) {
	t.Helper()
	require.Eventually(t, what, patience, time.Millisecond, message)
}

// plain is a record of epoch 0.
func plain(kind record.Type, sequence uint64, fragment ...byte) []byte {
	b := make([]byte, record.HeaderSize, record.HeaderSize+len(fragment))
	record.PutHeader(b, kind, 0, sequence, len(fragment))
	return append(b, fragment...)
}

// T4: no plaintext record at an established session has any effect (promise 6).
func TestPlaintextAtASession(t *testing.T) {
	checkLeaks(t)
	l := listen(t, pskConfig("key"), Config{})
	conns := server[*Conn](t, l)
	c := newClient(t, l, nil)
	echo(t, c.Conn, "before")
	session := <-conns
	handshakeRecord := func(seq byte) []byte {
		return plain(record.TypeHandshake, uint64(seq)+10, record.MessageClientHello, 0, 0, 1, 0, seq, 0, 0, 0, 0, 0, 1, 0)
	}
	forged := map[string][]byte{
		"close_notify":               plain(record.TypeAlert, 9, record.LevelWarning, record.CloseNotify),
		"a fatal alert":              plain(record.TypeAlert, 10, record.LevelFatal, 40),
		"application data":           plain(record.TypeApplicationData, 11, 'x'),
		"a handshake record":         handshakeRecord(1),
		"a ChangeCipherSpec":         plain(record.TypeChangeCipherSpec, 12, 1),
		"a ClientHello among others": append(hello(5), plain(record.TypeAlert, 14, 1, 0)...),
		"junk and then close_notify": append([]byte{22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0}, plain(record.TypeAlert, 13, 1, 0)...),
	}
	for name, datagram := range forged {
		before := l.Stats()
		_, err := c.udp.Write(datagram)
		require.NoError(t, err)
		eventually(t, func() bool { return l.Stats().Plaintext > before.Plaintext }, name)
		echo(t, c.Conn, name)
		require.Equal(t, dsm.StateEstablished, session.State(), name)
	}

	// 3000 fragments of messages to come: nothing is kept of them.
	var heapBefore, heapAfter runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&heapBefore)
	fragment := make([]byte, 1100)
	for n := range 3000 {
		body := append([]byte{record.MessageClientHello, 0, 16, 0, byte(n >> 8), byte(n), 0, 0, 0, 0, 4, 64}, fragment[:1088]...)
		_, err := c.udp.Write(plain(record.TypeHandshake, uint64(n), body...))
		require.NoError(t, err)
		if n%100 == 0 {
			echo(t, c.Conn, "among the fragments")
		}
	}
	echo(t, c.Conn, "after the fragments")
	runtime.GC()
	runtime.ReadMemStats(&heapAfter)
	assert.Less(t, int64(heapAfter.HeapAlloc)-int64(heapBefore.HeapAlloc), int64(1<<20))
	stats := l.Stats()
	assert.EqualValues(t, 1, stats.Started)
	assert.Equal(t, 1, stats.Established)
}

// Spec 5, T3: a client that lost its state gets back in from its port.
func TestReboot(t *testing.T) {
	checkLeaks(t)
	l := listen(t, pskConfig("key"), Config{Sessions: 2, OnEnd: func(c *Conn, why Reason) {
		assert.Contains(t, []Reason{Replaced, ClosedByUs}, why)
	}})
	conns := server[*Conn](t, l)
	c := newClient(t, l, nil)
	echo(t, c.Conn, "first")
	session := <-conns
	for n := range 100 {
		old, slot := session, session.Slot()
		c.kill()
		c = newClient(t, l, c.port())
		echo(t, c.Conn, "again")
		require.Equal(t, dsm.StateNone, old.State())
		_, err := old.Write([]byte("x"))
		require.ErrorIs(t, err, ErrReplaced)
		fresh := <-conns
		require.Equal(t, slot, fresh.Slot(), "the new session keeps the slot")
		session = fresh
		require.EqualValues(t, n+1, l.Stats().Replaced)
	}
	assert.Equal(t, 1, l.Stats().Established)
}

// An unspecified address: answers leave from the address that the client sent to, or a
// connected client would not get them.
func TestUnspecifiedAddress(t *testing.T) {
	checkLeaks(t)
	l, err := Listen("udp", ":0", pskConfig("key"), Config{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	conns := server[*Conn](t, l)
	port := l.Addr().(*net.UDPAddr).Port
	for _, to := range []string{"127.0.0.1", "127.0.0.2", "::1"} {
		udp, err := net.DialUDP("udp", nil, &net.UDPAddr{IP: net.ParseIP(to), Port: port})
		if err != nil {
			t.Log("no ", to, " here: ", err)
			continue
		}
		c, err := dtls.Client(slowToClose{udp}, pskConfig("key"))
		require.NoError(t, err, to)
		echo(t, c, "to "+to)
		assert.False(t, (<-conns).Peer().Addr().Is4In6(), "a dual-stack socket's IPv4 peers are IPv4")
		require.NoError(t, c.Close())
	}
}

// Several sockets on one port, for more cores: one table, one sock, one order.
func TestSockets(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("SO_REUSEPORT spreads peers on Linux")
	}
	checkLeaks(t)
	l := listen(t, pskConfig("key"), Config{Sessions: 20, Sockets: 3, ReadBuffer: 1 << 20, WriteBuffer: 1 << 20})
	conns := server[*Conn](t, l)
	used := map[uint8]bool{}
	for range 21 {
		c := newClient(t, l, nil)
		echo(t, c.Conn, "x")
		s := <-conns
		s.mu.Lock()
		used[s.socket] = true
		s.mu.Unlock()
	}
	assert.Greater(t, len(used), 1)
	assert.EqualValues(t, 1, l.Stats().Evicted, "by the order of all")
}

// SPDX-License-Identifier: MIT

package dtlstest

import (
	"bytes"
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/pion/dtls/v2"
)

// Client is a client of pion v2 that a test can make die, and whose address it can
// send forged datagrams from.
type Client struct {
	*dtls.Conn
	// Transport is where the client's datagrams pass. Written to it, a datagram comes
	// from the client's address.
	Transport *Transport
}

// Handshake makes the handshake of a client over a connected socket, within the bound
// of config.ConnectContextMaker. It closes the socket if the handshake fails.
func Handshake(socket net.Conn, config *dtls.Config) (*Client, error) {
	transport := NewTransport(socket)
	c, err := dtls.Client(transport, config)
	if err != nil {
		_ = transport.Close()
		return nil, err
	}
	return &Client{c, transport}, nil
}

// TryDial connects a client over UDP from a local address. Nil stands for a port that
// the system chooses.
func TryDial(server net.Addr, from *net.UDPAddr, config *dtls.Config) (*Client, error) {
	socket, err := DialUDP(from, server.(*net.UDPAddr))
	if err != nil {
		return nil, err
	}
	return Handshake(socket, config)
}

// Dial is TryDial for a test that needs the client. The client dies when the test
// ends.
func Dial(t testing.TB, server net.Addr, from *net.UDPAddr, config *dtls.Config) *Client {
	t.Helper()
	c, err := TryDial(server, from, config)
	return alive(t, c, err)
}

// DialClient connects a client over the network, from an address as Dial takes it. The
// client dies when the test ends.
func (n *Network) DialClient(t testing.TB, from, server netip.AddrPort, config *dtls.Config) *Client {
	t.Helper()
	c, err := Handshake(n.Dial(from, server), config)
	return alive(t, c, err)
}

func alive(t testing.TB, c *Client, err error) *Client {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Kill)
	return c
}

// Kill ends the client as a loss of power would: without close_notify.
func (c *Client) Kill() {
	c.Transport.Kill()
	_ = c.Conn.Close()
}

// Addr returns the client's address.
func (c *Client) Addr() *net.UDPAddr { return c.Transport.LocalAddr().(*net.UDPAddr) }

// Send sends a datagram of the test's making from the client's address.
func (c *Client) Send(t testing.TB, datagram []byte) {
	t.Helper()
	Send(t, c.Transport.Conn, datagram)
}

// Stranger opens a bare UDP socket that is connected to a server. It is closed when
// the test ends.
func Stranger(t testing.TB, server net.Addr) *net.UDPConn {
	t.Helper()
	c, err := net.DialUDP("udp", nil, server.(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// Send sends a datagram.
func Send(t testing.TB, c net.Conn, datagram []byte) {
	t.Helper()
	if _, err := c.Write(datagram); err != nil {
		t.Fatal(err)
	}
}

// ClientStore is the dtls.SessionStore of a client. It keeps one session, whichever
// server it is of. The zero value is empty. It is safe for concurrent use.
type ClientStore struct {
	mu      sync.Mutex
	session dtls.Session
}

// Set implements dtls.SessionStore.
func (s *ClientStore) Set(_ []byte, session dtls.Session) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.session = cloneSession(session)
	return nil
}

// Get implements dtls.SessionStore. The session is a copy: pion goes on to use it.
func (s *ClientStore) Get([]byte) (dtls.Session, error) { return s.Session(), nil }

// Del implements dtls.SessionStore.
func (s *ClientStore) Del([]byte) error { return s.Set(nil, dtls.Session{}) }

// Session returns a copy of the session, or an empty one.
func (s *ClientStore) Session() dtls.Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return cloneSession(s.session)
}

func cloneSession(s dtls.Session) dtls.Session {
	return dtls.Session{ID: bytes.Clone(s.ID), Secret: bytes.Clone(s.Secret)}
}

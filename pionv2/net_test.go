// SPDX-License-Identifier: MIT

package pionv2

import (
	"net"
	"testing"

	"github.com/pion/dtls/v2"
	"golang.org/x/net/nettest"
)

// pipeSocket is a server's socket with one peer: an end of a packet pipe.
type pipeSocket struct{ net.Conn }

func (s pipeSocket) ReadFrom(p []byte) (int, net.Addr, error) {
	n, err := s.Read(p)
	return n, s.RemoteAddr(), err
}

func (s pipeSocket) WriteTo(p []byte, _ net.Addr) (int, error) { return s.Write(p) }

// memoryListener is a listener whose network is memory, and the client's end.
func memoryListener(config *dtls.Config, cfg Config) (*Listener, net.Conn, error) {
	server := &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 5684}
	near, far := newPacketPipe(&net.UDPAddr{IP: net.IPv4(192, 0, 2, 2), Port: 1}, server)
	l, err := NewListener(pipeSocket{far}, config, cfg)
	return l, near, err
}

// x/net's tests of a net.Conn, between a Conn and pion's client.
func TestNetConnOfListen(t *testing.T) {
	checkLeaks(t)
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		// The tests know no datagram that is dropped.
		l, near, err := memoryListener(pskConfig("key"), Config{QueueDatagrams: 1 << 20, QueueBytes: 1 << 30})
		if err != nil {
			return nil, nil, nil, err
		}
		client, err := dtls.Client(near, pskConfig("key"))
		if err != nil {
			return nil, nil, nil, err
		}
		c, err := l.Accept()
		if err != nil {
			return nil, nil, nil, err
		}
		return c, client, func() {
			_ = client.Close()
			_ = c.Close()
			_ = l.Close()
		}, nil
	})
}

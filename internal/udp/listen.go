// SPDX-License-Identifier: MIT

package udp

import (
	"context"
	"fmt"
	"net"
	"syscall"
)

// Config describes the sockets that [Listen] opens. The zero value works.
type Config struct {
	// ReadBuffer and WriteBuffer are the sizes of the kernel's buffers of each
	// socket, in bytes. The kernel may use a smaller size without an error (Linux:
	// net.core.rmem_max and wmem_max). Zero keeps the system's default, a negative
	// size is an error.
	ReadBuffer, WriteBuffer int
	// Sockets is the number of sockets that share the port (SO_REUSEPORT), so that
	// each can have its own reader. Zero means 1, a negative number is an error.
	// With more than 1, other processes of the same user may share the port too.
	// Only Linux and DragonFly BSD distribute the peers over the sockets; other
	// systems may deliver all datagrams to one socket. Windows, Solaris and Plan 9
	// support no more than 1: Listen fails with errors.ErrUnsupported.
	Sockets int
	// Control, if not nil, is called for each socket after the socket is created
	// and before it is bound, to set socket options. The parameters are those of
	// [net.ListenConfig.Control]. An error makes Listen fail. Plan 9 ignores
	// Control.
	//
	// If Sockets is more than 1, a socket already has SO_REUSEPORT when Control is
	// called. With port 0 the first socket gets the option after it is bound,
	// because the kernel may give a socket that has the option a port which other
	// sockets of the same user share. For this reason Control should not set
	// SO_REUSEPORT itself.
	Control func(network, address string, c syscall.RawConn) error
}

// Listen opens Config.Sockets sockets on one address. network is "udp", "udp4" or
// "udp6". network and address are those of [net.ListenPacket]: "udp" without a
// host, 0.0.0.0 or [::] receives IPv4 and IPv6. With port 0 all sockets get the
// same free port. The sockets should be closed together: when one of them closes,
// the kernel moves some peers to another socket. If Listen returns an error, no
// socket is left open.
func Listen(network, address string, c Config) ([]*Socket, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	// Resolved once, because a host name may have several addresses.
	addr, err := net.ResolveUDPAddr(network, address)
	if err != nil {
		return nil, fmt.Errorf("udp: %w", err)
	}
	var sockets []*Socket
	for range max(c.Sockets, 1) {
		s, err := listen(network, addr, c)
		if err != nil {
			for _, s := range sockets {
				_ = s.Close()
			}
			return nil, fmt.Errorf("udp: %w", err)
		}
		sockets = append(sockets, s)
		addr.Port = s.LocalAddr().(*net.UDPAddr).Port
	}
	return sockets, nil
}

func (c Config) check() error {
	for _, field := range []struct {
		name  string
		value int
	}{{"ReadBuffer", c.ReadBuffer}, {"WriteBuffer", c.WriteBuffer}, {"Sockets", c.Sockets}} {
		if field.value < 0 {
			return fmt.Errorf("udp: Config.%s is negative: %d", field.name, field.value)
		}
	}
	return nil
}

// listen opens one socket.
func listen(network string, addr *net.UDPAddr, c Config) (*Socket, error) {
	// The comment of Config.Control says why SO_REUSEPORT comes later with port 0.
	shared, anyPort := c.Sockets > 1, addr.Port == 0
	lc := net.ListenConfig{Control: func(network, address string, conn syscall.RawConn) error {
		if shared && !anyPort {
			if err := setReusePort(conn); err != nil {
				return err
			}
		}
		if c.Control != nil {
			if err := c.Control(network, address, conn); err != nil {
				return fmt.Errorf("Config.Control: %w", err)
			}
		}
		return nil
	}}
	pc, err := lc.ListenPacket(context.Background(), network, addr.String())
	if err != nil {
		return nil, err
	}
	s, err := setUp(pc.(*net.UDPConn), shared && anyPort, c)
	if err != nil {
		_ = pc.Close()
		return nil, err
	}
	return s, nil
}

// setUp sets the options of a bound socket. The caller closes conn after an error.
func setUp(conn *net.UDPConn, reusePort bool, c Config) (*Socket, error) {
	if reusePort {
		raw, err := conn.SyscallConn()
		if err != nil {
			return nil, err
		}
		if err := setReusePort(raw); err != nil {
			return nil, err
		}
	}
	if c.ReadBuffer > 0 {
		if err := conn.SetReadBuffer(c.ReadBuffer); err != nil {
			return nil, err
		}
	}
	if c.WriteBuffer > 0 {
		if err := conn.SetWriteBuffer(c.WriteBuffer); err != nil {
			return nil, err
		}
	}
	io, err := newDatagramIO(conn)
	if err != nil {
		return nil, err
	}
	return &Socket{pc: conn, io: io}, nil
}

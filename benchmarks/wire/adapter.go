// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/pionv2"
	"github.com/go-dsm/dsm/pionv4"
	v4 "github.com/pion/dtls/v4"
	"github.com/pion/dtls/v4/pkg/crypto/ciphersuite"
	"github.com/pion/dtls/v4/pkg/protocol"
)

// v4Suffix ends the names of the servers on pion v4. The name before it is that of the server
// on pion v2.
const v4Suffix = "-v4"

// withAdapters returns the servers on each of the adapters that -adapter names, so that they
// take turns. Servers without an adapter are there once.
func withAdapters(servers []string) (all []string, err error) {
	add := func(name string) {
		if name != "" && !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	for _, name := range servers {
		for _, adapter := range strings.Split(*adapters, ",") {
			switch adapter {
			case "v2":
				add(name)
			case "v4":
				add(onV4(name))
			default:
				return nil, fmt.Errorf("-adapter %q: want v2, v4 or v2,v4", *adapters)
			}
		}
	}
	return all, nil
}

// onV4 returns the name of a server on pion v4, or "" if there is none. Pion v4's Accept does not
// wait for the handshake, so its listener is the counterpart of both pion and pion-parallel.
func onV4(name string) string {
	switch {
	case strings.HasPrefix(name, "floor"):
		return name
	case name == "pion", name == "pion-parallel":
		return "pion" + v4Suffix
	case strings.HasPrefix(name, "dsm") && *what != "save":
		return name + v4Suffix
	default:
		return ""
	}
}

// listenAdapter returns a listener of dsm on pion v2 or v4.
func listenAdapter(onV4 bool, cfg dtlsserver.Config) (*dtlsserver.Listener, error) {
	if !onV4 {
		return pionv2.Listen("udp", "127.0.0.1:0", dtlsConfig(), cfg)
	}
	config := dtlsConfig()
	suites := []ciphersuite.ID{ciphersuite.ID(config.CipherSuites[0])}
	return pionv4.Listen("udp", "127.0.0.1:0", pionv4.Config{PSK: config.PSK, Certificates: config.Certificates, CipherSuites: suites}, cfg)
}

// listenPionV4 starts a server on pion v4's listener.
func listenPionV4() net.Addr {
	config := dtlsConfig()
	options := []v4.ServerOption{
		v4.WithMinVersion(protocol.Version1_2), v4.WithMaxVersion(protocol.Version1_2),
		v4.WithCipherSuites(ciphersuite.ID(config.CipherSuites[0])),
	}
	if config.PSK != nil {
		options = append(options, v4.WithPSK(nil, func(identities [][]byte) (*v4.PSK, error) {
			key, err := config.PSK(identities[0])
			return &v4.PSK{Identity: identities[0], Key: key}, err
		}))
	}
	if len(config.Certificates) > 0 {
		options = append(options, v4.WithCertificates([]tls.Certificate(config.Certificates)...))
	}
	l, err := v4.ListenAddr("udp", loopback(), options...)
	check(err)
	go servePionV4(l)
	return l.Addr()
}

// servePionV4 makes the handshake of each peer in the goroutine that then serves the session.
func servePionV4(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			log.Print(err)
			return
		}
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			if err := c.(*v4.Conn).HandshakeContext(ctx); err != nil {
				_ = c.Close()
				return
			}
			established.Add(1)
			serveConn(c)
			established.Add(-1)
		}()
	}
}

// establishConnectionID establishes the idle session of a client of pion v4 that offers the use of
// connection IDs, and frees the client's memory and socket.
func establishConnectionID(local *net.UDPAddr) {
	conn, err := net.ListenUDP("udp", local)
	check(err)
	socket := &mutedSocket{UDPConn: conn}
	server, err := net.ResolveUDPAddr("udp", *address)
	check(err)
	config := dtlsConfig()
	c, err := v4.Client(socket, server, v4.WithMaxVersion(protocol.Version1_2), v4.WithCipherSuites(ciphersuite.ID(config.CipherSuites[0])),
		v4.WithPSK(func() ([]v4.PSK, error) {
			key, err := config.PSK(nil)
			return []v4.PSK{{Identity: config.PSKIdentityHint, Key: key}}, err
		}, nil), v4.WithConnectionID(v4.OnlySendCIDGenerator(), v4.CIDPathMigrationReject))
	check(err)
	check(c.Handshake())
	socket.muted.Store(true)
	_ = c.Close()
	_ = conn.Close()
}

// mutedSocket is the socket of a client of pion v4. After muted is set nothing is sent, in
// particular no close_notify.
type mutedSocket struct {
	*net.UDPConn
	muted atomic.Bool
}

func (s *mutedSocket) WriteTo(p []byte, to net.Addr) (int, error) {
	if s.muted.Load() {
		return len(p), nil
	}
	return s.UDPConn.WriteTo(p, to)
}

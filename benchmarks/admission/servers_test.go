// SPDX-License-Identifier: MIT

package admission

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/pionv2"
	"github.com/go-dsm/dsm/pionv4"
	"github.com/go-dsm/dsm/resume"
	"github.com/pion/dtls/v2"
	"github.com/pion/dtls/v4/pkg/crypto/ciphersuite"
)

// server is a contender.
type server interface {
	halfOpen() int
	stats() string
	close()
}

// sessions notes when a server has had a session with an address.
type sessions struct {
	mu   sync.Mutex
	have map[netip.AddrPort]chan struct{}
}

// of returns a channel that is closed when the server has a session with an address.
func (s *sessions) of(addr netip.AddrPort) chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.have == nil {
		s.have = map[netip.AddrPort]chan struct{}{}
	}
	if s.have[addr] == nil {
		s.have[addr] = make(chan struct{})
	}
	return s.have[addr]
}

func (s *sessions) note(addr netip.AddrPort) {
	established := s.of(addr)
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-established:
	default:
		close(established)
	}
}

func serverConfig() *dtls.Config {
	config := dtlstest.PSKConfig("key", dtls.TLS_PSK_WITH_AES_128_CCM_8)
	config.FlightInterval = 0 // the default
	config.ConnectContextMaker = nil
	return config
}

func (c Cell) listen(t *testing.T, socket net.PacketConn, s *sessions) server {
	t.Helper()
	switch c.Server {
	case "ours", "ours-v4":
		return c.listenOurs(t, socket, s)
	case "pion":
		return c.listenPion(t, socket, s)
	}
	t.Fatalf("no server: %q", c.Server)
	return nil
}

// ours is the server of pionv2.NewListener, or of pionv4.NewListener.
type ours struct {
	*pionv2.Listener
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func (c Cell) listenOurs(t *testing.T, socket net.PacketConn, s *sessions) server {
	t.Helper()
	store, err := resume.New(resume.Config{})
	if err != nil {
		t.Fatal(err)
	}
	cfg := pionv2.Config{
		Sessions: c.Sessions, Handshakes: c.Places, Resumption: store,
		OnEstablished: func(conn *pionv2.Conn) { s.note(conn.Peer()) },
	}
	if cfg.Sessions == 0 {
		cfg.Sessions = max(pionv2.DefaultSessions, 2*c.Clients)
	}
	l, err := c.newListener([]net.PacketConn{socket}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	o := &ours{Listener: l, cancel: cancel}
	o.wg.Go(func() { _ = l.Serve(ctx, func(conn *pionv2.Conn, datagram []byte) { _, _ = conn.Write(datagram) }) })
	return o
}

func (c Cell) newListener(conns []net.PacketConn, cfg dtlsserver.Config) (*dtlsserver.Listener, error) {
	config := serverConfig()
	if c.Server == "ours" {
		return pionv2.NewListener(conns, config, cfg)
	}
	suites := []ciphersuite.ID{ciphersuite.ID(config.CipherSuites[0])}
	return pionv4.NewListener(conns, pionv4.Config{PSK: config.PSK, CipherSuites: suites}, cfg)
}

func (o *ours) halfOpen() int { return o.Stats().HalfOpen }

// stats returns the counters that are not zero. It knows no names, so that it can be used
// with any version.
func (o *ours) stats() string {
	v := reflect.ValueOf(o.Stats())
	var out []string
	for i := range v.NumField() {
		if !v.Field(i).IsZero() {
			out = append(out, fmt.Sprintf("%s %v", v.Type().Field(i).Name, v.Field(i)))
		}
	}
	return strings.Join(out, ", ")
}

func (o *ours) close() {
	_ = o.Close()
	o.cancel()
	o.wg.Wait()
}

// pions is the server of pion: one goroutine calls Accept, which does one handshake at a
// time.
type pions struct {
	udp *pionUDP
	wg  sync.WaitGroup

	mu sync.Mutex
	// mu guards the following.
	accepted, failed int
	conns            []net.Conn
}

func (c Cell) listenPion(t *testing.T, socket net.PacketConn, s *sessions) server {
	t.Helper()
	p := &pions{udp: newPionUDP(socket)}
	config := serverConfig()
	config.SessionStore = &pionStore{sessions: map[string]dtls.Session{}}
	l, err := dtls.NewListener(p.udp, config)
	if err != nil {
		t.Fatal(err)
	}
	p.wg.Go(func() {
		for {
			conn, err := l.Accept()
			select {
			case <-p.udp.closed:
				if err == nil {
					_ = conn.Close()
				}
				return
			default:
			}
			p.mu.Lock()
			if err != nil {
				p.failed++
				p.mu.Unlock()
				continue
			}
			p.accepted++
			p.conns = append(p.conns, conn)
			p.mu.Unlock()
			p.wg.Go(func() { p.read(conn) })
			s.note(dtlstest.AddrPort(conn.RemoteAddr()))
		}
	})
	return p
}

func (p *pions) read(conn net.Conn) {
	buf := make([]byte, 2048)
	for {
		if _, err := conn.Read(buf); err != nil {
			_ = conn.Close()
			return
		}
	}
}

func (p *pions) halfOpen() int {
	backlog, _ := p.udp.waiting()
	return backlog + 1
}

func (p *pions) stats() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return fmt.Sprintf("accepted %d, failed %d", p.accepted, p.failed)
}

func (p *pions) close() {
	_ = p.udp.Close()
	p.mu.Lock()
	conns := p.conns
	p.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
	p.udp.mu.Lock()
	var rest []*pionConn
	for _, c := range p.udp.conns {
		rest = append(rest, c)
	}
	p.udp.mu.Unlock()
	for _, c := range rest {
		_ = c.Close()
	}
	p.wg.Wait()
}

// pionStore is the dtls.SessionStore of pion's server, without a bound.
type pionStore struct {
	mu       sync.Mutex
	sessions map[string]dtls.Session
}

func (s *pionStore) Set(id []byte, session dtls.Session) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions[string(id)] = session
	return nil
}

func (s *pionStore) Get(id []byte) (dtls.Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions[string(id)], nil
}

func (s *pionStore) Del(id []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, string(id))
	return nil
}

// await reports whether a channel is closed before a time.
func await(done <-chan struct{}, until time.Time) bool {
	limit := time.NewTimer(time.Until(until))
	defer limit.Stop()
	select {
	case <-done:
		return true
	case <-limit.C:
		return false
	}
}

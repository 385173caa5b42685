// SPDX-License-Identifier: MIT

package pionv4_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/keyring"
	"github.com/go-dsm/dsm/pionv2"
	"github.com/go-dsm/dsm/pionv4"
	dtlsv2 "github.com/pion/dtls/v2"
	"github.com/pion/dtls/v4"
	"github.com/pion/dtls/v4/pkg/crypto/ciphersuite"
	"github.com/pion/dtls/v4/pkg/crypto/selfsign"
	"github.com/pion/dtls/v4/pkg/protocol"
)

// keyOf returns the pre-shared key of an identity.
func keyOf(identity []byte) ([]byte, error) {
	if string(identity) != "device" {
		return nil, errors.New("no such device")
	}
	return []byte("secret secret 12"), nil
}

// echo is a handler of Listener.Serve.
func echo(c *dtlsserver.Conn, datagram []byte) { _, _ = c.Write(datagram) }

// pskClient returns the options of a client with a pre-shared key.
func pskClient(more ...dtls.ClientOption) []dtls.ClientOption {
	identities := func() ([]dtls.PSK, error) {
		key, err := keyOf([]byte("device"))
		return []dtls.PSK{{Identity: []byte("device"), Key: key}}, err
	}
	return append([]dtls.ClientOption{
		dtls.WithPSK(identities, nil), dtls.WithMaxVersion(protocol.Version1_2),
		dtls.WithCipherSuites(ciphersuite.TLS_PSK_WITH_AES_128_GCM_SHA256),
	}, more...)
}

// dial returns a client that sends from a socket, or from one of its own if socket is nil.
func dial(socket net.PacketConn, server net.Addr, options []dtls.ClientOption) net.Conn {
	if socket == nil {
		var err error
		if socket, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			log.Fatal(err)
		}
	}
	client, err := dtls.Client(socket, server, options...)
	if err != nil {
		log.Fatal(err)
	}
	return client // its first Write makes the handshake
}

// ask sends a question and returns the answer.
func ask(client net.Conn, question string) string {
	if _, err := client.Write([]byte(question)); err != nil {
		log.Fatal(err)
	}
	buf := make([]byte, 1500)
	n, err := client.Read(buf)
	if err != nil {
		log.Fatal(err)
	}
	return string(buf[:n])
}

// A server with pre-shared keys, without a goroutine for each session.
func ExampleListen() {
	listener, err := pionv4.Listen("udp", "127.0.0.1:0", pionv4.Config{PSK: keyOf}, dtlsserver.Config{Sessions: 1000})
	if err != nil {
		log.Fatal(err)
	}
	defer listener.Close()

	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error)
	go func() {
		served <- listener.Serve(ctx, func(c *dtlsserver.Conn, datagram []byte) {
			_, _ = fmt.Fprintf(c, "%s, %s", datagram, c.Identity().PSKIdentity)
		})
	}()

	client := dial(nil, listener.Addr(), pskClient())
	defer client.Close()
	fmt.Println(ask(client, "hello"))
	stop()
	fmt.Println(<-served)
	// Output:
	// hello, device
	// context canceled
}

// The server and its clients have certificates. A client without one, or with one of another
// authority, does not get in.
func ExampleListen_certificates() {
	newCertificate := func(name string) (tls.Certificate, *x509.CertPool) { // and who vouches for it: itself
		certificate, err := selfsign.GenerateSelfSignedWithDNS(name)
		if err != nil {
			log.Fatal(err)
		}
		pool := x509.NewCertPool()
		pool.AddCert(certificate.Leaf)
		return certificate, pool
	}
	server, serverCA := newCertificate("server.example")
	device, deviceCA := newCertificate("device.example")

	listener, err := pionv4.Listen("udp", "127.0.0.1:0", pionv4.Config{
		Certificates: []tls.Certificate{server},
		ClientAuth:   dtls.RequireAndVerifyClientCert,
		ClientCAs:    deviceCA,
	}, dtlsserver.Config{Sessions: 1000})
	if err != nil {
		log.Fatal(err)
	}
	defer listener.Close()
	go func() {
		_ = listener.Serve(context.Background(), func(c *dtlsserver.Conn, datagram []byte) {
			leaf, err := x509.ParseCertificate(c.Identity().Certificates[0])
			if err != nil {
				return
			}
			_, _ = fmt.Fprintf(c, "%s, %s", datagram, leaf.DNSNames[0])
		})
	}()

	client := dial(nil, listener.Addr(), []dtls.ClientOption{
		dtls.WithCertificates(device), dtls.WithRootCAs(serverCA), dtls.WithServerName("server.example"),
	})
	defer client.Close()
	fmt.Println(ask(client, "hello"))
	// Output: hello, device.example
}

// addressCheck is what a peer has to repeat to show that it receives at an address.
type addressCheck struct {
	address netip.AddrPort
	token   string
}

// checkAddress returns whether a session may be answered with more than a token. It may if its
// peer has not moved, or has returned the token that was sent to its new address.
//
// The token is in an answer of its own, which is shorter than three records of the peer: a
// longer one would go to the old address, and show nothing.
func checkAddress(c *dtlsserver.Conn, datagram []byte) bool {
	address, moved := c.UnverifiedAddress()
	if !moved {
		return true
	}
	check, ok := c.Value().(addressCheck)
	if ok && check.address == address && check.token == string(datagram) {
		return c.ConfirmAddress(address)
	}
	if !ok || check.address != address {
		check = addressCheck{address, rand.Text()}
		c.SetValue(check)
	}
	_, _ = fmt.Fprint(c, check.token)
	return false
}

// A client with a connection ID gets another address, as behind a NAT. It does not know return
// routability checks (RFC 9853), so the application asks it to repeat a token, as CoAP servers do
// with the Echo option (RFC 9175), before the session moves.
func ExampleListen_connectionIDs() {
	listener, err := pionv4.Listen("udp", "127.0.0.1:0", pionv4.Config{PSK: keyOf}, dtlsserver.Config{
		ServerID:      []byte{7}, // for a load balancer
		AddressChange: dtlsserver.VerifyAddress,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer listener.Close()
	go func() {
		_ = listener.Serve(context.Background(), func(c *dtlsserver.Conn, datagram []byte) {
			if checkAddress(c, datagram) {
				_, _ = fmt.Fprint(c, "welcome")
			}
		})
	}()

	socket := new(movingSocket)
	socket.move()
	withID := dtls.WithConnectionID(dtls.OnlySendCIDGenerator(), dtls.CIDPathMigrationReject)
	client := dial(socket, listener.Addr(), pskClient(withID))
	defer client.Close()
	fmt.Println(ask(client, "hello"))

	socket.move()
	token := ask(client, "hello again")
	fmt.Println(ask(client, token))
	fmt.Println("moved:", listener.Stats().AddressChanges)
	// Output:
	// welcome
	// welcome
	// moved: 1
}

// movingSocket is a net.PacketConn whose address changes.
type movingSocket struct {
	current atomic.Pointer[net.PacketConn]
}

func (s *movingSocket) move() {
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	if old := s.current.Swap(&socket); old != nil {
		_ = (*old).Close()
	}
}

func (s *movingSocket) socket() net.PacketConn { return *s.current.Load() }

func (s *movingSocket) ReadFrom(b []byte) (n int, from net.Addr, err error) {
	for {
		socket := s.socket()
		if n, from, err = socket.ReadFrom(b); err == nil || socket == s.socket() {
			return n, from, err
		}
	}
}

func (s *movingSocket) WriteTo(b []byte, to net.Addr) (int, error) { return s.socket().WriteTo(b, to) }
func (s *movingSocket) Close() error                               { return s.socket().Close() }
func (s *movingSocket) LocalAddr() net.Addr                        { return s.socket().LocalAddr() }
func (s *movingSocket) SetDeadline(t time.Time) error              { return s.socket().SetDeadline(t) }
func (s *movingSocket) SetReadDeadline(t time.Time) error          { return s.socket().SetReadDeadline(t) }
func (s *movingSocket) SetWriteDeadline(t time.Time) error         { return s.socket().SetWriteDeadline(t) }

// A server on pion v2 saves its sessions, and the next one is on pion v4: the client notices
// nothing. Both need the same policy, so the cipher suites are the same, in the same order.
func ExampleListen_fromPionV2() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "sessions")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "sessions")
	key := keyring.Key{ID: 1}
	_, _ = rand.Read(key.Secret[:]) // a real server keeps its key

	old, err := pionv2.Listen("udp", "127.0.0.1:0", &dtlsv2.Config{
		PSK:          keyOf,
		CipherSuites: []dtlsv2.CipherSuiteID{dtlsv2.TLS_PSK_WITH_AES_128_GCM_SHA256},
	}, pionv2.Config{})
	if err != nil {
		log.Fatal(err)
	}
	go func() { _ = old.Serve(ctx, echo) }()
	address := old.Addr()
	client := dial(nil, address, pskClient())
	defer client.Close()
	fmt.Println(ask(client, "before"))

	if _, err := old.SaveFile(ctx, path, key); err != nil {
		log.Fatal(err)
	}
	next, err := pionv4.Listen("udp", address.String(), pionv4.Config{
		PSK:          keyOf,
		CipherSuites: []ciphersuite.ID{ciphersuite.TLS_PSK_WITH_AES_128_GCM_SHA256},
	}, dtlsserver.Config{
		Restore: func(l *dtlsserver.Listener) error {
			stats, err := l.RestoreFile(ctx, path, key)
			fmt.Println(stats.Restored, "restored")
			return err
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer next.Close()
	go func() { _ = next.Serve(ctx, echo) }()
	fmt.Println(ask(client, "after"))
	// Output:
	// before
	// 1 restored
	// after
}

// SPDX-License-Identifier: MIT

// Package interop tests pionv2.Listen with clients that it does not share its code
// with, the latest of pion among them. It is a module of its own, so that they need
// not be in the root's graph.
package interop

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-dsm/dsm/pionv2"
	"github.com/go-dsm/dsm/resume"
	v2 "github.com/pion/dtls/v2"
	v3 "github.com/pion/dtls/v3"
	"github.com/pion/dtls/v3/pkg/protocol/extension"
	"github.com/pion/dtls/v3/pkg/protocol/handshake"
	"github.com/pion/transport/v2/test"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// checkLeaks fails the test if it leaves a goroutine, or takes too long.
func checkLeaks(t *testing.T) {
	stop := test.CheckRoutines(t)
	limit := test.TimeOut(3 * patience)
	t.Cleanup(func() { limit.Stop(); stop() })
}

// session is a server's side.
type session struct {
	*pionv2.Conn
	readEnds chan error         // what its last Read gave
	ends     chan pionv2.Reason // what OnEnd was told
}

// server echoes what its sessions say.
type server struct {
	*pionv2.Listener
	sessions chan *session
	greeting string // each session begins with it, if there is one
}

func serve(t *testing.T, config *v2.Config, greeting string) *server {
	t.Helper()
	return serveWith(t, config, greeting, nil)
}

// serveWith keeps sessions for resumption in a store, if it is not nil.
func serveWith(t *testing.T, config *v2.Config, greeting string, store *resume.Store) *server {
	t.Helper()
	config.FlightInterval = flightInterval
	var ends sync.Map // of a Conn, a chan pionv2.Reason
	listener, err := pionv2.Listen("udp", "127.0.0.1:0", config, pionv2.Config{
		Sessions:      10,
		Resumption:    store,
		OnEstablished: func(c *pionv2.Conn) { ends.Store(c, make(chan pionv2.Reason, 1)) },
		OnEnd: func(c *pionv2.Conn, why pionv2.Reason) {
			end, _ := ends.Load(c)
			end.(chan pionv2.Reason) <- why
		},
	})
	require.NoError(t, err)
	s := &server{Listener: listener, sessions: make(chan *session, 100), greeting: greeting}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := s.Accept()
			if err != nil {
				assert.ErrorIs(t, err, net.ErrClosed)
				return
			}
			end, _ := ends.Load(conn)
			session := &session{conn.(*pionv2.Conn), make(chan error, 1), end.(chan pionv2.Reason)}
			s.sessions <- session
			wg.Go(func() { s.echo(session) })
		}
	})
	t.Cleanup(func() {
		_ = s.Close()
		wg.Wait()
	})
	return s
}

func (s *server) echo(c *session) {
	defer c.Close()
	if s.greeting != "" {
		if _, err := c.Write([]byte(s.greeting)); err != nil {
			c.readEnds <- err
			return
		}
	}
	buf := make([]byte, 1<<14)
	for {
		n, err := c.Read(buf)
		if err == nil {
			_, err = c.Write(buf[:n])
		}
		if err != nil {
			c.readEnds <- err
			return
		}
	}
}

// next waits for what a channel gives.
func next[T any](t *testing.T, what <-chan T) T {
	t.Helper()
	select {
	case v := <-what:
		return v
	case <-time.After(patience):
		require.FailNow(t, "it does not come")
		panic("not reached")
	}
}

var key = []byte("secret secret 12")

// ccm8 is the suite where any would do.
const ccm8 = v2.TLS_PSK_WITH_AES_128_CCM_8

// pskServer is a config that knows of one device.
func pskServer(suite v2.CipherSuiteID) *v2.Config {
	return &v2.Config{
		PSK: func(identity []byte) ([]byte, error) {
			if string(identity) != "device" {
				return nil, fmt.Errorf("unknown identity %q", identity)
			}
			return key, nil
		},
		PSKIdentityHint: []byte("server"),
		CipherSuites:    []v2.CipherSuiteID{suite},
	}
}

// pskClient is that device.
func pskClient(suite v2.CipherSuiteID) credentials {
	return credentials{identity: "device", psk: key, suites: []uint16{uint16(suite)}}
}

// selfSigned is a certificate of "localhost", and a pool with nothing else in it.
func selfSigned(t *testing.T, key crypto.Signer) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "dsm test"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func ecdsaKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return key
}

// suites are those that pion's v2 server and v3 client both have.
var suites = []struct {
	id  v2.CipherSuiteID
	key string
}{
	{v2.TLS_PSK_WITH_AES_128_CCM, "psk"},
	{v2.TLS_PSK_WITH_AES_128_CCM_8, "psk"},
	{v2.TLS_PSK_WITH_AES_256_CCM_8, "psk"},
	{v2.TLS_PSK_WITH_AES_128_GCM_SHA256, "psk"},
	{v2.TLS_PSK_WITH_AES_128_CBC_SHA256, "psk"},
	{v2.TLS_ECDHE_PSK_WITH_AES_128_CBC_SHA256, "psk"},
	{v2.TLS_ECDHE_ECDSA_WITH_AES_128_CCM, "ecdsa"},
	{v2.TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8, "ecdsa"},
	{v2.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, "ecdsa"},
	{v2.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, "ecdsa"},
	{v2.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA, "ecdsa"},
	{v2.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, "rsa"},
	{v2.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, "rsa"},
	{v2.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA, "rsa"},
}

// TestSuites: with every suite lines of all lengths are echoed, both sides export the
// same keys, and close_notify goes both ways.
func TestSuites(t *testing.T) {
	checkLeaks(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	rsaCert, rsaPool := selfSigned(t, rsaKey)
	ecdsaCert, ecdsaPool := selfSigned(t, ecdsaKey(t))
	for _, with := range clients {
		for _, suite := range suites {
			t.Run(with.name+"/"+suite.id.String(), func(t *testing.T) {
				config, c := pskServer(suite.id), pskClient(suite.id)
				switch suite.key {
				case "ecdsa":
					config.PSK, config.PSKIdentityHint, config.Certificates = nil, nil, []tls.Certificate{ecdsaCert}
					c.psk, c.roots = nil, ecdsaPool
				case "rsa":
					config.PSK, config.PSKIdentityHint, config.Certificates = nil, nil, []tls.Certificate{rsaCert}
					c.psk, c.roots = nil, rsaPool
				}
				talk(t, serve(t, config, ""), c, with.dial, suite.id)
			})
		}
	}
}

// TestDefaultSuites: the same where neither side names a suite. Pion's defaults are
// all for certificates.
func TestDefaultSuites(t *testing.T) {
	checkLeaks(t)
	cert, pool := selfSigned(t, ecdsaKey(t))
	for _, with := range clients {
		t.Run(with.name, func(t *testing.T) {
			talk(t, serve(t, &v2.Config{Certificates: []tls.Certificate{cert}}, ""), credentials{roots: pool}, with.dial, 0)
		})
	}
}

// talk has one client that the server closes, and one that closes by itself.
func talk(t *testing.T, s *server, with credentials, dial dialer, suite v2.CipherSuiteID) {
	t.Helper()
	begin := func() (*client, *session) {
		c := newClient(t, newSocket(t, s.Addr(), nil), with, dial)
		for i := range 5 {
			c.echo(t, fmt.Sprintf("line %d", i))
		}
		for _, n := range []int{1, 15, 16, 17, 255, 1000, 1400} {
			c.echo(t, strings.Repeat("x", n))
		}
		session := next(t, s.sessions)
		if c.suite != 0 && suite != 0 {
			assert.Equal(t, uint16(suite), c.suite)
		}
		state := session.ConnectionState()
		if with.psk != nil {
			assert.Equal(t, with.identity, string(state.IdentityHint))
		}
		want, err := c.state.ExportKeyingMaterial("EXPORTER-interop", nil, 32)
		require.NoError(t, err)
		got, err := state.ExportKeyingMaterial("EXPORTER-interop", nil, 32)
		require.NoError(t, err)
		assert.Equal(t, want, got)
		return c, session
	}

	c, session := begin()
	require.NoError(t, session.Close())
	_, err := c.Read(make([]byte, 100))
	require.ErrorIs(t, err, io.EOF)
	require.ErrorIs(t, next(t, session.readEnds), net.ErrClosed)
	require.Equal(t, pionv2.ClosedByUs, next(t, session.ends))

	c, session = begin()
	require.NoError(t, c.Close())
	require.Equal(t, io.EOF, next(t, session.readEnds))
	require.Equal(t, pionv2.ClosedByPeer, next(t, session.ends))
	stats := s.Stats()
	assert.Zero(t, stats.Forged)
	assert.Zero(t, stats.Failed)
	assert.Zero(t, stats.Established)
}

// TestClientCertificate: both sides verify the other's.
func TestClientCertificate(t *testing.T) {
	checkLeaks(t)
	serverCert, serverPool := selfSigned(t, ecdsaKey(t))
	clientCert, clientPool := selfSigned(t, ecdsaKey(t))
	stranger, _ := selfSigned(t, ecdsaKey(t))
	for _, with := range clients {
		t.Run(with.name, func(t *testing.T) {
			s := serve(t, &v2.Config{
				Certificates: []tls.Certificate{serverCert}, ClientAuth: v2.RequireAndVerifyClientCert, ClientCAs: clientPool,
			}, "")
			c := newClient(t, newSocket(t, s.Addr(), nil), credentials{roots: serverPool, cert: &clientCert}, with.dial)
			c.echo(t, "it is me")
			assert.Equal(t, clientCert.Certificate, next(t, s.sessions).ConnectionState().PeerCertificates)

			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			for _, cert := range []*tls.Certificate{&stranger, nil} {
				_, _, _, err := with.dial(ctx, newSocket(t, s.Addr(), nil), credentials{roots: serverPool, cert: cert})
				require.Error(t, err)
				require.NotErrorIs(t, err, context.DeadlineExceeded, "the server says so")
			}
			assert.EqualValues(t, 1, s.Stats().Completed)
		})
	}
}

// TestReboot: a client that died without close_notify comes back from its port.
func TestReboot(t *testing.T) {
	checkLeaks(t)
	for _, with := range clients {
		t.Run(with.name, func(t *testing.T) {
			s := serve(t, pskServer(ccm8), "")
			c := newClient(t, newSocket(t, s.Addr(), nil), pskClient(ccm8), with.dial)
			c.echo(t, "first")
			old := next(t, s.sessions)
			for i := range 5 {
				c.kill()
				c = newClient(t, newSocket(t, s.Addr(), c.socket.LocalAddr()), pskClient(ccm8), with.dial)
				c.echo(t, "back again")
				fresh := next(t, s.sessions)
				require.Equal(t, old.Peer(), fresh.Peer())
				require.Equal(t, old.Slot(), fresh.Slot())
				require.Equal(t, io.EOF, next(t, old.readEnds))
				require.Equal(t, pionv2.Replaced, next(t, old.ends))
				require.EqualValues(t, i+1, s.Stats().Replaced)
				old = fresh
			}
			c.echo(t, "still here")
			assert.Equal(t, 1, s.Stats().Established)
		})
	}
}

// TestServerSpeaksFirst: what comes right after the handshake is not lost.
func TestServerSpeaksFirst(t *testing.T) {
	checkLeaks(t)
	for _, with := range clients {
		t.Run(with.name, func(t *testing.T) {
			s := serve(t, pskServer(ccm8), "welcome")
			for range 20 {
				c := newClient(t, newSocket(t, s.Addr(), nil), pskClient(ccm8), with.dial)
				c.expect(t, "welcome")
				c.echo(t, "thanks")
				require.NoError(t, c.Close())
				require.Equal(t, io.EOF, next(t, next(t, s.sessions).readEnds))
			}
		})
	}
}

// TestLoss: the handshake is completed, and the session works, whichever of its
// datagrams is lost: the first, the second and so on of one side.
func TestLoss(t *testing.T) {
	checkLeaks(t)
	cert, pool := selfSigned(t, ecdsaKey(t))
	for _, with := range clients {
		for _, byClient := range []bool{true, false} {
			from := map[bool]string{true: "client", false: "server"}[byClient]
			for lost := range int32(3) {
				t.Run(fmt.Sprintf("%s/%s %d", with.name, from, lost+1), func(t *testing.T) {
					s := serve(t, &v2.Config{Certificates: []tls.Certificate{cert}}, "")
					sock := newSocket(t, s.Addr(), nil)
					var seen atomic.Int32
					sock.drop = func(sent bool, datagram []byte) bool {
						if kind := datagram[0]; sent != byClient || kind == applicationData || kind == alert {
							return false
						}
						return seen.Add(1)-1 == lost
					}
					c := newClient(t, sock, credentials{roots: pool}, with.dial)
					for i := range 3 {
						c.echo(t, fmt.Sprint(i))
					}
					require.NoError(t, c.Close())
					session := next(t, s.sessions)
					require.Equal(t, io.EOF, next(t, session.readEnds))
					assert.Greater(t, seen.Load(), lost+1, "it was not lost, or not sent again")
				})
			}
		}
	}
}

// Types of DTLS records (RFC 6347 section 4.1, RFC 9146 section 4).
const (
	alert           = 21
	applicationData = 23
	tls12CID        = 25
)

// TestConnectionID: v3 offers one, and then does without.
func TestConnectionID(t *testing.T) {
	checkLeaks(t)
	for name, generate := range map[string]func() []byte{
		"8 bytes": v3.RandomCIDGenerator(8), "only to send": v3.OnlySendCIDGenerator(),
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, pskServer(ccm8), "")
			sock := newSocket(t, s.Addr(), nil)
			var offered, datagrams atomic.Int32
			sock.drop = func(_ bool, datagram []byte) bool {
				datagrams.Add(1)
				assert.NotEqual(t, byte(tls12CID), datagram[0])
				return false
			}
			hook := func(hello handshake.MessageClientHello) handshake.Message {
				for _, e := range hello.Extensions {
					if _, ok := e.(*extension.ConnectionID); ok {
						offered.Add(1)
					}
				}
				return &hello
			}
			c := newClient(t, sock, pskClient(ccm8), func(ctx context.Context, s *socket, c credentials) (net.Conn, exporter, uint16, error) {
				return dialV3With(ctx, s, c, v3.WithConnectionIDGenerator(generate), v3.WithClientHelloMessageHook(hook))
			})
			c.echo(t, "no connection ID")
			require.NoError(t, c.Close())
			require.Equal(t, io.EOF, next(t, next(t, s.sessions).readEnds))
			assert.Positive(t, offered.Load(), "no ClientHello had the extension")
			assert.Positive(t, datagrams.Load())
		})
	}
}

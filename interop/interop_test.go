// SPDX-License-Identifier: MIT

package interop

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	v2 "github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// suites are those that pion's v2 server and v3 client both have.
var suites = []struct {
	id  v2.CipherSuiteID
	key dtlstest.KeyKind // empty: a pre-shared key
}{
	{v2.TLS_PSK_WITH_AES_128_CCM, ""},
	{v2.TLS_PSK_WITH_AES_128_CCM_8, ""},
	{v2.TLS_PSK_WITH_AES_256_CCM_8, ""},
	{v2.TLS_PSK_WITH_AES_128_GCM_SHA256, ""},
	{v2.TLS_PSK_WITH_AES_128_CBC_SHA256, ""},
	{v2.TLS_ECDHE_PSK_WITH_AES_128_CBC_SHA256, ""},
	{v2.TLS_ECDHE_ECDSA_WITH_AES_128_CCM, dtlstest.ECDSA},
	{v2.TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8, dtlstest.ECDSA},
	{v2.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, dtlstest.ECDSA},
	{v2.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, dtlstest.ECDSA},
	{v2.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA, dtlstest.ECDSA},
	{v2.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, dtlstest.RSA},
	{v2.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, dtlstest.RSA},
	{v2.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA, dtlstest.RSA},
}

// With every suite lines of all lengths are echoed, both sides export the same keys, and
// close_notify goes both ways.
func TestEverySuite(t *testing.T) { withEachAdapter(t, testEverySuite) }

func testEverySuite(t *testing.T, on adapter) {
	for _, with := range clients {
		for _, suite := range suites {
			t.Run(with.name+"/"+suite.id.String(), func(t *testing.T) {
				t.Parallel()
				config, c := pskServer(suite.id), pskClient(suite.id)
				if suite.key != "" {
					cert := dtlstest.SelfSigned(t, suite.key)
					config.PSK, config.PSKIdentityHint, config.Certificates = nil, nil, []tls.Certificate{cert.Certificate}
					c.psk, c.roots = nil, cert.Pool
				}
				talk(t, serve(t, on, config, dtlsserver.Config{}, ""), c, with.dial, suite.id)
			})
		}
	}
}

// The same where neither side names a suite. All of pion's defaults are for certificates.
func TestDefaultSuites(t *testing.T) { withEachAdapter(t, testDefaultSuites) }

func testDefaultSuites(t *testing.T, on adapter) {
	for _, with := range clients {
		t.Run(with.name, func(t *testing.T) {
			t.Parallel()
			cert := dtlstest.SelfSigned(t, dtlstest.ECDSA)
			s := serve(t, on, &v2.Config{Certificates: []tls.Certificate{cert.Certificate}}, dtlsserver.Config{}, "")
			talk(t, s, credentials{roots: cert.Pool}, with.dial, 0)
		})
	}
}

// talk has one client whose session the server closes, and one that closes it by itself.
func talk(t *testing.T, s *server, with credentials, dial dialer, suite v2.CipherSuiteID) {
	t.Helper()
	begin := func() (*client, *session) {
		c := newClient(t, newTransport(t, s.Addr(), nil), with, dial)
		for i := range 5 {
			dtlstest.Echo(t, c, fmt.Sprintf("line %d", i))
		}
		for _, n := range []int{1, 15, 16, 17, 255, 1000, 1400} {
			dtlstest.Echo(t, c, strings.Repeat("x", n))
		}
		session := s.next(t)
		if c.suite != 0 && suite != 0 {
			assert.Equal(t, uint16(suite), c.suite)
		}
		if with.psk != nil {
			assert.Equal(t, with.identity, string(session.Identity().PSKIdentity))
		}
		want, err := c.state.ExportKeyingMaterial("EXPORTER-interop", nil, 32)
		require.NoError(t, err)
		got, err := s.on.state(session.Conn).ExportKeyingMaterial("EXPORTER-interop", nil, 32)
		require.NoError(t, err)
		assert.Equal(t, want, got)
		return c, session
	}

	c, session := begin()
	require.NoError(t, session.Close())
	dtlstest.RequireEOF(t, c)
	require.ErrorIs(t, dtlstest.Receive(t, session.readEnds), net.ErrClosed)
	require.Equal(t, dtlsserver.ClosedByUs, dtlstest.Receive(t, session.ends))

	c, session = begin()
	require.NoError(t, c.Close())
	require.Equal(t, io.EOF, dtlstest.Receive(t, session.readEnds))
	require.Equal(t, dtlsserver.ClosedByPeer, dtlstest.Receive(t, session.ends))
	stats := s.Stats()
	assert.Zero(t, stats.Forged)
	assert.Zero(t, stats.Failed)
	assert.Zero(t, stats.Established)
}

// Client and server verify each other's certificate.
func TestClientCertificate(t *testing.T) { withEachAdapter(t, testClientCertificate) }

func testClientCertificate(t *testing.T, on adapter) {
	serverCert, clientCert, stranger := dtlstest.SelfSigned(t, dtlstest.ECDSA), dtlstest.SelfSigned(t, dtlstest.ECDSA), dtlstest.SelfSigned(t, dtlstest.ECDSA)
	for _, with := range clients {
		t.Run(with.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, on, &v2.Config{
				Certificates: []tls.Certificate{serverCert.Certificate}, ClientAuth: v2.RequireAndVerifyClientCert, ClientCAs: clientCert.Pool,
			}, dtlsserver.Config{}, "")
			c := newClient(t, newTransport(t, s.Addr(), nil), credentials{roots: serverCert.Pool, cert: &clientCert.Certificate}, with.dial)
			dtlstest.Echo(t, c, "it is me")
			assert.Equal(t, clientCert.Certificate.Certificate, s.next(t).Identity().Certificates)

			ctx, cancel := context.WithTimeout(t.Context(), dtlstest.Patience)
			defer cancel()
			for _, cert := range []*tls.Certificate{&stranger.Certificate, nil} {
				_, _, _, err := with.dial(ctx, newTransport(t, s.Addr(), nil), credentials{roots: serverCert.Pool, cert: cert})
				require.Error(t, err)
				require.NotErrorIs(t, err, context.DeadlineExceeded, "the server says so")
			}
			assert.EqualValues(t, 1, s.Stats().Completed)
		})
	}
}

// A client that has died without close_notify comes back from its address and port (RFC
// 6347 section 4.2.8).
func TestClientComesBackFromItsPort(t *testing.T) { withEachAdapter(t, testClientComesBackFromItsPort) }

func testClientComesBackFromItsPort(t *testing.T, on adapter) {
	for _, with := range clients {
		t.Run(with.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, on, pskServer(ccm8), dtlsserver.Config{}, "")
			c := newClient(t, newTransport(t, s.Addr(), dtlstest.OwnAddr()), pskClient(ccm8), with.dial)
			dtlstest.Echo(t, c, "first")
			old := s.next(t)
			for i := range 5 {
				c.kill()
				c = newClient(t, newTransport(t, s.Addr(), c.addr()), pskClient(ccm8), with.dial)
				dtlstest.Echo(t, c, "back again")
				fresh := s.next(t)
				require.Equal(t, old.Peer(), fresh.Peer())
				require.Equal(t, old.Slot(), fresh.Slot())
				require.Equal(t, io.EOF, dtlstest.Receive(t, old.readEnds))
				require.Equal(t, dtlsserver.Replaced, dtlstest.Receive(t, old.ends))
				require.EqualValues(t, i+1, s.Stats().Replaced)
				old = fresh
			}
			dtlstest.Echo(t, c, "still here")
			assert.Equal(t, 1, s.Stats().Established)
		})
	}
}

// What the server sends right after the handshake is not lost.
func TestServerSpeaksFirst(t *testing.T) { withEachAdapter(t, testServerSpeaksFirst) }

func testServerSpeaksFirst(t *testing.T, on adapter) {
	for _, with := range clients {
		t.Run(with.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, on, pskServer(ccm8), dtlsserver.Config{}, "welcome")
			for range 20 {
				c := newClient(t, newTransport(t, s.Addr(), nil), pskClient(ccm8), with.dial)
				dtlstest.Expect(t, c, "welcome")
				dtlstest.Echo(t, c, "thanks")
				require.NoError(t, c.Close())
				require.Equal(t, io.EOF, dtlstest.Receive(t, s.next(t).readEnds))
			}
		})
	}
}

// The handshake is completed and the session works, whichever of the first datagrams of
// one side is lost.
func TestHandshakeDespiteLoss(t *testing.T) { withEachAdapter(t, testHandshakeDespiteLoss) }

func testHandshakeDespiteLoss(t *testing.T, on adapter) {
	cert := dtlstest.SelfSigned(t, dtlstest.ECDSA)
	for _, with := range clients {
		for _, from := range []string{"client", "server"} {
			for lost := range int32(3) {
				t.Run(fmt.Sprintf("%s/%s %d", with.name, from, lost+1), func(t *testing.T) {
					t.Parallel()
					s := serve(t, on, &v2.Config{Certificates: []tls.Certificate{cert.Certificate}}, dtlsserver.Config{}, "")
					transport := newTransport(t, s.Addr(), nil)
					var seen atomic.Int32
					lose := func(datagram []byte) bool {
						if kind := record.Type(datagram[0]); kind == record.TypeApplicationData || kind == record.TypeAlert {
							return true
						}
						return seen.Add(1)-1 != lost
					}
					if from == "client" {
						transport.SetOut(lose)
					} else {
						transport.SetIn(lose)
					}
					c := newClient(t, transport, credentials{roots: cert.Pool}, with.dial)
					for i := range 3 {
						dtlstest.Echo(t, c, fmt.Sprint(i))
					}
					require.NoError(t, c.Close())
					require.Equal(t, io.EOF, dtlstest.Receive(t, s.next(t).readEnds))
					assert.Greater(t, seen.Load(), lost+1, "it was not lost, or not sent again")
				})
			}
		}
	}
}

// SPDX-License-Identifier: MIT

package interop

import (
	"crypto/tls"
	"net"
	"path/filepath"
	"testing"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/resume"
	v2 "github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// way is how client and server know each other.
type way struct {
	name   string
	config *v2.Config
	visit  visit
}

// ways returns all of them, for a server that has suites for every client.
func (p *parties) ways() []way {
	key := pskServer(gcm)
	key.CipherSuites = append(key.CipherSuites, ecdhe) // for wolfSSL
	return []way{
		{"key", key, visit{psk: true}},
		{"server certificate", p.config(v2.NoClientCert), visit{ca: p.serverCA}},
		{"server certificate with an RSA key", &v2.Config{Certificates: []tls.Certificate{p.serverRSA.Certificate}}, visit{ca: p.serverRSACA}},
		{"both certificates", p.config(v2.RequireAndVerifyClientCert), visit{ca: p.serverCA, cert: p.client}},
	}
}

// can reports whether the client has what a visit needs.
func (f foreign) can(v visit) bool {
	return !(v.psk && f.noPSK) && !(v.cert != nil && f.noClientCertificate)
}

// wayFor returns the first one that a client has.
func (p *parties) wayFor(f foreign) way {
	for _, by := range p.ways() {
		if f.can(by.visit) {
			return by
		}
	}
	panic(f.name + " has no way in")
}

// Each client gets in, by each way that it has, and resumes its session.
func TestForeignClients(t *testing.T) { withEachAdapter(t, testForeignClients) }

func testForeignClients(t *testing.T, on adapter) {
	p := newParties(t)
	for _, client := range foreigners {
		for _, by := range p.ways() {
			if !client.can(by.visit) {
				continue
			}
			t.Run(client.name+"/"+by.name, func(t *testing.T) {
				t.Parallel()
				client := client.installed(t)
				store, err := resume.New(resume.Config{})
				require.NoError(t, err)
				s := serve(t, on, by.config, dtlsserver.Config{Resumption: store}, "")
				first, again := by.visit, by.visit
				if client.keep != nil {
					file := filepath.Join(t.TempDir(), "session")
					first.args, again.args = client.keep(file), client.resume(file)
				}
				client.echo(t, s.Addr(), first)
				requireVisitor(t, s.next(t), by.visit, false)
				if client.keep != nil {
					client.echo(t, s.Addr(), again)
					requireVisitor(t, s.next(t), by.visit, true)
				}
				stats := s.Stats()
				assert.Zero(t, stats.Forged)
				assert.Zero(t, stats.Failed)
			})
		}
	}
}

// requireVisitor checks who the client of a session is.
func requireVisitor(t *testing.T, c *session, v visit, resumed bool) {
	t.Helper()
	require.Equal(t, resumed, c.Resumed())
	if v.psk {
		assert.Equal(t, dtlstest.Identity, string(c.Identity().PSKIdentity))
	}
	if v.cert != nil {
		assert.Equal(t, v.cert.Certificate.Certificate, c.Identity().Certificates)
	}
}

func TestLibcoapClients(t *testing.T) { withEachAdapter(t, testLibcoapClients) }

func testLibcoapClients(t *testing.T, on adapter) {
	p := newParties(t)
	for _, program := range []string{"coap-client-openssl", "coap-client-gnutls"} {
		for name, connect := range map[string]func(*testing.T, net.Addr) string{
			"key": libcoap(program, p, nil), "both certificates": libcoap(program, p, p.alone),
		} {
			t.Run(program+"/"+name, func(t *testing.T) {
				t.Parallel()
				config, v := pskServer(gcm), visit{psk: true}
				if name != "key" {
					config, v = p.config(v2.RequireAndVerifyClientCert), visit{cert: p.alone}
				}
				s := serve(t, on, config, dtlsserver.Config{}, "")
				connect(t, s.Addr())
				requireVisitor(t, s.next(t), v, false)
			})
		}
	}
}

// NSS's client keeps its session in memory. With these arguments it makes two handshakes and
// says nothing.
func TestNSSResumesItsSession(t *testing.T) { withEachAdapter(t, testNSSResumesItsSession) }

func testNSSResumesItsSession(t *testing.T, on adapter) {
	p := newParties(t)
	for _, by := range p.ways() {
		if !nss.can(by.visit) {
			continue
		}
		t.Run(by.name, func(t *testing.T) {
			t.Parallel()
			client := nss.installed(t)
			store, err := resume.New(resume.Config{})
			require.NoError(t, err)
			s := serve(t, on, by.config, dtlsserver.Config{Resumption: store}, "")
			by.visit.args = []string{"-L", "2", "-Q"}
			process := dtlstest.StartProcess(t, client.path, client.args(t, s.Addr(), by.visit)...)
			process.CloseInput() // it may wait for input otherwise
			process.Ends()
			dtlstest.Eventually(t, func() bool { return s.Stats().ClosedByPeer == 2 }, "two sessions")
			assert.EqualValues(t, 1, s.Stats().Resumed)
		})
	}
}

// WolfSSL offers no renegotiation_info unless wolfSSL_UseSecureRenegotiation is called, and
// then refuses that extension in pion v2's ServerHello (RFC 5746 section 3.6). Nothing can
// be done about it in front of pion v2, because the client's Finished covers the ServerHello.
// Should this test fail, pion or wolfSSL has changed, and the documentation must, too.
func TestWolfSSLAsItIs(t *testing.T) { withEachAdapter(t, testWolfSSLAsItIs) }

func testWolfSSLAsItIs(t *testing.T, on adapter) {
	asItIs := wolfSSL.installed(t)
	asItIs.args = compiledArgs
	for _, by := range newParties(t).ways() {
		t.Run(by.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, on, by.config, dtlsserver.Config{}, "")
			if !on.renegotiationInfo {
				asItIs.echo(t, s.Addr(), by.visit)
				requireVisitor(t, s.next(t), by.visit, false)
				return
			}
			client := asItIs.start(t, s.Addr(), by.visit)
			client.Expect("wolfSSL_connect: -388: Invalid Renegotiation Error")
			client.Ends()
			assert.Zero(t, s.Stats().Completed)
		})
	}
}

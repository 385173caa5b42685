// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/resume"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// resumption is the configuration of listeners with a store for resumption, and of a
// client that keeps its session.
type resumption struct {
	server, client *dtls.Config
	cfg            dtlsserver.Config
	kept           *dtlstest.ClientStore // the client's session
	network        *dtlstest.Network     // nil: UDP
	listeners      int                   // on network
}

func newResumption(t *testing.T) *resumption {
	t.Helper()
	r := &resumption{server: psk(), client: psk(), kept: &dtlstest.ClientStore{}}
	r.client.SessionStore = r.kept
	r.cfg.Resumption = newStore(t, resume.Config{})
	return r
}

func newStore(t *testing.T, config resume.Config) *resume.Store {
	t.Helper()
	s, err := resume.New(config)
	require.NoError(t, err)
	return s
}

// withResumption runs a test of resumption in a bubble of testing/synctest, on a network
// in memory.
func withResumption(t *testing.T, test func(t *testing.T, r *resumption)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newResumption(t)
		r.network = dtlstest.NewNetwork(1)
		test(t, r)
	})
}

// listen opens a listener, whose sessions echo. All listeners of r share its store.
func (r *resumption) listen(t *testing.T) (*dtlsserver.Listener, <-chan *dtlsserver.Conn) {
	t.Helper()
	var l *dtlsserver.Listener
	if r.network == nil {
		l = listen(t, r.server, r.cfg)
	} else {
		r.listeners++
		l = listenOn(t, r.network.Listen(dtlstest.NthAddr(192, r.listeners, 5684)), r.server, r.cfg)
	}
	return l, echoServer(t, l)
}

// begin opens a listener and has the client visit it once. The session of that visit is
// stored, and has ended.
func (r *resumption) begin(t *testing.T) (*dtlsserver.Listener, <-chan *dtlsserver.Conn, *dtlsserver.Conn) {
	t.Helper()
	l, sessions := r.listen(t)
	first := r.visit(t, l, sessions)
	r.requireStored(t, 1)
	return l, sessions, first
}

// tryDial has the client connect from an address. Nil stands for a free one.
func (r *resumption) tryDial(l *dtlsserver.Listener, from *net.UDPAddr) (*dtlstest.Client, error) {
	if r.network == nil {
		return dtlstest.TryDial(l.Addr(), from, r.client)
	}
	return dtlstest.Handshake(r.socket(l, from), r.client)
}

// socket opens a socket of r's network that is connected to l.
func (r *resumption) socket(l *dtlsserver.Listener, from *net.UDPAddr) *dtlstest.Socket {
	return r.network.Dial(from.AddrPort(), dtlstest.AddrPort(l.Addr()))
}

// dial has the client connect and echo once, and returns both ends of the session.
func (r *resumption) dial(t *testing.T, l *dtlsserver.Listener, sessions <-chan *dtlsserver.Conn, from *net.UDPAddr) (*dtlstest.Client, *dtlsserver.Conn) {
	t.Helper()
	c, err := r.tryDial(l, from)
	require.NoError(t, err)
	t.Cleanup(c.Kill)
	dtlstest.Echo(t, c, "hello")
	return c, dtlstest.Receive(t, sessions)
}

// visit has the client connect, echo once and close the session, which it returns.
func (r *resumption) visit(t *testing.T, l *dtlsserver.Listener, sessions <-chan *dtlsserver.Conn) *dtlsserver.Conn {
	t.Helper()
	c, s := r.dial(t, l, sessions, nil)
	require.NoError(t, c.Close())
	dtlstest.Eventually(t, func() bool { return s.State() == dsm.StateNone }, "the client has closed the session")
	return s
}

// requireStored checks that sessions were stored n times. The session of a full handshake is
// stored before its client is done.
func (r *resumption) requireStored(t *testing.T, n int) {
	t.Helper()
	require.EqualValues(t, n, r.cfg.Resumption.Stats().Stored)
}

// A session is resumed with its identity and its data, whichever suite it has, as often
// as the client comes, and the application's own check is asked each time.
func TestSessionIsResumed(t *testing.T) {
	t.Parallel()
	cert := dtlstest.SelfSigned(t, dtlstest.ECDSA)
	for _, suite := range []dtls.CipherSuiteID{
		dtls.TLS_ECDHE_ECDSA_WITH_AES_128_CCM, dtls.TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8,
		dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, dtls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
		dtls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA,
		dtls.TLS_PSK_WITH_AES_128_CCM, dtls.TLS_PSK_WITH_AES_128_CCM_8, dtls.TLS_PSK_WITH_AES_256_CCM_8,
		dtls.TLS_PSK_WITH_AES_128_GCM_SHA256, dtls.TLS_PSK_WITH_AES_128_CBC_SHA256,
		dtls.TLS_ECDHE_PSK_WITH_AES_128_CBC_SHA256,
	} {
		t.Run(suite.String(), func(t *testing.T) {
			t.Parallel()
			r := newResumption(t)
			if record.SuiteID(suite).PSK() {
				r.server.CipherSuites = []dtls.CipherSuiteID{dtls.TLS_PSK_WITH_AES_128_CCM, suite}
			} else {
				r.server = &dtls.Config{Certificates: []tls.Certificate{cert.Certificate}, ClientAuth: dtls.RequireAndVerifyClientCert, ClientCAs: cert.Pool}
				r.server.CipherSuites = []dtls.CipherSuiteID{suite}
				r.client = &dtls.Config{Certificates: []tls.Certificate{cert.Certificate}, RootCAs: cert.Pool, ServerName: dtlstest.ServerName, SessionStore: r.kept}
			}
			r.client.CipherSuites = []dtls.CipherSuiteID{suite}
			var mu sync.Mutex
			var asked []string
			r.server.VerifyConnection = func(s *dtls.State) error {
				mu.Lock()
				defer mu.Unlock()
				asked = append(asked, fmt.Sprintf("%s %d", s.IdentityHint, len(s.PeerCertificates)))
				return nil
			}
			l, sessions, first := r.begin(t)
			assert.False(t, first.Resumed())
			assert.Nil(t, first.SessionData())
			require.NoError(t, first.SetSessionData([]byte("since the first visit")))
			r.requireStored(t, 2)
			for n := range 3 {
				s := r.visit(t, l, sessions)
				require.True(t, s.Resumed())
				assert.Equal(t, "since the first visit", string(s.SessionData()))
				assert.Equal(t, first.Identity().PSKIdentity, s.Identity().PSKIdentity)
				assert.Equal(t, first.Identity().Certificates, s.Identity().Certificates)
				if record.SuiteID(suite).PSK() {
					assert.Equal(t, dtlstest.Identity, string(s.Identity().PSKIdentity))
				} else {
					assert.Equal(t, cert.Certificate.Certificate, s.Identity().Certificates)
					assert.True(t, s.Identity().Verified.After(first.Identity().Verified), "verified again")
				}
				state, old := connectionState(s), connectionState(first)
				assert.Equal(t, old.IdentityHint, state.IdentityHint)
				assert.Equal(t, old.PeerCertificates, state.PeerCertificates)
				require.EqualValues(t, n+1, l.Stats().Resumed)
			}
			mu.Lock()
			defer mu.Unlock()
			require.Len(t, asked, 4, "VerifyConnection, each time")
			for _, who := range asked[1:] {
				assert.Equal(t, asked[0], who)
			}
			stats := l.Stats()
			assert.EqualValues(t, 4, stats.Completed)
			assert.EqualValues(t, 4, stats.ClosedByPeer)
			r.requireStored(t, 2) // a resumed session is not stored again
		})
	}
}

// Where something is against resuming a session, its client gets in by a full handshake.
func TestFullHandshakeWhereNotResumable(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(t *testing.T, r *resumption){
		"another scope": func(_ *testing.T, r *resumption) { r.cfg.ResumptionScope = "another" },
		"another set of suites": func(_ *testing.T, r *resumption) {
			r.server.CipherSuites = append(r.server.CipherSuites, dtls.TLS_PSK_WITH_AES_128_CCM_8)
		},
		"without its suite": func(_ *testing.T, r *resumption) {
			r.client.CipherSuites = []dtls.CipherSuiteID{dtls.TLS_PSK_WITH_AES_128_CCM}
		},
		"without the extended master secret": func(_ *testing.T, r *resumption) {
			r.client.ExtendedMasterSecret = dtls.DisableExtendedMasterSecret
		},
		"another name of the server": func(_ *testing.T, r *resumption) { r.client.ServerName = "another.example" },
		"an entry that is gone":      func(t *testing.T, r *resumption) { r.cfg.Resumption = newStore(t, resume.Config{}) },
		"an ID of another length":    func(_ *testing.T, r *resumption) { r.changeID(func(id []byte) []byte { return id[:31] }) },
		"an ID of no session": func(_ *testing.T, r *resumption) {
			r.changeID(func(id []byte) []byte { id[0] ^= 1; return id })
		},
		"another client authentication": func(_ *testing.T, r *resumption) { r.server.ClientAuth = dtls.RequestClientCert },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			withResumption(t, func(t *testing.T, r *resumption) {
				r.server.CipherSuites = []dtls.CipherSuiteID{dtls.TLS_PSK_WITH_AES_128_GCM_SHA256, dtls.TLS_PSK_WITH_AES_128_CCM}
				r.client.CipherSuites = r.server.CipherSuites
				l, sessions, _ := r.begin(t)
				require.True(t, r.visit(t, l, sessions).Resumed())

				change(t, r)
				l, sessions = r.listen(t)
				s := r.visit(t, l, sessions)
				assert.False(t, s.Resumed())
				assert.Equal(t, dtlstest.Identity, string(s.Identity().PSKIdentity))
				assert.Zero(t, l.Stats().Failed)
			})
		})
	}
}

// changeID changes the ID under which the client knows its session.
func (r *resumption) changeID(change func(id []byte) []byte) {
	session := r.kept.Session()
	session.ID = change(session.ID)
	_ = r.kept.Set(nil, session)
}

// What is against resuming a session can be against a full handshake, too. The client
// does not get in then.
func TestNeitherResumedNorAdmitted(t *testing.T) {
	t.Parallel()
	refuse := errors.New("refused")
	for name, change := range map[string]func(c *dtls.Config){
		"another key":           func(c *dtls.Config) { c.PSK = dtlstest.PSKConfig("another").PSK },
		"an unknown identity":   func(c *dtls.Config) { c.PSK = func([]byte) ([]byte, error) { return nil, refuse } },
		"refused by own checks": func(c *dtls.Config) { c.VerifyConnection = func(*dtls.State) error { return refuse } },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			withResumption(t, func(t *testing.T, r *resumption) {
				r.begin(t)
				change(r.server)
				l, _ := r.listen(t)
				dtlstest.WithTimeout(r.client, 300*time.Millisecond)
				_, err := r.tryDial(l, nil)
				assert.Error(t, err)
				stats := l.Stats()
				assert.Zero(t, stats.Completed)
				assert.EqualValues(t, 1, stats.NotResumed)
			})
		})
	}
}

// The session of a client that has shown no certificate is worth nothing to a listener
// that requires one.
func TestNoCertificateIsNotResumedWhereRequired(t *testing.T) {
	t.Parallel()
	withResumption(t, func(t *testing.T, r *resumption) {
		cert := dtlstest.SelfSigned(t, dtlstest.ECDSA)
		r.server = &dtls.Config{Certificates: []tls.Certificate{cert.Certificate}}
		r.client = dtlstest.WithTimeout(&dtls.Config{InsecureSkipVerify: true, SessionStore: r.kept}, time.Second)
		open, sessions := r.listen(t)
		r.server = &dtls.Config{Certificates: []tls.Certificate{cert.Certificate}, ClientAuth: dtls.RequireAnyClientCert}
		strict, _ := r.listen(t)
		for n := range 2 {
			c, _ := r.dial(t, open, sessions, nil)
			c.Kill()
			r.requireStored(t, 1)
			assert.EqualValues(t, n, open.Stats().Resumed)
		}
		_, err := r.tryDial(strict, nil)
		assert.Error(t, err)
		assert.Zero(t, strict.Stats().Completed)
	})
}

// Nothing is stored of a client that does not have the key.
func TestOnlyEstablishedSessionsAreStored(t *testing.T) {
	t.Parallel()
	withResumption(t, func(t *testing.T, r *resumption) {
		l, sessions := r.listen(t)
		for range 5 {
			stranger := dtlstest.WithTimeout(dtlstest.PSKConfig("another"), 300*time.Millisecond)
			_, err := dtlstest.Handshake(r.socket(l, nil), stranger)
			require.Error(t, err)
		}
		r.visit(t, l, sessions)
		r.requireStored(t, 1)
		assert.EqualValues(t, 1, r.cfg.Resumption.Stats().Puts, "the honest client's")
		assert.EqualValues(t, 6, l.Stats().Started)
	})
}

// An evicted session can be resumed, and so can one whose client comes back from the same
// address and port.
func TestEvictedAndReplacedSessionsAreResumed(t *testing.T) {
	t.Parallel()
	withResumption(t, func(t *testing.T, r *resumption) {
		r.cfg.Sessions = 1
		l, sessions := r.listen(t)
		c, _ := r.dial(t, l, sessions, nil)
		r.requireStored(t, 1)
		other, err := dtlstest.Handshake(r.socket(l, nil), psk())
		require.NoError(t, err)
		t.Cleanup(other.Kill)
		dtlstest.Echo(t, other, "evicts")
		dtlstest.Receive(t, sessions)
		dtlstest.RequireEOF(t, c)
		c.Kill()
		assert.EqualValues(t, 1, l.Stats().Evicted)
		c, s := r.dial(t, l, sessions, nil)
		assert.True(t, s.Resumed())
		for range 5 {
			from := c.Addr()
			c.Kill()
			c, s = r.dial(t, l, sessions, from)
			assert.True(t, s.Resumed())
		}
		assert.EqualValues(t, 5, l.Stats().Replaced)
	})
}

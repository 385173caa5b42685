// SPDX-License-Identifier: MIT

package pionv2

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/resume"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// clientStore is a client's, and keeps one session: that of the server that it talks
// to, wherever.
type clientStore struct {
	mu      sync.Mutex
	session dtls.Session
}

func (s *clientStore) Set(_ []byte, session dtls.Session) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.session = dtls.Session{ID: bytes.Clone(session.ID), Secret: bytes.Clone(session.Secret)}
	return nil
}

func (s *clientStore) Get([]byte) (dtls.Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.session, nil
}

func (s *clientStore) Del([]byte) error { return s.Set(nil, dtls.Session{}) }

func newStore(t *testing.T, config resume.Config) *resume.Store {
	t.Helper()
	s, err := resume.New(config)
	require.NoError(t, err)
	return s
}

// resumable are a listener's and its client's config, with stores.
type resumable struct {
	server, client *dtls.Config
	cfg            Config
	kept           *clientStore
}

func newResumable(t *testing.T) *resumable {
	r := &resumable{server: pskConfig("key"), client: pskConfig("key"), kept: &clientStore{}}
	r.client.SessionStore = r.kept
	r.cfg.Resumption = newStore(t, resume.Config{})
	return r
}

// visit has the client connect to l, echo a line and close, and returns the server's
// side of it.
func (r *resumable) visit(t *testing.T, l *Listener, conns <-chan *Conn) *Conn {
	t.Helper()
	c, err := tryClient(l, nil, r.client)
	require.NoError(t, err)
	echo(t, c.Conn, "visit")
	s := <-conns
	require.NoError(t, c.Close())
	eventually(t, func() bool { return s.State() == dsm.StateNone }, "closed by its client")
	return s
}

// stored waits until n sessions are: they are when the handshake is done already.
func (r *resumable) stored(t *testing.T, n int) {
	t.Helper()
	eventually(t, func() bool { return r.cfg.Resumption.Stats().Stored == uint64(n) }, "stored")
}

// begin is a listener and the client's first visit, whose session is stored.
func (r *resumable) begin(t *testing.T) (*Listener, <-chan *Conn, *Conn) {
	t.Helper()
	l := listen(t, r.server, r.cfg)
	conns := server[*Conn](t, l)
	first := r.visit(t, l, conns) // ends with close_notify
	r.stored(t, 1)
	return l, conns, first
}

// fatalAlert is one that a session's client has sealed.
func fatalAlert(t *testing.T, client *record.Session) []byte {
	t.Helper()
	alert, err := client.Seal(nil, record.TypeAlert, []byte{record.LevelFatal, 40})
	require.NoError(t, err)
	return alert
}

func TestResumption(t *testing.T) {
	checkLeaks(t)
	ecdsaCert, _, _ := selfSigned(t, ecdsaKey(t))
	pool := x509.NewCertPool()
	leaf, err := x509.ParseCertificate(ecdsaCert.Certificate[0])
	require.NoError(t, err)
	pool.AddCert(leaf)
	for _, suite := range opensslSuites {
		if suite.key == "rsa" {
			continue
		}
		t.Run(suite.name, func(t *testing.T) {
			r := newResumable(t)
			if suite.key == "ecdsa" {
				r.server = &dtls.Config{Certificates: []tls.Certificate{ecdsaCert}, ClientAuth: dtls.RequireAndVerifyClientCert, ClientCAs: pool}
				r.client = &dtls.Config{Certificates: []tls.Certificate{ecdsaCert}, RootCAs: pool, ServerName: "localhost", SessionStore: r.kept}
			}
			r.server.CipherSuites = []dtls.CipherSuiteID{dtls.TLS_PSK_WITH_AES_128_CCM, suite.id}
			if suite.key == "ecdsa" {
				r.server.CipherSuites = []dtls.CipherSuiteID{suite.id}
			}
			r.client.CipherSuites = []dtls.CipherSuiteID{suite.id}
			var asked []string
			r.server.VerifyConnection = func(s *dtls.State) error {
				asked = append(asked, fmt.Sprintf("%s %d", s.IdentityHint, len(s.PeerCertificates)))
				return nil
			}
			l := listen(t, r.server, r.cfg)
			conns := server[*Conn](t, l)
			first := r.visit(t, l, conns)
			assert.False(t, first.Resumed())
			assert.Nil(t, first.SessionData())
			require.NoError(t, first.SetSessionData([]byte("since the first")))
			r.stored(t, 2)
			for n := range 3 {
				s := r.visit(t, l, conns)
				require.True(t, s.Resumed())
				assert.Equal(t, "since the first", string(s.SessionData()))
				assert.Equal(t, first.Identity().PSK, s.Identity().PSK)
				assert.Equal(t, first.Identity().Certificates, s.Identity().Certificates)
				if suite.key == "ecdsa" {
					assert.Equal(t, ecdsaCert.Certificate, s.Identity().Certificates)
					assert.True(t, s.Identity().Verified.After(first.Identity().Verified), "verified again")
				} else {
					assert.Equal(t, "device", string(s.Identity().PSK))
				}
				state, old := s.ConnectionState(), first.ConnectionState()
				assert.Equal(t, old.IdentityHint, state.IdentityHint)
				assert.Equal(t, old.PeerCertificates, state.PeerCertificates)
				require.EqualValues(t, n+1, l.Stats().Resumed)
			}
			require.Len(t, asked, 4, "VerifyConnection, each time")
			for _, who := range asked[1:] {
				assert.Equal(t, asked[0], who)
			}
			stats := l.Stats()
			assert.EqualValues(t, 4, stats.Completed)
			assert.EqualValues(t, 4, stats.ClosedByPeer)
			r.stored(t, 2) // no more
		})
	}
}

// A session is resumed with its own suite (RFC 5246 section 7.4.1.2), whichever the
// client would rather have by now.
func TestResumptionKeepsItsSuite(t *testing.T) {
	checkLeaks(t)
	r := newResumable(t)
	r.server.CipherSuites = []dtls.CipherSuiteID{dtls.TLS_PSK_WITH_AES_128_CCM, dtls.TLS_PSK_WITH_AES_128_GCM_SHA256}
	l, conns, _ := r.begin(t)
	r.client.CipherSuites = r.server.CipherSuites
	s := r.visit(t, l, conns)
	assert.True(t, s.Resumed())
	assert.EqualValues(t, dtls.TLS_PSK_WITH_AES_128_GCM_SHA256, s.secrets().Suite)
}

// OpenSSL keeps its session in a file, and resumes it.
func TestOpenSSLResumes(t *testing.T) {
	openssl := needCommand(t, "openssl")
	checkLeaks(t)
	cert, certFile, keyFile := selfSigned(t, ecdsaKey(t))
	pool := x509.NewCertPool()
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	require.NoError(t, err)
	pool.AddCert(leaf)
	for _, with := range []string{"PSK", "certificates"} {
		t.Run(with, func(t *testing.T) {
			config := pskConfig("0123456789abcdef")
			args := []string{"-psk_identity", "device", "-psk", "30313233343536373839616263646566"}
			if with == "certificates" {
				config = &dtls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: dtls.RequireAndVerifyClientCert, ClientCAs: pool}
				args = []string{"-cert", certFile, "-key", keyFile}
			}
			l := listen(t, config, Config{Resumption: newStore(t, resume.Config{})})
			conns := server[*Conn](t, l)
			args = append([]string{"s_client", "-dtls1_2", "-connect", l.Addr().String()}, args...)
			file := t.TempDir() + "/session.pem"
			var first *Conn
			for n, more := range [][]string{{"-sess_out", file}, {"-sess_in", file}, {"-sess_in", file}} {
				client := startProcess(t, openssl, append(args, more...)...)
				client.expect([]string{"New, TLSv1.2", "Reused, TLSv1.2"}[min(n, 1)])
				client.line(fmt.Sprint("visit ", n))
				client.expect(fmt.Sprint("visit ", n))
				s := <-conns
				assert.Equal(t, n > 0, s.Resumed())
				if n == 0 {
					first = s
					require.NoError(t, s.SetSessionData([]byte("remembered")))
				}
				assert.Equal(t, "remembered", string(s.SessionData()))
				assert.Equal(t, first.Identity().PSK, s.Identity().PSK)
				assert.Equal(t, first.Identity().Certificates, s.Identity().Certificates)
				client.line("Q")
				client.ends()
			}
			assert.EqualValues(t, 2, l.Stats().Resumed)
		})
	}
}

// T6 and more: whatever stands against it, the client gets in by a full handshake, or
// not at all if that fails for the same cause.
func TestNotResumed(t *testing.T) {
	checkLeaks(t)
	refuse := errors.New("refused")
	for name, change := range map[string]func(r *resumable){
		"another scope": func(r *resumable) { r.cfg.ResumptionScope = "another" },
		"another set of suites": func(r *resumable) {
			r.server.CipherSuites = append(r.server.CipherSuites, dtls.TLS_PSK_WITH_AES_128_CCM_8)
		},
		"without its suite":           func(r *resumable) { r.client.CipherSuites = []dtls.CipherSuiteID{dtls.TLS_PSK_WITH_AES_128_CCM} },
		"without its master secret":   func(r *resumable) { r.client.ExtendedMasterSecret = dtls.DisableExtendedMasterSecret },
		"another name of the server":  func(r *resumable) { r.client.ServerName = "another.example" },
		"an entry that has gone":      func(r *resumable) { r.cfg.Resumption = newStore(t, resume.Config{}) },
		"an id of another length":     func(r *resumable) { r.kept.session.ID = r.kept.session.ID[:31] },
		"an id that nobody has drawn": func(r *resumable) { r.kept.session.ID[0] ^= 1 },
		"another client auth":         func(r *resumable) { r.server.ClientAuth = dtls.RequestClientCert },
	} {
		t.Run(name, func(t *testing.T) {
			r := newResumable(t)
			both := []dtls.CipherSuiteID{dtls.TLS_PSK_WITH_AES_128_GCM_SHA256, dtls.TLS_PSK_WITH_AES_128_CCM}
			r.server.CipherSuites, r.client.CipherSuites = both, both
			l, conns, _ := r.begin(t)
			require.True(t, r.visit(t, l, conns).Resumed())

			change(r)
			l = listen(t, r.server, r.cfg)
			conns = server[*Conn](t, l)
			s := r.visit(t, l, conns)
			assert.False(t, s.Resumed())
			assert.Equal(t, "device", string(s.Identity().PSK))
			assert.Zero(t, l.Stats().Failed)
		})
	}
	for name, change := range map[string]func(c *dtls.Config){
		"the key is another":    func(c *dtls.Config) { c.PSK = pskConfig("another").PSK },
		"the identity has gone": func(c *dtls.Config) { c.PSK = func([]byte) ([]byte, error) { return nil, refuse } },
		"VerifyConnection":      func(c *dtls.Config) { c.VerifyConnection = func(*dtls.State) error { return refuse } },
	} {
		t.Run(name, func(t *testing.T) {
			r := newResumable(t)
			l := listen(t, r.server, r.cfg)
			r.visit(t, l, server[*Conn](t, l))
			r.stored(t, 1)
			change(r.server)
			l = listen(t, r.server, r.cfg)
			server[*Conn](t, l)
			r.client.ConnectContextMaker = func() (context.Context, func()) {
				return context.WithTimeout(context.Background(), 300*time.Millisecond)
			}
			_, err := tryClient(l, nil, r.client)
			assert.Error(t, err)
			stats := l.Stats()
			assert.Zero(t, stats.Completed)
			assert.EqualValues(t, 1, stats.NotResumed)
		})
	}
}

// T6: a session of a listener that asks for no certificate is worth nothing at one that
// requires it; nor is one whose certificate is not good any more.
func TestResumptionAndCertificates(t *testing.T) {
	checkLeaks(t)
	cert, _, _ := selfSigned(t, ecdsaKey(t))
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	require.NoError(t, err)
	known := x509.NewCertPool()
	known.AddCert(leaf)
	l := listen(t, &dtls.Config{Certificates: []tls.Certificate{cert}}, Config{})
	good := resume.Session{
		Secret: make([]byte, 48), Suite: uint16(dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256), Certificates: cert.Certificate,
	}
	r, _, _ := record.Next(helloOfSuite(good.Suite))
	hello, ok := record.ParseClientHello(r)
	require.True(t, ok)
	require.True(t, hello.Offers(record.SuiteID(good.Suite)))

	for _, auth := range []dtls.ClientAuthType{dtls.RequireAnyClientCert, dtls.RequireAndVerifyClientCert, dtls.VerifyClientCertIfGiven} {
		l.dtls.ClientAuth, l.dtls.ClientCAs = auth, known
		l.scope = scope(&l.dtls, "")
		s := good
		assert.ErrorContains(t, l.mayResume(&s, hello), "another policy")
		s.Scope = l.scope // of no PSK
		assert.NoError(t, l.mayResume(&s, hello))
		assert.Equal(t, auth >= dtls.VerifyClientCertIfGiven, !s.Verified.IsZero())
		s.Certificates = nil
		if auth == dtls.VerifyClientCertIfGiven {
			assert.NoError(t, l.mayResume(&s, hello), "it may have none")
		} else {
			assert.ErrorContains(t, l.mayResume(&s, hello), "no certificate")
		}
		s.Certificates = [][]byte{{1, 2, 3}}
		assert.Error(t, l.mayResume(&s, hello))
	}
	s := good
	s.Scope = l.scope
	l.dtls.ClientCAs = x509.NewCertPool() // its authority is one no more
	assert.ErrorContains(t, l.mayResume(&s, hello), "certificate")
	l.dtls.ClientCAs = known
	l.dtls.VerifyPeerCertificate = func([][]byte, [][]*x509.Certificate) error { return errors.New("revoked") }
	assert.ErrorContains(t, l.mayResume(&s, hello), "revoked")
	l.dtls.VerifyPeerCertificate = nil
	foreign := s
	foreign.Suite = 0x1301 // of TLS 1.3: from a backend that does not seal, say
	r, _, _ = record.Next(helloOfSuite(foreign.Suite))
	offers, _ := record.ParseClientHello(r)
	assert.ErrorContains(t, l.mayResume(&foreign, offers), "not had here")
	ofPSK := s
	ofPSK.Scope += tagOf([]byte("key"), ofPSK.Secret)
	assert.ErrorContains(t, l.mayResume(&ofPSK, hello), "another policy")

	synctest.Test(t, func(t *testing.T) { // whose clock begins in the year 2000
		time.Sleep(time.Until(leaf.NotAfter))
		l.dtls.ClientAuth = dtls.RequireAnyClientCert
		l.scope = scope(&l.dtls, "")
		s.Scope = l.scope
		assert.NoError(t, l.mayResume(&s, hello))
		time.Sleep(time.Second)
		assert.ErrorContains(t, l.mayResume(&s, hello), "expired")
	})

	// And on the wire: without a certificate, then where one is required.
	kept := &clientStore{}
	store := newStore(t, resume.Config{})
	client := &dtls.Config{InsecureSkipVerify: true, SessionStore: kept, ConnectContextMaker: func() (context.Context, func()) {
		return context.WithTimeout(context.Background(), time.Second)
	}}
	open := listen(t, &dtls.Config{Certificates: []tls.Certificate{cert}}, Config{Resumption: store})
	strict := listen(t, &dtls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: dtls.RequireAnyClientCert}, Config{Resumption: store})
	server[*Conn](t, open)
	server[*Conn](t, strict)
	for n := range 2 {
		c, err := tryClient(open, nil, client)
		require.NoError(t, err)
		echo(t, c.Conn, "x")
		c.kill()
		eventually(t, func() bool { return store.Stats().Stored == 1 }, "stored")
		assert.EqualValues(t, n, open.Stats().Resumed)
	}
	_, err = tryClient(strict, nil, client)
	assert.Error(t, err)
	assert.Zero(t, strict.Stats().Completed)
}

func helloOfSuite(suite uint16) []byte {
	b := hello(1)
	at := bytes.LastIndex(b, []byte{0, 0xa8})
	b[at], b[at+1] = byte(suite>>8), byte(suite)
	return b
}

// T7: nothing is stored of a client that does not have the key.
func TestNothingIsStoredOfStrangers(t *testing.T) {
	checkLeaks(t)
	r := newResumable(t)
	l := listen(t, r.server, r.cfg)
	conns := server[*Conn](t, l)
	for range 5 {
		_, err := tryDial(l, nil, "another")
		require.Error(t, err)
	}
	r.visit(t, l, conns)
	r.stored(t, 1)
	assert.EqualValues(t, 1, r.cfg.Resumption.Stats().Puts, "the honest client's")
	assert.EqualValues(t, 6, l.Stats().Started)
}

// fakeBackend is a Memory behind something that a test does to it.
type fakeBackend struct {
	resume.Backend
	get atomic.Pointer[func(ctx context.Context, value []byte, ok bool, err error) ([]byte, bool, error)]
	put atomic.Pointer[func(ctx context.Context) error]
}

func newFakeBackend(t *testing.T) *fakeBackend {
	memory, err := resume.NewMemory(100)
	require.NoError(t, err)
	return &fakeBackend{Backend: memory}
}

func (b *fakeBackend) Get(ctx context.Context, id []byte) ([]byte, bool, error) {
	value, ok, err := b.Backend.Get(ctx, id)
	if f := b.get.Load(); f != nil {
		return (*f)(ctx, value, ok, err)
	}
	return value, ok, err
}

func (b *fakeBackend) Put(ctx context.Context, id, value []byte, ttl time.Duration) error {
	if f := b.put.Load(); f != nil {
		if err := (*f)(ctx); err != nil {
			return err
		}
	}
	return b.Backend.Put(ctx, id, value, ttl)
}

// T8: a store that errs, hangs or gives garbage costs a full handshake, and the time
// that a lookup may take.
func TestStoreInTrouble(t *testing.T) {
	const timeout = 300 * time.Millisecond
	for name, get := range map[string]func(ctx context.Context, value []byte, ok bool, err error) ([]byte, bool, error){
		"an error": func(context.Context, []byte, bool, error) ([]byte, bool, error) {
			return nil, false, errors.New("down")
		},
		"garbage": func(_ context.Context, value []byte, ok bool, _ error) ([]byte, bool, error) {
			return []byte("garbage"), ok, nil
		},
		"a tampered secret": func(_ context.Context, value []byte, ok bool, _ error) ([]byte, bool, error) {
			s, err := resume.Unmarshal(value)
			if err != nil {
				return nil, false, err
			}
			s.Scope = strings.Repeat("0", len(s.Scope))
			value, err = s.Marshal()
			return value, ok, err
		},
		"it hangs": func(ctx context.Context, _ []byte, _ bool, _ error) ([]byte, bool, error) {
			<-ctx.Done()
			return nil, false, ctx.Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				backend := newFakeBackend(t)
				store := newStore(t, resume.Config{Backend: backend, LookupTimeout: timeout})
				kept := &clientStore{}
				client := pskConfig("key")
				client.SessionStore = kept
				client.FlightInterval = time.Hour // nothing is repeated, so all time is the store's
				config := pskConfig("key")
				config.FlightInterval = time.Hour
				var took [3]time.Duration
				for n := range took {
					if n == 2 {
						backend.get.Store(&get)
					}
					l, near, err := memoryListener(config, Config{Resumption: store})
					require.NoError(t, err)
					begin := time.Now()
					c, err := dtls.Client(near, client)
					require.NoError(t, err)
					took[n] = time.Since(begin)
					s, err := l.Accept()
					require.NoError(t, err)
					assert.Equal(t, n == 1, s.(*Conn).Resumed())
					synctest.Wait()
					backend.put.Store(nil)
					go func() { _ = c.Close() }()
					require.NoError(t, l.Close())
					synctest.Wait()
				}
				assert.Zero(t, took[0])
				assert.Zero(t, took[1])
				if name == "it hangs" {
					assert.Equal(t, timeout, took[2])
				} else {
					assert.Zero(t, took[2])
				}
				time.Sleep(2 * time.Hour)
			})
		})
	}
}

// RFC 5246 7.2.2: a fatal alert of the client's makes its session worthless; but one
// that anybody can forge does not, and close_notify neither.
func TestFatalAlertRemoves(t *testing.T) {
	checkLeaks(t)
	r := newResumable(t)
	l, conns, _ := r.begin(t)
	c, err := tryClient(l, nil, r.client)
	require.NoError(t, err)
	defer c.kill()
	echo(t, c.Conn, "x")
	s := <-conns
	require.True(t, s.Resumed())
	send(t, c.udp, plain(record.TypeAlert, 9, record.LevelFatal, 40))
	eventually(t, func() bool { return l.Stats().Plaintext == 1 }, "forged")
	assert.Zero(t, r.cfg.Resumption.Stats().Deletes)

	send(t, c.udp, fatalAlert(t, sealer(t, s)))
	eventually(t, func() bool { return r.cfg.Resumption.Stats().Deleted == 1 }, "removed")
	assert.Error(t, s.SetSessionData([]byte("too late")))
	assert.False(t, r.visit(t, l, conns).Resumed())
}

// So does one that comes while the handshake still runs.
func TestFatalAlertInTheHandshakeRemoves(t *testing.T) {
	checkLeaks(t)
	r := newResumable(t)
	l, _, _ := r.begin(t)
	c, udp := r.spied(t, l, func(_ net.Conn, p []byte) bool { return has(p, record.TypeChangeCipherSpec, false) }) // is lost
	l.mu.Lock()
	h := l.halfOpen.Front().Value.(*handshake)
	l.mu.Unlock()
	h.transport.mu.Lock()
	secrets := h.transport.session.Config()
	h.transport.mu.Unlock()
	secrets.IsClient, secrets.NextSequence = true, 1000
	peer, err := record.New(secrets)
	require.NoError(t, err)
	send(t, udp, fatalAlert(t, peer))
	eventually(t, func() bool { return r.cfg.Resumption.Stats().Deleted == 1 }, "removed")
	stats := l.Stats()
	assert.EqualValues(t, 1, stats.Failed)
	assert.Zero(t, stats.HalfOpen)
	_ = c.Close()
}

// A handshake that fails for what may be another's doing removes nothing.
func TestWrongFinishedRemovesNothing(t *testing.T) {
	checkLeaks(t)
	r := newResumable(t)
	l, conns, _ := r.begin(t)
	evil := &evilConn{
		Conn: stranger(t, l), suite: record.SuiteID(dtls.TLS_PSK_WITH_AES_128_GCM_SHA256), master: r.kept.session.Secret,
		forge: func(session *record.Session) ([]byte, error) {
			return session.Seal(nil, record.TypeHandshake, append([]byte{record.MessageFinished, 0, 0, 12, 0, 1, 0, 0, 0, 0, 0, 12}, make([]byte, 12)...))
		},
	}
	config := *r.client
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := dtls.ClientWithContext(ctx, evil, &config) // it has sent its last flight, and thinks all is well
	require.NoError(t, err)
	eventually(t, func() bool { return l.Stats().Failed == 1 }, "failed")
	assert.Zero(t, l.Stats().Resumed)
	_ = c.Close()
	assert.True(t, r.visit(t, l, conns).Resumed())
	assert.Zero(t, r.cfg.Resumption.Stats().Deletes)
}

// spyConn has the client's datagrams in its hands.
type spyConn struct {
	net.Conn
	handles func(udp net.Conn, p []byte) bool // whether p has been dealt with
}

func (c spyConn) Write(p []byte) (int, error) {
	if c.handles(c.Conn, p) {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// spied is a client that resumes, with somebody in its way.
func (r *resumable) spied(t *testing.T, l *Listener, handles func(udp net.Conn, p []byte) bool) (*dtls.Conn, *net.UDPConn) {
	t.Helper()
	udp := stranger(t, l)
	c, err := dtls.Client(spyConn{slowToClose{udp}, handles}, r.client)
	require.NoError(t, err)
	return c, udp
}

// Nothing that anybody can forge, sent between the client's hello and its last flight,
// keeps it from resuming, or removes its session.
func TestForgeriesInTheHandshake(t *testing.T) {
	checkLeaks(t)
	forgedHello := func(seq byte) []byte {
		b := hello(9)
		b[record.HeaderSize+5] = seq
		return b
	}
	sealed := func(n int) []byte {
		b := make([]byte, record.HeaderSize+40)
		record.PutHeader(b, record.TypeApplicationData, epoch, uint64(n+100), 40)
		return b
	}
	for name, forge := range map[string]func(send func([]byte), flight []byte){
		"a ClientHello":        func(send func([]byte), _ []byte) { send(forgedHello(0)) },
		"a second ClientHello": func(send func([]byte), _ []byte) { send(forgedHello(1)) },
		"a third ClientHello":  func(send func([]byte), _ []byte) { send(forgedHello(2)) },
		"a handshake message": func(send func([]byte), _ []byte) {
			send(plain(record.TypeHandshake, 9, append(fragment(1, 1, 0, 1), 0)...))
		},
		"application data": func(send func([]byte), _ []byte) { send(plain(record.TypeApplicationData, 9, 'x')) },
		"what it has not sealed": func(send func([]byte), _ []byte) {
			for n := range 3 * heldRecords {
				send(sealed(n))
			}
		},
		"an alert after its Finished": func(send func([]byte), flight []byte) {
			_, finished, _ := record.Next(flight)
			send(finished)
			time.Sleep(10 * time.Millisecond) // it is looked at
			send(plain(record.TypeAlert, 9, record.LevelFatal, 40))
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newResumable(t)
			l, conns, _ := r.begin(t)
			c, _ := r.spied(t, l, func(udp net.Conn, p []byte) bool {
				if has(p, record.TypeChangeCipherSpec, false) {
					forge(func(b []byte) { send(t, udp, b) }, p)
					time.Sleep(10 * time.Millisecond)
				}
				return false
			})
			echo(t, c, "established")
			assert.True(t, (<-conns).Resumed())
			_ = c.Close()
			stats := l.Stats()
			assert.Zero(t, stats.Failed)
			assert.Zero(t, stats.Displaced)
			assert.Zero(t, r.cfg.Resumption.Stats().Deletes)
		})
	}
}

// A session that was removed stays so, though an earlier Conn of it is still there.
func TestRemovedStaysSo(t *testing.T) {
	checkLeaks(t)
	r := newResumable(t)
	l, conns, first := r.begin(t)
	c, err := tryClient(l, nil, r.client)
	require.NoError(t, err)
	defer c.kill()
	echo(t, c.Conn, "x")
	s := <-conns
	require.True(t, s.Resumed())
	send(t, c.udp, fatalAlert(t, sealer(t, s)))
	eventually(t, func() bool { return r.cfg.Resumption.Stats().Deleted == 1 }, "removed")
	assert.ErrorIs(t, first.SetSessionData([]byte("of the first Conn")), resume.ErrRevoked)
	assert.False(t, r.visit(t, l, conns).Resumed())
}

// A listener that has keys and certificates resumes both kinds of session; one that has
// keys only does not resume those of clients that had none.
func TestResumptionWithKeysAndCertificates(t *testing.T) {
	checkLeaks(t)
	cert, _, _ := selfSigned(t, ecdsaKey(t))
	suites := []dtls.CipherSuiteID{dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, dtls.TLS_PSK_WITH_AES_128_GCM_SHA256}
	for _, with := range []string{"key", "certificate"} {
		t.Run(with, func(t *testing.T) {
			r := newResumable(t)
			r.server.Certificates, r.server.CipherSuites = []tls.Certificate{cert}, suites
			if with == "certificate" {
				r.client = &dtls.Config{InsecureSkipVerify: true, SessionStore: r.kept}
			}
			l, conns, _ := r.begin(t)
			assert.True(t, r.visit(t, l, conns).Resumed())
			if with == "certificate" {
				keysOnly := pskConfig("key")
				keysOnly.CipherSuites = suites
				strict := listen(t, keysOnly, r.cfg)
				server[*Conn](t, strict)
				_, err := tryClient(strict, nil, r.client)
				assert.Error(t, err)
				assert.EqualValues(t, 1, strict.Stats().NotResumed)
				assert.Zero(t, strict.Stats().Completed)
			}
		})
	}
}

// Neither a getter nor the reader of the socket waits for a store that hangs.
func TestSessionDataDoesNotWait(t *testing.T) {
	checkLeaks(t)
	r := newResumable(t)
	backend := newFakeBackend(t)
	goOn := make(chan struct{})
	hangs := func(context.Context) error { <-goOn; return nil }
	backend.put.Store(&hangs)
	t.Cleanup(func() { close(goOn) })
	r.cfg.Resumption = newStore(t, resume.Config{Backend: backend, LookupTimeout: time.Second / 2})
	ended := make(chan struct{})
	r.cfg.OnEnd = func(c *Conn, _ Reason) { assert.Equal(t, "mine", string(c.SessionData())); close(ended) }
	l := listen(t, r.server, r.cfg)
	conns := server[*Conn](t, l)
	c, err := tryClient(l, nil, r.client)
	require.NoError(t, err)
	defer c.kill()
	s := <-conns
	set := make(chan error, 1)
	go func() { set <- s.SetSessionData([]byte("mine")) }()
	eventually(t, func() bool { return s.SessionData() != nil }, "set")
	select {
	case <-set:
		assert.Fail(t, "the store does not hang")
	default:
	}
	require.NoError(t, s.Close())
	<-ended
	assert.ErrorIs(t, <-set, context.DeadlineExceeded)
}

// Data that cannot be kept is an error, and changes nothing.
func TestSessionDataRefused(t *testing.T) {
	checkLeaks(t)
	_, s, _, _ := established(t, Config{})
	assert.ErrorContains(t, s.SetSessionData([]byte("x")), "cannot be resumed")
	assert.Nil(t, s.SessionData())
	assert.False(t, s.Resumed())

	_, s, _, _ = established(t, Config{Resumption: newStore(t, resume.Config{})})
	assert.ErrorContains(t, s.SetSessionData(make([]byte, resume.MaxData+1)), "1025 bytes")
	assert.Nil(t, s.SessionData())
	assert.NoError(t, s.SetSessionData(make([]byte, resume.MaxData)))
	assert.Len(t, s.SessionData(), resume.MaxData)
	assert.Len(t, s.ConnectionState().SessionID, 32)
}

// What a caller does with an Identity is no business of the store's.
func TestIdentityIsACopy(t *testing.T) {
	checkLeaks(t)
	cert, _, _ := selfSigned(t, ecdsaKey(t))
	r := newResumable(t)
	r.server = &dtls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: dtls.RequireAnyClientCert}
	r.client = &dtls.Config{Certificates: []tls.Certificate{cert}, InsecureSkipVerify: true, SessionStore: r.kept}
	l, conns, s := r.begin(t)
	s.Identity().Certificates[0][0] ^= 1
	require.NoError(t, s.SetSessionData([]byte("x")))
	assert.True(t, r.visit(t, l, conns).Resumed())
	assert.Equal(t, cert.Certificate, s.Identity().Certificates)
}

// While the client's Finished is missing, data that only it can have sealed show where
// it is: our flight goes out again and again. Pion's client never repeats its own.
func TestDataInThePlaceOfTheFinished(t *testing.T) {
	checkLeaks(t)
	r := newResumable(t)
	r.server.FlightInterval = 5 * time.Millisecond
	l, w := listenWire(t, r.server, r.cfg)
	conns := server[*Conn](t, l)
	r.visit(t, l, conns)
	r.stored(t, 1)
	in := func(b []byte) bool { return !has(b, record.TypeHandshake, true) }
	var flights atomic.Int32
	out := func(b []byte) bool {
		if has(b, record.TypeChangeCipherSpec, false) {
			flights.Add(1)
		}
		return true
	}
	w.in.Store(&in)
	w.out.Store(&out)
	c, err := tryClient(l, nil, r.client)
	require.NoError(t, err)
	defer c.kill()
	assert.Zero(t, l.provenHandshakes())
	_, err = c.Write([]byte("am I heard?"))
	require.NoError(t, err)
	eventually(t, func() bool { return l.provenHandshakes() == 1 && flights.Load() > 2*amplification }, "again and again")
}

// An evicted session stays resumable, and so does one whose client came back from its
// port: that is what resumption is for.
func TestResumptionOfTheEvicted(t *testing.T) {
	checkLeaks(t)
	r := newResumable(t)
	r.cfg.Sessions = 1
	l := listen(t, r.server, r.cfg)
	conns := server[*Conn](t, l)
	c, err := tryClient(l, nil, r.client)
	require.NoError(t, err)
	echo(t, c.Conn, "first")
	<-conns
	r.stored(t, 1)
	other := newClient(t, l, nil)
	echo(t, other.Conn, "evicts")
	<-conns
	requireEOF(t, c.Conn)
	c.kill()
	assert.EqualValues(t, 1, l.Stats().Evicted)
	c, err = tryClient(l, nil, r.client)
	require.NoError(t, err)
	echo(t, c.Conn, "resumed")
	s := <-conns
	assert.True(t, s.Resumed())
	for range 5 {
		from := c.port()
		c.kill()
		c, err = tryClient(l, from, r.client)
		require.NoError(t, err)
		echo(t, c.Conn, "from the same port")
		assert.True(t, (<-conns).Resumed())
	}
	assert.EqualValues(t, 5, l.Stats().Replaced)
	c.kill()
}

// losing loses the n-th datagram, either way, counted from 0; and no number and no
// nonce of the server's may come twice.
func (w *wire) losing(t *testing.T, lost int) {
	var mu sync.Mutex
	n := 0
	seen := map[string]bool{}
	drop := func(out bool) func(b []byte) bool {
		return func(b []byte) bool {
			mu.Lock()
			defer mu.Unlock()
			for rest := b; out && len(rest) > 0; {
				var r record.Record
				if r, rest, _ = record.Next(rest); r.Epoch == 0 {
					continue
				}
				for _, once := range []string{fmt.Sprint("number ", r.Epoch, r.Sequence), fmt.Sprintf("nonce %x", r.Fragment()[:8])} {
					assert.False(t, seen[once], once)
					seen[once] = true
				}
			}
			n++
			return n-1 != lost
		}
	}
	in, out := drop(false), drop(true)
	w.in.Store(&in)
	w.out.Store(&out)
}

// Abbreviated handshakes are completed whichever of their datagrams is lost. Number 2
// is the client's last flight: pion's client never repeats it, so that is for OpenSSL.
func TestResumptionWithLoss(t *testing.T) {
	checkLeaks(t)
	for _, lost := range []int{0, 1, 3, 4} {
		t.Run(fmt.Sprint("pion ", lost), func(t *testing.T) {
			r := newResumable(t)
			l, w := listenWire(t, r.server, r.cfg)
			conns := server[*Conn](t, l)
			r.visit(t, l, conns)
			r.stored(t, 1)
			w.losing(t, lost)
			c, err := tryClient(l, nil, r.client)
			require.NoError(t, err)
			defer c.kill()
			s := <-conns
			require.True(t, s.Resumed())
			// What is lost once the handshake is done is lost.
			eventually(t, func() bool {
				_, err := c.Write([]byte("x"))
				require.NoError(t, err)
				require.NoError(t, c.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
				got, err := c.Read(make([]byte, 10))
				return err == nil && got == 1
			}, "an echo")
			assert.EqualValues(t, 1, l.Stats().Resumed)
		})
	}
	openssl := needCommand(t, "openssl")
	for lost := range 3 {
		t.Run(fmt.Sprint("OpenSSL ", lost), func(t *testing.T) {
			config := pskConfig("0123456789abcdef")
			l, w := listenWire(t, config, Config{Resumption: newStore(t, resume.Config{})})
			conns := server[*Conn](t, l)
			file := t.TempDir() + "/session.pem"
			for n, more := range []string{"-sess_out", "-sess_in"} {
				if n == 1 {
					w.losing(t, lost)
				}
				client := startProcess(t, openssl, "s_client", "-dtls1_2", "-connect", l.Addr().String(),
					"-psk_identity", "device", "-psk", "30313233343536373839616263646566", more, file)
				s := <-conns
				require.Equal(t, n == 1, s.Resumed())
				client.line("is this heard?")
				client.expect("is this heard?")
				client.line("Q")
				client.ends()
			}
		})
	}
}

// A ClientHello with a known id skips pion's cookie, so it can come from anywhere: no
// more goes there than three times what came, and no session comes of it.
func TestResumptionOfTheSpoofed(t *testing.T) {
	checkLeaks(t)
	r := newResumable(t)
	r.server.FlightInterval = 5 * time.Millisecond // pion repeats its flight
	r.cfg.HandshakeTimeout = 300 * time.Millisecond
	l, w := listenWire(t, r.server, r.cfg)
	conns := server[*Conn](t, l)
	var mu sync.Mutex
	var resuming []byte
	in := func(b []byte) bool {
		mu.Lock()
		defer mu.Unlock()
		if rec, _, _ := record.Next(b); rec.Type == record.TypeHandshake && rec.Epoch == 0 {
			if hello, ok := record.ParseClientHello(rec); ok && len(hello.SessionID) > 0 {
				resuming = bytes.Clone(b)
			}
		}
		return true
	}
	w.in.Store(&in)
	r.visit(t, l, conns)
	r.stored(t, 1)
	require.True(t, r.visit(t, l, conns).Resumed())

	var sent atomic.Int64
	out := func(b []byte) bool { sent.Add(int64(len(b))); return true }
	w.out.Store(&out)
	mu.Lock()
	spoofed := bytes.Clone(resuming)
	mu.Unlock()
	spoofed[record.HeaderSize+12+2] ^= 1 // another random
	udp := stranger(t, l)
	send(t, udp, spoofed)
	eventually(t, func() bool { return l.Stats().TimedOut == 1 }, "timed out")
	assert.Positive(t, sent.Load())
	assert.LessOrEqual(t, sent.Load(), int64(amplification*len(spoofed)))
	t.Logf("%d bytes came, %d went out", len(spoofed), sent.Load())
	assert.EqualValues(t, 1, l.Stats().Resumed)
	assert.True(t, r.visit(t, l, conns).Resumed(), "the session is as it was")
}

// Somebody who has seen a session's id cannot have it removed: what fails without the
// keys removes nothing.
func TestStrangersRemoveNothing(t *testing.T) {
	checkLeaks(t)
	r := newResumable(t)
	l, conns, _ := r.begin(t)
	thief := &clientStore{session: dtls.Session{ID: r.kept.session.ID, Secret: make([]byte, 48)}}
	config := pskConfig("key")
	config.SessionStore = thief
	config.ConnectContextMaker = func() (context.Context, func()) {
		return context.WithTimeout(context.Background(), 200*time.Millisecond)
	}
	_, err := tryClient(l, nil, config)
	require.Error(t, err)
	assert.Zero(t, r.cfg.Resumption.Stats().Deletes)
	assert.True(t, r.visit(t, l, conns).Resumed())
}

// The key log of a resumed session names the client's random, by which others find it.
func TestKeyLogOfResumption(t *testing.T) {
	checkLeaks(t)
	r := newResumable(t)
	var mu sync.Mutex
	var lines []string
	r.server.KeyLogWriter = writerFunc(func(p []byte) {
		mu.Lock()
		defer mu.Unlock()
		lines = append(lines, string(p))
	})
	l, conns, _ := r.begin(t)
	s := r.visit(t, l, conns)
	require.True(t, s.Resumed())
	mu.Lock()
	defer mu.Unlock()
	random := s.records.ClientRandom()
	assert.Equal(t, fmt.Sprintf("CLIENT_RANDOM %x %x\n", random, s.secrets().MasterSecret), lines[len(lines)-1])
}

// A flood of ClientHellos with ids that nobody has drawn, from everywhere: lookups stay
// at their bound, and honest clients get in.
func TestFloodOfSessionIDs(t *testing.T) {
	checkLeaks(t)
	strangers := 100_000
	if raceEnabled || testing.Short() {
		strangers = 3_000
	}
	const handshakes, lookups, perSource = 64, 8, 4
	backend := newFakeBackend(t)
	var inFlight, most atomic.Int64
	slow := func(_ context.Context, value []byte, ok bool, err error) ([]byte, bool, error) {
		n := inFlight.Add(1)
		defer inFlight.Add(-1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		time.Sleep(time.Millisecond) // a backend at some distance
		return value, ok, err
	}
	backend.get.Store(&slow)
	store := newStore(t, resume.Config{Backend: backend, Lookups: lookups, LookupsPerSource: perSource})
	n := newNetwork()
	l, err := NewListener(n, pskConfig("key"), Config{Sessions: 100, Handshakes: handshakes, Resumption: store})
	require.NoError(t, err)
	serveWith(t, l, func(c *Conn, datagram []byte) { _, _ = c.Write(datagram) })
	spoofed := hello(3)
	at := record.HeaderSize + 12 + 2 + 32
	spoofed = append(spoofed[:at:at], append(append([]byte{32}, make([]byte, 32)...), spoofed[at+1:]...)...)
	spoofed[12] += 32
	spoofed[record.HeaderSize+3] += 32
	spoofed[record.HeaderSize+11] += 32
	rec, _, _ := record.Next(spoofed)
	parsed, ok := record.ParseClientHello(rec)
	require.True(t, ok)
	require.Len(t, parsed.SessionID, 32)
	var clients []*dtls.Conn
	for i := range strangers {
		b := bytes.Clone(spoofed)
		b[at+1], b[at+2], b[at+3] = byte(i>>16), byte(i>>8), byte(i)
		n.deliver(addrPort(10, i, 5684), b)
		if i%(strangers/20) == 0 {
			client := pskConfig("key")
			client.SessionStore = &clientStore{}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			c, err := dtls.ClientWithContext(ctx, n.dial(addrPort(198, 100+len(clients), 5000)), client)
			cancel()
			require.NoError(t, err)
			clients = append(clients, c)
		}
	}
	for _, c := range clients {
		echo(t, c, "and in the end")
		_ = c.Close()
	}
	stats := store.Stats()
	assert.LessOrEqual(t, most.Load(), int64(lookups))
	assert.Positive(t, stats.Misses)
	assert.EqualValues(t, len(clients), l.Stats().Completed)
	assert.LessOrEqual(t, backend.Backend.(*resume.Memory).Len(), len(clients))
	t.Logf("%d strangers: at most %d lookups at one time, %d in all, %d refused", strangers, most.Load(), stats.Misses, stats.Refused)
}

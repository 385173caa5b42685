// SPDX-License-Identifier: MIT

package interop

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/resume"
	v2 "github.com/pion/dtls/v2"
	v3 "github.com/pion/dtls/v3"
	v4 "github.com/pion/dtls/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// v3Store is the session store of a client of pion v3. It keeps one session, as
// dtlstest.ClientStore does for one of pion v2.
type v3Store struct {
	mu      sync.Mutex
	session v3.Session
}

func (s *v3Store) Get([]byte) (v3.Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.session, nil
}

func (s *v3Store) Set(_ []byte, session v3.Session) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.session = session
	return nil
}

func (s *v3Store) Del([]byte) error { return s.Set(nil, v3.Session{}) }

// v4Store is v3Store for a client of pion v4.
type v4Store struct {
	mu      sync.Mutex
	session v4.Session
}

func (s *v4Store) Get([]byte) (v4.Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.session, nil
}

func (s *v4Store) Set(_ []byte, session v4.Session) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.session = session
	return nil
}

func (s *v4Store) Del([]byte) error { return s.Set(nil, v4.Session{}) }

// Clients of all versions resume their sessions, with a key and with a certificate.
func TestResumption(t *testing.T) { withEachAdapter(t, testResumption) }

func testResumption(t *testing.T, on adapter) {
	for _, with := range []string{"pion v4", "pion v3", "pion v2"} {
		for _, by := range []string{"key", "certificates"} {
			t.Run(with+"/"+by, func(t *testing.T) {
				t.Parallel()
				cert := dtlstest.SelfSigned(t, dtlstest.ECDSA)
				config, c := pskServer(ccm8), pskClient(ccm8)
				if by == "certificates" {
					config = &v2.Config{Certificates: []tls.Certificate{cert.Certificate}, ClientAuth: v2.RequireAndVerifyClientCert, ClientCAs: cert.Pool}
					c = credentials{cert: &cert.Certificate, roots: cert.Pool}
				}
				store, err := resume.New(resume.Config{})
				require.NoError(t, err)
				s := serve(t, on, config, dtlsserver.Config{Resumption: store}, "")
				forV2, forV3, forV4 := &dtlstest.ClientStore{}, &v3Store{}, &v4Store{}
				dial := func(ctx context.Context, transport *dtlstest.Transport, c credentials) (net.Conn, exporter, uint16, error) {
					switch with {
					case "pion v2":
						return dialV2With(ctx, transport, c, forV2)
					case "pion v3":
						return dialV3With(ctx, transport, c, v3.WithSessionStore(forV3))
					default:
						return dialV4With(ctx, transport, c, v4.WithSessionStore(forV4))
					}
				}
				for n := range 3 {
					client := newClient(t, newTransport(t, s.Addr(), nil), c, dial)
					dtlstest.Echo(t, client, fmt.Sprint("visit ", n))
					session := s.next(t)
					assert.Equal(t, n > 0, session.Resumed())
					if n == 0 {
						require.NoError(t, session.SetSessionData([]byte("from the first visit")))
					}
					assert.Equal(t, "from the first visit", string(session.SessionData()))
					if by == "key" {
						assert.Equal(t, dtlstest.Identity, string(session.Identity().PSKIdentity))
					} else {
						assert.Equal(t, cert.Certificate.Certificate, session.Identity().Certificates)
					}
					want, err := client.state.ExportKeyingMaterial("EXPORTER-test", nil, 32)
					require.NoError(t, err)
					got, err := on.state(session.Conn).ExportKeyingMaterial("EXPORTER-test", nil, 32)
					require.NoError(t, err)
					assert.Equal(t, want, got)
					require.NoError(t, client.Close())
					require.Equal(t, io.EOF, dtlstest.Receive(t, session.readEnds))
				}
				assert.EqualValues(t, 2, s.Stats().Resumed)
			})
		}
	}
}

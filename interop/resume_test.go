// SPDX-License-Identifier: MIT

package interop

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/go-dsm/dsm/resume"
	v2 "github.com/pion/dtls/v2"
	v3 "github.com/pion/dtls/v3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// one keeps one session, as either client's store.
type one[S any] struct {
	mu      sync.Mutex
	session S
}

func (o *one[S]) Get([]byte) (S, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.session, nil
}

func (o *one[S]) Set(_ []byte, session S) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.session = session
	return nil
}

func (o *one[S]) Del([]byte) error {
	var none S
	return o.Set(nil, none)
}

// v2Store copies: pion v2 goes on to use the secret that it gives.
type v2Store struct{ one[v2.Session] }

func (s *v2Store) Set(_ []byte, session v2.Session) error {
	return s.one.Set(nil, v2.Session{ID: bytes.Clone(session.ID), Secret: bytes.Clone(session.Secret)})
}

// TestResumption: both clients resume their sessions, with a key and with a certificate.
func TestResumption(t *testing.T) {
	checkLeaks(t)
	cert, pool := selfSigned(t, ecdsaKey(t))
	for _, with := range []string{"pion v3", "pion v2"} {
		for _, by := range []string{"key", "certificates"} {
			t.Run(with+"/"+by, func(t *testing.T) {
				config, c := pskServer(ccm8), pskClient(ccm8)
				if by == "certificates" {
					config = &v2.Config{Certificates: []tls.Certificate{cert}, ClientAuth: v2.RequireAndVerifyClientCert, ClientCAs: pool}
					c = credentials{cert: &cert, roots: pool}
				}
				store, err := resume.New(resume.Config{})
				require.NoError(t, err)
				s := serveWith(t, config, "", store)
				forV2, forV3 := &v2Store{}, &one[v3.Session]{}
				dial := func(ctx context.Context, s *socket, c credentials) (net.Conn, exporter, uint16, error) {
					if with == "pion v2" {
						return dialV2With(ctx, s, c, forV2)
					}
					return dialV3With(ctx, s, c, v3.WithSessionStore(forV3))
				}
				for n := range 3 {
					client := newClient(t, newSocket(t, s.Addr(), nil), c, dial)
					client.echo(t, fmt.Sprint("visit ", n))
					session := next(t, s.sessions)
					assert.Equal(t, n > 0, session.Resumed())
					if n == 0 {
						require.NoError(t, session.SetSessionData([]byte("from the first visit")))
					}
					assert.Equal(t, "from the first visit", string(session.SessionData()))
					if by == "key" {
						assert.Equal(t, "device", string(session.Identity().PSK))
					} else {
						assert.Equal(t, cert.Certificate, session.Identity().Certificates)
					}
					ours := session.ConnectionState()
					theirs, err := client.state.ExportKeyingMaterial("EXPORTER-test", nil, 32)
					require.NoError(t, err)
					exported, err := ours.ExportKeyingMaterial("EXPORTER-test", nil, 32)
					require.NoError(t, err)
					assert.Equal(t, theirs, exported)
					require.NoError(t, client.Close())
					require.Equal(t, io.EOF, next(t, session.readEnds))
				}
				assert.EqualValues(t, 2, s.Stats().Resumed)
			})
		}
	}
}

// SPDX-License-Identifier: MIT

// Package interop tests the listeners of all adapters with clients that they do not share
// their code with, the latest of pion among them. It is a module of its own, so that they
// are not in the module graph of the root.
package interop

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"sync"
	"testing"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	v2 "github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { dtlstest.Main(m) }

// session is the server's side of a session.
type session struct {
	*dtlsserver.Conn
	readEnds chan error             // the error of its last Read
	ends     chan dtlsserver.Reason // what OnEnd was told
}

// server echoes what its sessions say.
type server struct {
	*dtlsserver.Listener
	on       adapter
	sessions chan *session
	greeting string // not empty: each session begins with it
}

// serve opens a listener on a free port of 127.0.0.1 and echoes until the test ends. cfg
// has no hooks. Flights are repeated soon, unless config has a FlightInterval.
func serve(t *testing.T, on adapter, config *v2.Config, cfg dtlsserver.Config, greeting string) *server {
	t.Helper()
	if config.FlightInterval == 0 {
		config.FlightInterval = dtlstest.FlightInterval
	}
	cfg.Sessions = cmp.Or(cfg.Sessions, 10)
	cfg.OnEstablished = func(c *dtlsserver.Conn) {
		c.SetValue(&session{c, make(chan error, 1), make(chan dtlsserver.Reason, 1)})
	}
	cfg.OnEnd = func(c *dtlsserver.Conn, why dtlsserver.Reason) { c.Value().(*session).ends <- why }
	listener, err := on.listen("127.0.0.1:0", config, cfg)
	require.NoError(t, err)
	s := &server{Listener: listener, on: on, sessions: make(chan *session, 100), greeting: greeting}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := s.AcceptConn(context.Background())
			if err != nil {
				assert.ErrorIs(t, err, net.ErrClosed)
				return
			}
			session := conn.Value().(*session)
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

// next returns the next session.
func (s *server) next(t *testing.T) *session {
	t.Helper()
	return dtlstest.Receive(t, s.sessions)
}

var key = []byte("secret secret 12")

// ccm8 is the suite of tests that need no certain one.
const ccm8 = v2.TLS_PSK_WITH_AES_128_CCM_8

// pskServer returns a server's configuration that knows one device.
func pskServer(suite v2.CipherSuiteID) *v2.Config {
	return &v2.Config{
		PSK: func(identity []byte) ([]byte, error) {
			if string(identity) != dtlstest.Identity {
				return nil, fmt.Errorf("unknown identity %q", identity)
			}
			return key, nil
		},
		PSKIdentityHint: []byte("server"),
		CipherSuites:    []v2.CipherSuiteID{suite},
	}
}

// pskClient returns the credentials of that device.
func pskClient(suite v2.CipherSuiteID) credentials {
	return credentials{identity: dtlstest.Identity, psk: key, suites: []uint16{uint16(suite)}}
}

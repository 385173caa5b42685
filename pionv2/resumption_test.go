// SPDX-License-Identifier: MIT

package pionv2

import (
	"crypto/tls"
	"testing"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/handshake"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/resume"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// resumingClient returns the configuration of a client that keeps its session.
func resumingClient() (*dtls.Config, *dtlstest.ClientStore) {
	config, kept := dtlstest.PSKConfig("key"), &dtlstest.ClientStore{}
	config.SessionStore = kept
	return config, kept
}

// visit has a client echo once and close its session, which is returned once it has ended.
func visit(t *testing.T, sessions <-chan *Conn, c *dtlstest.Client) *Conn {
	t.Helper()
	dtlstest.Echo(t, c, "visit")
	s := dtlstest.Receive(t, sessions)
	require.NoError(t, c.Close())
	dtlstest.Eventually(t, func() bool { return s.State() == dsm.StateNone }, "the client has closed the session")
	return s
}

// A session is resumed with its own suite (RFC 5246 section 7.4.1.2), whichever the client
// and the server prefer by now.
func TestResumptionKeepsSuite(t *testing.T) {
	t.Parallel()
	server := dtlstest.PSKConfig("key", dtls.TLS_PSK_WITH_AES_128_CCM, dtls.TLS_PSK_WITH_AES_128_GCM_SHA256)
	client, _ := resumingClient()
	l := listen(t, server, Config{Resumption: newStore(t)})
	sessions := dtlstest.ServeEcho[*Conn](t, l)
	visit(t, sessions, dtlstest.Dial(t, l.Addr(), nil, client))
	client.CipherSuites = server.CipherSuites
	s := visit(t, sessions, dtlstest.Dial(t, l.Addr(), nil, client))
	assert.True(t, s.Resumed())
	var state handshake.State
	s.Export(&state)
	assert.EqualValues(t, dtls.TLS_PSK_WITH_AES_128_GCM_SHA256, state.Secrets.Suite)
}

// A listener with keys and certificates resumes the sessions of both. One with keys alone
// does not resume those of clients without a key.
func TestResumptionWithKeysAndCertificates(t *testing.T) {
	t.Parallel()
	suites := []dtls.CipherSuiteID{dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, dtls.TLS_PSK_WITH_AES_128_GCM_SHA256}
	for _, with := range []string{"key", "certificate"} {
		t.Run(with, func(t *testing.T) {
			t.Parallel()
			both := dtlstest.PSKConfig("key", suites...)
			both.Certificates = []tls.Certificate{dtlstest.SelfSigned(t, dtlstest.ECDSA).Certificate}
			client, kept := resumingClient()
			if with == "certificate" {
				client = &dtls.Config{InsecureSkipVerify: true, SessionStore: kept}
			}
			cfg := Config{Resumption: newStore(t)}
			l := listen(t, both, cfg)
			sessions := dtlstest.ServeEcho[*Conn](t, l)
			visit(t, sessions, dtlstest.Dial(t, l.Addr(), nil, client))
			assert.True(t, visit(t, sessions, dtlstest.Dial(t, l.Addr(), nil, client)).Resumed())
			if with == "certificate" {
				keysOnly := listen(t, dtlstest.PSKConfig("key", suites...), cfg)
				dtlstest.ServeEcho[*Conn](t, keysOnly)
				_, err := dtlstest.TryDial(keysOnly.Addr(), nil, client)
				assert.Error(t, err)
				assert.EqualValues(t, 1, keysOnly.Stats().NotResumed)
				assert.Zero(t, keysOnly.Stats().Completed)
			}
		})
	}
}

// The configuration for an abbreviated handshake has the session's suite alone, and what
// pion needs for that suite alone: it refuses all else.
func TestResumingConfig(t *testing.T) {
	t.Parallel()
	config := dtlstest.PSKConfig("key", dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, dtls.TLS_PSK_WITH_AES_128_GCM_SHA256)
	config.Certificates = []tls.Certificate{dtlstest.SelfSigned(t, dtlstest.ECDSA).Certificate}
	id := make([]byte, 32)
	for _, suite := range config.CipherSuites {
		got := resumingConfig(*config, id, &resume.Session{Suite: uint16(suite), Secret: make([]byte, 48)})
		require.NotNil(t, got)
		assert.Equal(t, []dtls.CipherSuiteID{suite}, got.CipherSuites)
		assert.Equal(t, record.SuiteID(suite).PSK(), got.PSK != nil)
		assert.Equal(t, record.SuiteID(suite).PSK(), len(got.Certificates) == 0)
	}
	assert.Nil(t, resumingConfig(*config, id, &resume.Session{Suite: 0x1301}), "a suite that pion does not have")
	assert.Len(t, config.CipherSuites, 2, "the listener's configuration is unchanged")
}

// Pion finds the session that was looked up, and no other. What it sets or deletes has no
// effect.
func TestPionStore(t *testing.T) {
	t.Parallel()
	id, secret := make([]byte, 32), make([]byte, 48)
	store := pionStore{id, &resume.Session{Secret: secret}}
	find := func(store pionStore, id []byte) dtls.Session {
		found, err := store.Get(id)
		require.NoError(t, err)
		return found
	}
	require.NoError(t, store.Set(id, dtls.Session{}))
	require.NoError(t, store.Del(id))
	assert.Equal(t, dtls.Session{ID: id, Secret: secret}, find(store, id))
	assert.Empty(t, find(store, []byte("another")))
	assert.Empty(t, find(pionStore{}, id), "a full handshake")
	find(store, id).Secret[0] = 1
	assert.Zero(t, secret[0], "pion gets a copy")
}

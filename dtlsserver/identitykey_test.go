// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/lockorder"
	"github.com/pion/dtls/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDefaultIdentityKey(t *testing.T) {
	t.Parallel()
	cert := dtlstest.SelfSigned(t, dtlstest.ECDSA)
	leaf := cert.Certificate.Certificate[0]
	parsed, err := x509.ParseCertificate(leaf)
	require.NoError(t, err)
	sum := sha256.Sum256(parsed.RawSubjectPublicKeyInfo)
	spki := "spki:" + hex.EncodeToString(sum[:])
	for name, test := range map[string]struct {
		who  dtlsserver.Identity
		want string
	}{
		"nothing":                      {},
		"PSK":                          {dtlsserver.Identity{PSKIdentity: []byte("a/\x00b")}, "psk:a/\x00b"},
		"certificate":                  {dtlsserver.Identity{Certificates: [][]byte{leaf, {1}}}, spki},
		"both":                         {dtlsserver.Identity{PSKIdentity: []byte("a"), Certificates: [][]byte{leaf}}, "psk:a"},
		"a leaf that cannot be parsed": {dtlsserver.Identity{Certificates: [][]byte{{1}, leaf}}, ""},
	} {
		assert.Equal(t, test.want, dtlsserver.DefaultIdentityKey(test.who), name)
	}
	other := dtlstest.SelfSigned(t, dtlstest.ECDSA)
	assert.NotEqual(t, spki, dtlsserver.DefaultIdentityKey(dtlsserver.Identity{Certificates: other.Certificate.Certificate}))
}

// TestCertificateIsAnIdentity: the limit counts the sessions of a certificate's key.
func TestCertificateIsAnIdentity(t *testing.T) {
	t.Parallel()
	cert := dtlstest.SelfSigned(t, dtlstest.ECDSA)
	config := dtlstest.WithTimeout(&dtls.Config{
		Certificates: []tls.Certificate{cert.Certificate}, ClientAuth: dtls.RequireAnyClientCert, FlightInterval: dtlstest.FlightInterval,
	}, dtlstest.Patience)
	client := dtlstest.WithTimeout(&dtls.Config{
		Certificates: []tls.Certificate{cert.Certificate}, InsecureSkipVerify: true, FlightInterval: dtlstest.FlightInterval,
	}, dtlstest.Patience)
	inBubbleWith(t, config, dtlsserver.Config{SessionsPerIdentity: 1}, func(t *testing.T, l memory) {
		var conns []*dtlsserver.Conn
		for range 2 {
			l.network.DialClient(t, netip.AddrPort{}, l.addr(), client)
			c, err := l.AcceptConn(t.Context())
			require.NoError(t, err)
			conns = append(conns, c)
		}
		assert.Equal(t, []dtlsserver.Reason{dtlsserver.IdentityReplaced, 0}, endReasons(conns...))
		assert.Equal(t, dtlsserver.DefaultIdentityKey(conns[1].Identity()), conns[1].IdentityKey())
		assert.True(t, strings.HasPrefix(conns[1].IdentityKey(), "spki:"))
		assert.Equal(t, conns[1].IdentityKey(), conns[0].IdentityKey(), "also after the end")
	})
}

// TestIdentityKeyOfTheUser counts the sessions of a tenant. It is called with no lock held, and
// what it does to its argument has no effect.
func TestIdentityKeyOfTheUser(t *testing.T) {
	t.Parallel()
	var listener atomic.Pointer[dtlsserver.Listener]
	var calls atomic.Int64
	cfg := dtlsserver.Config{SessionsPerIdentity: 2, IdentityKey: func(who dtlsserver.Identity) string {
		lockorder.AssertNone("IdentityKey")
		if l := listener.Load(); l != nil {
			l.Stats() // takes the admission's lock
			for c := range l.Sessions() {
				c.Peer() // takes a peer's lock
			}
		}
		calls.Add(1)
		tenant, _, _ := strings.Cut(string(who.PSKIdentity), "/")
		clear(who.PSKIdentity)
		return tenant
	}}
	inBubble(t, cfg, func(t *testing.T, l memory) {
		listener.Store(l.Listener)
		conns := sessionsOf(t, l, "a/1", "a/2", "b/1", "a/1", "/1", "/2", "/3")
		assert.Equal(t, []dtlsserver.Reason{dtlsserver.IdentityReplaced, 0, 0, 0, 0, 0, 0}, endReasons(conns...))
		before := calls.Load()
		assert.Equal(t, "a", conns[1].IdentityKey())
		assert.Equal(t, before, calls.Load(), "known from the index")
		assert.Equal(t, "a/2", string(conns[1].Identity().PSKIdentity), "it got a copy")
		assert.Empty(t, conns[4].IdentityKey())
		ended, err := l.EndIdentity(t.Context(), "a", dtlsserver.Withdrawn)
		require.NoError(t, err)
		assert.Equal(t, 2, ended)
		ended, err = l.EndIdentity(t.Context(), "c", dtlsserver.Withdrawn)
		require.NoError(t, err)
		assert.Zero(t, ended)
	})
}

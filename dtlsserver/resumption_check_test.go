// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/handshake"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/resume"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fakeHandshaker is the configuration of an adapter that makes no handshakes.
type fakeHandshaker struct {
	handshake.Handshaker
	objects  error // to every session
	examined int   // sessions that CheckResumable was asked about
}

func (f *fakeHandshaker) CheckResumable(*resume.Session, record.ClientHello) error {
	f.examined++
	return f.objects
}

// keyOf returns a Config.PSK that knows one identity under one server name.
func keyOf(identity, serverName, key string) func(context.Context, PSKRequest) ([]byte, error) {
	return func(_ context.Context, r PSKRequest) ([]byte, error) {
		if string(r.Identity) != identity || r.ServerName != serverName {
			return nil, nil
		}
		return []byte(key), nil
	}
}

// What the listener compares by itself comes before the adapter's own checks.
func TestCheckResumable(t *testing.T) {
	t.Parallel()
	const ofPSK, ofCertificate = record.SuiteID(0xa8), record.SuiteID(0xc02b)
	secret := make([]byte, 48)
	policy := scopeOf("scope", "policy")
	objection := errors.New("revoked")
	for _, test := range []struct {
		name   string
		suite  record.SuiteID
		change func(l *Listener, s *resume.Session, hello *record.ClientHello)
		want   string // in the error; empty: the session can be resumed
	}{
		{"a session of a PSK", ofPSK, nil, ""},
		{"a session of a certificate", ofCertificate, nil, ""},
		{"another policy", ofPSK, func(l *Listener, _ *resume.Session, _ *record.ClientHello) {
			l.scope = scopeOf("scope", "another policy")
		}, "another policy"},
		{"another scope of the user's", ofCertificate, func(l *Listener, _ *resume.Session, _ *record.ClientHello) {
			l.scope = scopeOf("another scope", "policy")
		}, "another policy"},
		{"a suite that is not offered", ofPSK, func(_ *Listener, s *resume.Session, _ *record.ClientHello) {
			s.Suite = 0x1301
		}, "does not offer its cipher suite"},
		{"another kind of master secret", ofPSK, func(_ *Listener, _ *resume.Session, hello *record.ClientHello) {
			hello.ExtendedMasterSecret = false
		}, "another kind of master secret"},
		{"another server name", ofPSK, func(_ *Listener, s *resume.Session, _ *record.ClientHello) {
			s.ServerName = "another.example"
		}, "another server name"},
		{"an unknown identity", ofPSK, func(_ *Listener, s *resume.Session, _ *record.ClientHello) {
			s.PSKIdentity = []byte("another")
		}, "PSK is not known"},
		{"a listener without keys", ofPSK, func(l *Listener, _ *resume.Session, _ *record.ClientHello) {
			l.psk.callback = nil
		}, "PSK is not known"},
		{"another key", ofPSK, func(l *Listener, _ *resume.Session, _ *record.ClientHello) {
			l.psk.callback = keyOf("device", "example", "another")
		}, "another one now"},
		{"another secret under the same key", ofPSK, func(_ *Listener, s *resume.Session, _ *record.ClientHello) {
			s.Secret = append([]byte{1}, s.Secret[1:]...)
		}, "another one now"},
		{"a session of a PSK without its tag", ofPSK, func(_ *Listener, s *resume.Session, _ *record.ClientHello) {
			s.Scope = policy
		}, "another one now"},
		{"a session of a certificate with a tag", ofCertificate, func(_ *Listener, s *resume.Session, _ *record.ClientHello) {
			s.Scope = taggedScope(s.Scope, pskTag([]byte("key"), secret))
		}, "another one now"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			adapter := &fakeHandshaker{}
			l := &Listener{handshaker: adapter, scope: policy}
			l.psk.init(&Config{Handshakes: 1, PSK: keyOf("device", "example", "key")})
			peer := netip.MustParseAddrPort("192.0.2.7:5684")
			s := &resume.Session{Secret: secret, Suite: uint16(test.suite), Scope: policy, ExtendedMasterSecret: true, ServerName: "example"}
			if test.suite == ofPSK {
				s.PSKIdentity = []byte("device")
				s.Scope = taggedScope(s.Scope, pskTag([]byte("key"), secret))
			}
			r, _, _ := record.Next(dtlstest.ClientHello{Suites: []record.SuiteID{test.suite}}.Datagram())
			hello, ok := record.ParseClientHello(r)
			require.True(t, ok)
			hello.ExtendedMasterSecret, hello.ServerName = true, []byte("example")
			if test.change != nil {
				test.change(l, s, &hello)
			}
			if test.want != "" {
				assert.ErrorContains(t, l.checkResumable(t.Context(), peer, s, hello), test.want)
				assert.Zero(t, adapter.examined)
				return
			}
			assert.NoError(t, l.checkResumable(t.Context(), peer, s, hello))
			adapter.objects = objection
			assert.ErrorIs(t, l.checkResumable(t.Context(), peer, s, hello), objection)
			assert.Equal(t, 2, adapter.examined)
		})
	}
}

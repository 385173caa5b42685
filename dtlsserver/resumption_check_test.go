// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"errors"
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
	keys     map[string]string // by PSK identity
	objects  error             // to every session
	examined int               // sessions that CheckResumable was asked about
}

func (f *fakeHandshaker) PSK(identity []byte) ([]byte, error) {
	key, ok := f.keys[string(identity)]
	if !ok {
		return nil, errors.New("unknown")
	}
	return []byte(key), nil
}

func (f *fakeHandshaker) CheckResumable(*resume.Session, record.ClientHello) error {
	f.examined++
	return f.objects
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
		}, "not known"},
		{"another key", ofPSK, func(l *Listener, _ *resume.Session, _ *record.ClientHello) {
			l.handshaker.(*fakeHandshaker).keys = map[string]string{"device": "another"}
		}, "another one now"},
		{"another secret under the same key", ofPSK, func(_ *Listener, s *resume.Session, _ *record.ClientHello) {
			s.Secret = append([]byte{1}, s.Secret[1:]...)
		}, "another one now"},
		{"a session of a PSK without its tag", ofPSK, func(_ *Listener, s *resume.Session, _ *record.ClientHello) {
			s.Scope = policy
		}, "another one now"},
		{"a session of a certificate with a tag", ofCertificate, func(_ *Listener, s *resume.Session, _ *record.ClientHello) {
			s.Scope += pskTag([]byte("key"), secret)
		}, "another policy"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			adapter := &fakeHandshaker{keys: map[string]string{"device": "key"}}
			l := &Listener{handshaker: adapter, scope: policy}
			s := &resume.Session{Secret: secret, Suite: uint16(test.suite), Scope: policy, ExtendedMasterSecret: true, ServerName: "example"}
			if test.suite == ofPSK {
				s.PSKIdentity = []byte("device")
				s.Scope += pskTag([]byte("key"), secret)
			}
			r, _, _ := record.Next(dtlstest.ClientHello{Suites: []record.SuiteID{test.suite}}.Datagram())
			hello, ok := record.ParseClientHello(r)
			require.True(t, ok)
			hello.ExtendedMasterSecret, hello.ServerName = true, []byte("example")
			if test.change != nil {
				test.change(l, s, &hello)
			}
			if test.want != "" {
				assert.ErrorContains(t, l.checkResumable(s, hello), test.want)
				assert.Zero(t, adapter.examined)
				return
			}
			assert.NoError(t, l.checkResumable(s, hello))
			adapter.objects = objection
			assert.ErrorIs(t, l.checkResumable(s, hello), objection)
			assert.Equal(t, 2, adapter.examined)
		})
	}
}

// SPDX-License-Identifier: MIT

package pionv2

import (
	"bytes"
	"net"

	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/resume"
	"github.com/pion/dtls/v2"
)

// resumingConfig returns a configuration with which pion resumes the session that a
// ClientHello names by id, or nil if there is none.
func resumingConfig(config dtls.Config, id []byte, session *resume.Session) *dtls.Config {
	suite := record.SuiteID(session.Suite)
	// Pion does not look at which suite the session has, and refuses certificates
	// without a suite for them, and keys likewise.
	config.CipherSuites = []dtls.CipherSuiteID{dtls.CipherSuiteID(suite)}
	if suite.PSK() {
		config.Certificates, config.GetCertificate = nil, nil
	} else {
		config.PSK, config.PSKIdentityHint = nil, nil
	}
	config.SessionStore = pionStore{id, session}
	if _, err := dtls.NewListener(noListener{}, &config); err != nil {
		return nil
	}
	return &config
}

// pionStore is pion's dtls.SessionStore in one handshake. It makes pion draw a session
// ID, and returns the session that was looked up for the ClientHello. It stores nothing:
// pion would store a session before the client has proven anything.
type pionStore struct {
	id      []byte
	session *resume.Session // nil: the handshake is a full one
}

func (s pionStore) Get(id []byte) (dtls.Session, error) {
	if s.session == nil || !bytes.Equal(id, s.id) {
		return dtls.Session{}, nil // not found
	}
	return dtls.Session{ID: bytes.Clone(id), Secret: bytes.Clone(s.session.Secret)}, nil
}

func (pionStore) Set([]byte, dtls.Session) error { return nil }
func (pionStore) Del([]byte) error               { return nil }

// noListener is for pion to check a dtls.Config.
type noListener struct{ net.Listener }

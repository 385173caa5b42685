// SPDX-License-Identifier: MIT

package pionv2

import (
	"fmt"

	"github.com/go-dsm/dsm/internal/handshake"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/resume"
	"github.com/pion/dtls/v2"
)

// handshaker makes handshakes by pion/dtls v2 with one dtls.Config.
type handshaker struct {
	config dtls.Config // its PSK says only that there are pre-shared keys: see movePSK
	// resumption: sessions get an ID, so that they can be stored.
	resumption bool
}

var _ handshake.Handshaker = (*handshaker)(nil)

// New is part of handshake.Handshaker.
func (m *handshaker) New(p handshake.Parameters) handshake.Handshake {
	return newServerHandshake(&m.config, m.resumption, p)
}

// MaxDatagram is part of handshake.Handshaker.
func (m *handshaker) MaxDatagram() int { return m.config.MTU }

// StatelessCookie is part of handshake.Handshaker. Pion v2 knows only the cookie that it has
// drawn itself.
func (m *handshaker) StatelessCookie() bool { return false }

// ConnectionIDs is part of handshake.Handshaker. Pion v2 has none.
func (m *handshaker) ConnectionIDs() bool { return false }

// PolicyID is part of handshake.Handshaker.
func (m *handshaker) PolicyID() string { return m.policy().ID() }

func (m *handshaker) policy() handshake.Policy {
	c := &m.config
	p := handshake.Policy{
		ClientAuth: handshake.ClientAuth(c.ClientAuth), ClientCAs: c.ClientCAs, VerifyPeerCertificate: c.VerifyPeerCertificate,
		ExtendedMasterSecret: int(c.ExtendedMasterSecret), PSK: c.PSK != nil, Certificates: hasCertificates(c),
	}
	for _, id := range c.CipherSuites {
		p.Suites = append(p.Suites, id.String())
	}
	return p
}

// hasCertificates reports whether pion does handshakes with certificates.
func hasCertificates(config *dtls.Config) bool {
	return config.PSK == nil || len(config.Certificates) > 0 || config.GetCertificate != nil
}

// CheckResumable is part of handshake.Handshaker.
func (m *handshaker) CheckResumable(s *resume.Session, hello record.ClientHello) error {
	config, suite := &m.config, record.SuiteID(s.Suite)
	if err := m.policy().Check(s); err != nil {
		return err
	}
	if config.VerifyConnection != nil {
		// As in a full handshake the epoch is still 0, so there is no keying material,
		// and ALPN has chosen nothing.
		state, err := newState(handshake.State{
			Secrets:  record.Config{Suite: suite, MasterSecret: s.Secret, ClientRandom: hello.Random},
			Identity: handshake.IdentityOf(s, ""),
		})
		if err != nil {
			return err
		}
		if err := config.VerifyConnection(state); err != nil {
			return fmt.Errorf("VerifyConnection: %w", err)
		}
	}
	return nil
}

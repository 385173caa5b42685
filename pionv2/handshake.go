// SPDX-License-Identifier: MIT

package pionv2

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/go-dsm/dsm/internal/handshake"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/resume"
	"github.com/pion/dtls/v2"
	"github.com/pion/dtls/v2/pkg/crypto/elliptic"
)

// flightInterval is pion's. The gate repeats flights, and nothing is lost between the gate
// and pion, so pion has nothing to do when its timer runs out.
const flightInterval = time.Hour

// serverHandshake is one handshake that pion runs behind the gate.
type serverHandshake struct {
	*handshake.Gate

	// Set in newServerHandshake, never changed.
	config     *dtls.Config // the listener's
	resumption bool         // the session gets an ID, so that it can be stored
	transport  *transport

	pion *dtls.Conn // set by Run; nil: the handshake has failed
}

var _ handshake.Handshake = (*serverHandshake)(nil)

func newServerHandshake(config *dtls.Config, resumption bool, p handshake.Parameters) *serverHandshake {
	gate := handshake.NewGate(p, handshake.Options{ReplayWindow: config.ReplayProtectionWindow, Interval: config.FlightInterval})
	return &serverHandshake{Gate: gate, config: config, resumption: resumption, transport: newTransport(gate)}
}

// Run is part of handshake.Handshake. Its goroutine waits in ServerWithContext, so this
// function has little on its stack.
func (h *serverHandshake) Run(ctx context.Context, session *resume.Session) (*handshake.Result, error) {
	config, resuming, err := h.pionConfig(ctx, session)
	if err != nil {
		return nil, err
	}
	if h.pion, err = dtls.ServerWithContext(ctx, h.transport, config); err != nil {
		return nil, h.Refuse(ctx, err)
	}
	return h.result(resuming)
}

// result returns what the handshake leaves. The gate is muted first, because the session's
// sequence numbers begin after everything that was sent before.
//
//go:noinline
func (h *serverHandshake) result(resuming *resume.Session) (*handshake.Result, error) {
	result, err := h.Result()
	if err != nil {
		return nil, err
	}
	if result.Resumed {
		result.Identity = handshake.IdentityOf(resuming, result.ServerHello.Protocol) // pion has forgotten it
		return result, nil
	}
	if result.ClientCertificates {
		result.Identity.Certificates = h.pion.ConnectionState().PeerCertificates // a copy of all of pion's state
		if h.config.ClientAuth >= dtls.VerifyClientCertIfGiven {
			result.Identity.Verified = time.Now()
		}
	}
	return result, nil
}

// pionConfig returns what pion gets for the handshake: the listener's configuration, and
// the session to resume, if there is one and pion can resume it.
func (h *serverHandshake) pionConfig(ctx context.Context, session *resume.Session) (*dtls.Config, *resume.Session, error) {
	hello, err := h.Hello(ctx)
	if err != nil {
		return nil, nil, err
	}
	config := *h.config
	config.FlightInterval = flightInterval
	config.KeyLogWriter = handshake.KeyLog{User: config.KeyLogWriter, MasterSecret: h.MasterSecret}
	if config.PSK != nil {
		config.PSK = func(identity []byte) ([]byte, error) { return h.PSK(ctx, identity) }
	}
	if h.resumption {
		config.SessionStore = pionStore{}
		if session != nil {
			if resuming := resumingConfig(config, bytes.Clone(hello.SessionID), session); resuming != nil {
				resuming.KeyLogWriter = handshake.KeyLog{User: h.config.KeyLogWriter, ClientRandom: &hello.Random}
				h.Resume(session.Secret)
				return resuming, session, nil
			}
		}
	}
	if !usesKeyPair(&config, hello) {
		h.NameGroup(uint16(elliptic.P256)) // on amd64 a third of the time of X25519, which is pion's default
	}
	return &config, nil, nil
}

// usesKeyPair reports whether pion may choose a cipher suite of a ClientHello for which it needs
// an ephemeral key pair.
func usesKeyPair(config *dtls.Config, hello record.ClientHello) bool {
	if config.CipherSuites == nil { // pion's default: all of them use one
		return true
	}
	return slices.ContainsFunc(config.CipherSuites, func(id dtls.CipherSuiteID) bool {
		suite := record.SuiteID(id)
		return hello.Offers(suite) && (suite.ECDHE() || !suite.Supported())
	})
}

// Close is part of handshake.Handshake. Pion's Close waits for its goroutines.
func (h *serverHandshake) Close() {
	if h.pion != nil {
		_ = h.pion.Close()
	}
	_ = h.transport.Close()
}

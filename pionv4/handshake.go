// SPDX-License-Identifier: MIT

package pionv4

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/go-dsm/dsm/internal/handshake"
	"github.com/go-dsm/dsm/resume"
	"github.com/pion/dtls/v4"
)

// flightInterval is pion's. The gate repeats flights, and nothing is lost between the gate
// and pion, so pion has nothing to do when its timer runs out.
const flightInterval = time.Hour

// receiveBuffer is the size of pion's buffer, in bytes, which each handshake keeps: most messages
// of clients fit into it, and pion gets longer ones in fragments.
const receiveBuffer = 2 << 10

// serverHandshake is one handshake that pion runs behind the gate, without a socket: what the
// gate has for pion is handed over by calls, and what pion has for the client are events.
type serverHandshake struct {
	*handshake.Gate

	// Set in handshaker.New, never changed.
	maker        *handshaker
	cookie       []byte // that the client has returned; nil: pion draws one
	connectionID []byte // for the client; nil: none

	pion *dtls.DetachedConn // set by start; nil: pion did not begin
}

var _ handshake.Handshake = (*serverHandshake)(nil)

// Run is part of handshake.Handshake. Its goroutine waits here, so this function has little on
// its stack.
func (h *serverHandshake) Run(ctx context.Context, session *resume.Session) (*handshake.Result, error) {
	resuming, err := h.start(ctx, session)
	for done := false; err == nil && !done; done, err = h.step() {
		select {
		case <-h.Wake():
		case <-h.Failed():
			err = errEnded
		case <-ctx.Done():
			err = ctx.Err()
		}
		if err != nil {
			break
		}
	}
	if err != nil {
		return nil, h.Refuse(ctx, err)
	}
	return h.result(resuming)
}

// errEnded is the error of a handshake that the gate has ended. Gate.Refuse replaces it by the cause.
var errEnded = errors.New("the handshake has ended")

// start begins the handshake: it is called when the ClientHello is there. It returns the session
// that pion resumes, or nil.
//
//go:noinline
func (h *serverHandshake) start(ctx context.Context, session *resume.Session) (*resume.Session, error) {
	hello, err := h.Hello(ctx)
	if err != nil {
		return nil, err
	}
	m := h.maker
	options, log := m.base, handshake.KeyLog{User: m.config.KeyLogWriter}
	selectPSK := func(identities [][]byte) (*dtls.PSK, error) {
		key, err := h.PSK(ctx, identities[0])
		return &dtls.PSK{Identity: identities[0], Key: key}, err
	}
	switch {
	case session != nil && m.resumption:
		log.ClientRandom = &hello.Random
		store, known := storeOf(bytes.Clone(hello.SessionID), session)
		options = append(options, dtls.WithSessionStore(store))
		options = append(options, m.credentialsOf(session, known)...)
		h.Resume(session.Secret)
	default:
		session, log.MasterSecret = nil, h.MasterSecret
		if m.resumption {
			options = append(options, dtls.WithSessionStore(pionStore{}))
		}
		options = append(options, m.credentials(selectPSK)...)
	}
	options = append(options, dtls.WithKeyLogWriter(log))
	if h.connectionID != nil {
		policy := dtls.CIDPathMigrationReject
		if m.verifyAddress {
			policy = dtls.CIDPathMigrationRRC
		}
		options = append(options, dtls.WithConnectionID(func() []byte { return h.connectionID }, policy))
	}
	if h.pion, err = dtls.DetachedServer(anyAddr, options...); err != nil {
		return nil, err
	}
	if err := h.pion.Start(ctx); err != nil {
		return nil, err
	}
	if h.cookie != nil {
		*cookieOf(h.pion) = h.cookie
	}
	return session, nil
}

// step gives pion what the gate has for it, and the gate what pion has for the client. It reports
// whether pion is done.
//
//go:noinline
func (h *serverHandshake) step() (done bool, err error) {
	for datagram := h.Next(); datagram != nil && err == nil; datagram = h.Next() {
		err = h.pion.HandleDatagram(datagram, nil)
		for e := h.pion.NextEvent(); e.Kind != dtls.DetachedNoEvent; e = h.pion.NextEvent() {
			switch e.Kind {
			case dtls.DetachedWriteDatagrams:
				for _, d := range e.Datagrams {
					h.FromPion(d)
				}
			case dtls.DetachedHandshakeDone:
				done = true
			case dtls.DetachedClosed:
				err = e.Err
			}
		}
	}
	return done, err
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
		result.Identity = handshake.IdentityOf(resuming, result.ServerHello.Protocol)
		return result, nil
	}
	if result.ClientCertificates {
		state, ok := h.pion.ConnectionState()
		if !ok {
			return nil, errors.New("pionv4: pion is done with a handshake and has no state")
		}
		result.Identity.Certificates = state.PeerCertificates
		if h.maker.config.ClientAuth >= dtls.VerifyClientCertIfGiven {
			result.Identity.Verified = time.Now()
		}
	}
	return result, nil
}

// Close is part of handshake.Handshake.
func (h *serverHandshake) Close() {
	if h.pion != nil {
		_ = h.pion.Close()
	}
}

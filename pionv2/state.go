// SPDX-License-Identifier: MIT

package pionv2

import (
	"bytes"
	"encoding/gob"
	"net"

	"github.com/go-dsm/dsm/internal/handshake"
	"github.com/pion/dtls/v2"
)

// ConnectionState returns pion's view of a session: who the peer is, and what
// ExportKeyingMaterial needs (RFC 5705).
func ConnectionState(c *Conn) dtls.State {
	var exported handshake.State
	c.Export(&exported)
	state, err := newState(exported)
	if err != nil {
		panic("pionv2: pion does not accept its own state: " + err.Error())
	}
	if exported.SessionID != "" {
		state.SessionID = []byte(exported.SessionID)
	}
	return *state
}

// StateConn is a Conn with the method by which a *dtls.Conn of pion v2 tells its state.
// It is for code that wants an interface with that method:
//
//	conn.(interface{ ConnectionState() dtls.State })
type StateConn struct{ *Conn }

// ConnectionState returns pion's view of the session.
func (c StateConn) ConnectionState() dtls.State { return ConnectionState(c.Conn) }

// WithState returns a net.Listener over l whose Accept returns a StateConn. All else is
// l's.
func WithState(l *Listener) net.Listener { return stateListener{l} }

type stateListener struct{ *Listener }

func (l stateListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return StateConn{conn.(*Conn)}, nil
}

// gobState is what pion's State.UnmarshalBinary reads: a gob of an unexported struct with
// these fields among others. v2.2.12 is the last release of pion v2, and a test compares
// what comes of it.
type gobState struct {
	LocalEpoch, RemoteEpoch   uint16
	LocalRandom, RemoteRandom [32]byte
	CipherSuiteID             uint16
	MasterSecret              []byte
	SequenceNumber            uint64
	PeerCertificates          [][]byte
	IdentityHint              []byte
}

// newState makes pion's State.
func newState(s handshake.State) (*dtls.State, error) {
	var raw bytes.Buffer
	if err := gob.NewEncoder(&raw).Encode(gobState{
		LocalEpoch: s.Secrets.Epoch, RemoteEpoch: s.Secrets.Epoch,
		LocalRandom: s.Secrets.ServerRandom, RemoteRandom: s.Secrets.ClientRandom,
		CipherSuiteID: uint16(s.Secrets.Suite), MasterSecret: s.Secrets.MasterSecret, SequenceNumber: s.Secrets.NextSequence,
		PeerCertificates: s.Identity.Certificates, IdentityHint: s.Identity.PSKIdentity,
	}); err != nil {
		return nil, err
	}
	state := &dtls.State{}
	if err := state.UnmarshalBinary(raw.Bytes()); err != nil {
		return nil, err
	}
	state.NegotiatedProtocol = s.Identity.Protocol
	return state, nil
}

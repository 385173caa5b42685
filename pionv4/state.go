// SPDX-License-Identifier: MIT

package pionv4

import (
	"bytes"
	"encoding/gob"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/handshake"
	"github.com/pion/dtls/v4"
	"github.com/pion/dtls/v4/pkg/protocol"
)

// ConnectionState returns pion's view of a session: who the peer is, and what
// ExportKeyingMaterial needs (RFC 5705).
func ConnectionState(c *dtlsserver.Conn) dtls.State {
	var exported handshake.State
	c.Export(&exported)
	state, err := newState(exported)
	if err != nil {
		panic("pionv4: pion does not accept its own state: " + err.Error())
	}
	if exported.SessionID != "" {
		state.SessionID = []byte(exported.SessionID)
	}
	return *state
}

// gobState is what pion's State.UnmarshalBinary reads: a gob of an unexported struct with
// these fields among others. TestConnectionStateIsPionsOwn compares the result with pion's.
type gobState struct {
	HandshakeComplete         bool
	Version                   protocol.Version
	LocalEpoch, RemoteEpoch   uint16
	LocalRandom, RemoteRandom [32]byte
	CipherSuiteID             uint16
	MasterSecret              []byte
	SequenceNumber            uint64
	PeerCertificates          [][]byte
	IdentityHint              []byte
	ServerName                string
}

// newState makes pion's State.
func newState(s handshake.State) (*dtls.State, error) {
	var raw bytes.Buffer
	if err := gob.NewEncoder(&raw).Encode(gobState{
		HandshakeComplete: true, Version: protocol.Version1_2,
		LocalEpoch: s.Secrets.Epoch, RemoteEpoch: s.Secrets.Epoch,
		LocalRandom: s.Secrets.ServerRandom, RemoteRandom: s.Secrets.ClientRandom,
		CipherSuiteID: uint16(s.Secrets.Suite), MasterSecret: s.Secrets.MasterSecret, SequenceNumber: s.Secrets.NextSequence,
		PeerCertificates: s.Identity.Certificates, IdentityHint: s.Identity.PSKIdentity, ServerName: s.Identity.ServerName,
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

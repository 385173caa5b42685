// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/go-dsm/dsm/internal/handshake"
	"github.com/go-dsm/dsm/internal/logtext"
)

// PSKRequest is what Config.PSK is called with. The client chooses Identity and
// ServerName, and nothing in a PSKRequest is authentic yet.
type PSKRequest struct {
	// Identity is the client's psk_identity (RFC 4279 section 2), 0 to 65535 bytes, with
	// any values. It is a copy, which the callback may keep.
	Identity []byte
	// ServerName is the DNS name that the client's first ClientHello asks for by SNI (RFC
	// 6066 section 3), as it was sent: the case of its letters has no meaning. It is empty
	// if there is none.
	ServerName string
	// Peer is the client's address. When a session is about to be resumed it may be forged;
	// otherwise the client has returned its cookie from there.
	Peer netip.AddrPort
}

// errNoPSK: the listener has no pre-shared keys.
var errNoPSK = errors.New("dsm: no pre-shared keys are configured")

// pskCalls makes the calls of Config.PSK.
type pskCalls struct{ callbacks[PSKRequest, []byte] }

func (c *pskCalls) init(config *Config) {
	psk := config.PSK
	if psk == nil {
		return
	}
	c.callbacks.init("Config.PSK", config.Handshakes, func(ctx context.Context, r PSKRequest) ([]byte, error) {
		key, err := psk(ctx, r)
		return bytes.Clone(key), err
	})
}

// noKeyError is the error for an identity that Config.PSK gives no key for.
type noKeyError struct {
	identity []byte
	err      error // the callback's, or ErrUnknownPSKIdentity
}

func (e *noKeyError) Error() string {
	return fmt.Sprintf("dsm: no key for PSK identity %s: %v", logtext.Name(e.identity), e.err)
}

func (e *noKeyError) Unwrap() []error { return []error{e.err, handshake.ErrNoKey} }

// key returns a copy of the key that Config.PSK gives. The error is a *noKeyError if it
// gives none. It waits no longer than ctx. No lock may be held.
func (c *pskCalls) key(ctx context.Context, r PSKRequest) ([]byte, error) {
	if c.callback == nil {
		return nil, errNoPSK
	}
	identity := r.Identity
	r.Identity = bytes.Clone(identity)
	key, err := c.call(ctx, r)
	switch {
	case isNoAnswer(err):
		return nil, err
	case err == errGoexit || err == nil && len(key) == 0:
		err = ErrUnknownPSKIdentity
	}
	if err != nil {
		return nil, &noKeyError{bytes.Clone(identity), err}
	}
	return key, nil
}

// pskOf returns the key of an identity for the full handshake of a peer. ctx is that of
// the handshake.
func (l *Listener) pskOf(ctx context.Context, peer netip.AddrPort, serverName string, identity []byte) ([]byte, error) {
	return l.psk.key(ctx, PSKRequest{Identity: identity, ServerName: serverName, Peer: peer})
}

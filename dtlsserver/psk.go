// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/go-dsm/dsm/internal/handshake"
	"github.com/go-dsm/dsm/internal/lockorder"
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

// pskCalls makes the calls of Config.PSK. Nothing can stop a callback that ignores its
// context. So each call has a goroutine of its own, for which neither a handshake nor Close
// waits, and the number of calls that have not returned is bounded.
type pskCalls struct {
	// Set in init, never changed.
	callback func(context.Context, PSKRequest) ([]byte, error) // nil: there are no pre-shared keys
	inFlight chan struct{}                                     // has an element for each call that has not returned
}

func (c *pskCalls) init(config *Config) {
	c.callback = config.PSK
	c.inFlight = make(chan struct{}, config.Handshakes)
}

// pskAnswer is what Config.PSK has returned.
type pskAnswer struct {
	key []byte
	err error
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
	lockorder.AssertNone("Config.PSK")
	if c.callback == nil {
		return nil, errNoPSK
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("dsm: Config.PSK was not called: %w", err)
	}
	select {
	case c.inFlight <- struct{}{}:
	default:
		// A wait for one of them would end with the handshake's time.
		return nil, fmt.Errorf("dsm: Config.PSK was not called: %d calls of it have not returned", cap(c.inFlight))
	}
	identity := r.Identity
	r.Identity = bytes.Clone(identity)
	answered := make(chan pskAnswer, 1) // so that a late answer holds up nobody
	go c.call(ctx, r, answered)
	select {
	case answer := <-answered:
		switch {
		case answer.err != nil:
			return nil, &noKeyError{bytes.Clone(identity), answer.err}
		case len(answer.key) == 0:
			return nil, &noKeyError{bytes.Clone(identity), ErrUnknownPSKIdentity}
		}
		return answer.key, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("dsm: Config.PSK has not returned: %w", ctx.Err())
	}
}

// call calls Config.PSK. After runtime.Goexit in it the answer has no key.
func (c *pskCalls) call(ctx context.Context, r PSKRequest, answered chan<- pskAnswer) {
	var answer pskAnswer
	defer func() {
		<-c.inFlight
		answered <- answer
	}()
	key, err := c.callback(ctx, r)
	answer = pskAnswer{bytes.Clone(key), err}
}

// pskOf returns the key of an identity for the full handshake of a peer. ctx is that of
// the handshake.
func (l *Listener) pskOf(ctx context.Context, peer netip.AddrPort, serverName string, identity []byte) ([]byte, error) {
	key, err := l.psk.key(ctx, PSKRequest{Identity: identity, ServerName: serverName, Peer: peer})
	if errors.Is(err, handshake.ErrNoKey) && ctx.Err() == nil {
		l.counters.unknownPSKIdentity.Add(1)
	}
	return key, err
}

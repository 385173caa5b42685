// SPDX-License-Identifier: MIT

package dtlstest

import (
	"context"
	"errors"
	"net/netip"

	"github.com/pion/dtls/v2"
)

// Persistent is an honest client of pion v2 on a Network. It repeats its flights as Timer
// says. It begins a new handshake from the same address at once when the server ends the
// handshake by a fatal alert in plaintext, or when Timer.Repeats is reached.
type Persistent struct {
	Network *Network
	From    netip.AddrPort // zero: a free one
	Server  netip.AddrPort
	// Config is the configuration of pion. Its FlightInterval, ConnectContextMaker and
	// KeyLogWriter are not used. If it has a SessionStore the session in it is resumed,
	// until a fatal alert comes, which makes it not resumable (RFC 5246 section 7.2.2).
	Config *dtls.Config
	Timer  Timer
	// Attempts bounds the handshakes. Zero means 100.
	Attempts int
}

// Attempts is what a Persistent client has done to get in.
type Attempts struct {
	Handshakes  int // that were begun
	Refused     int // of these, those that a fatal alert has ended
	GivenUp     int // of these, those that the client has given up
	Repetitions int // of flights
}

const defaultAttempts = 100

var errAttempts = errors.New("dtlstest: the client has made all its attempts")

// Connect makes handshakes until one is done, or ctx ends, or Attempts is reached. The
// caller kills the client.
func (p Persistent) Connect(ctx context.Context) (*Client, Attempts, error) {
	var done Attempts
	if !p.From.IsValid() {
		p.From = p.Network.freeAddr()
	}
	if p.Attempts == 0 {
		p.Attempts = defaultAttempts
	}
	for done.Handshakes < p.Attempts {
		done.Handshakes++
		backoff := NewBackoff(p.Network.Dial(p.From, p.Server), p.Timer)
		client, err := Handshake(backoff, p.config(ctx, backoff))
		done.Repetitions += backoff.Repetitions()
		if err == nil {
			backoff.Established()
			return client, done, nil
		}
		switch {
		case ctx.Err() != nil:
			return nil, done, ctx.Err()
		case backoff.Refused():
			done.Refused++
			p.forget()
		case backoff.GaveUp():
			done.GivenUp++
		default:
			return nil, done, err
		}
	}
	return nil, done, errAttempts
}

// config returns the configuration of one handshake.
func (p Persistent) config(ctx context.Context, backoff *Backoff) *dtls.Config {
	config := *p.Config
	config.FlightInterval = IdleFlightInterval
	config.ConnectContextMaker = func() (context.Context, func()) { return context.WithCancel(ctx) }
	config.KeyLogWriter = backoff.KeyLog()
	if config.SessionStore != nil {
		if s, err := config.SessionStore.Get(p.sessionKey()); err == nil && len(s.ID) > 0 {
			backoff.SetMasterSecret(s.Secret)
		}
	}
	return &config
}

// sessionKey returns pion's key of a client's session.
func (p Persistent) sessionKey() []byte {
	return []byte(p.Server.String() + "_" + p.Config.ServerName)
}

func (p Persistent) forget() {
	if p.Config.SessionStore != nil {
		_ = p.Config.SessionStore.Del(p.sessionKey())
	}
}

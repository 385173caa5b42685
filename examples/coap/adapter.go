// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"fmt"
	"net"

	"github.com/go-dsm/dsm/pionv2"
	coapNet "github.com/plgd-dev/go-coap/v3/net"
)

// adapter is a pionv2.Listener as go-coap's server.Serve wants it.
type adapter struct {
	*pionv2.Listener
	accepted uint64 // by the one goroutine that accepts
}

// AcceptWithContext ends when the listener is closed, which is what go-coap does to
// stop; ctx is for when it stopped before it began.
func (a *adapter) AcceptWithContext(ctx context.Context) (net.Conn, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%w: %w", coapNet.ErrListenerIsClosed, ctx.Err())
	}
	conn, err := a.Accept()
	if err != nil {
		// Accept's errors are final. After any other one go-coap would try again.
		return nil, fmt.Errorf("%w: %w", coapNet.ErrListenerIsClosed, err)
	}
	a.accepted++
	return &numberedConn{conn, numberedAddr{conn.RemoteAddr(), a.accepted}}, nil
}

// numberedConn has a remote address that no other one has. Go-coap keeps its conns by
// their address as text; a session that was replaced by its peer's next one and ends a
// moment later would take that one's entry with it.
type numberedConn struct {
	net.Conn
	remote net.Addr
}

func (c *numberedConn) RemoteAddr() net.Addr { return c.remote }

type numberedAddr struct {
	net.Addr
	number uint64
}

func (a numberedAddr) String() string { return fmt.Sprintf("%v session %d", a.Addr, a.number) }

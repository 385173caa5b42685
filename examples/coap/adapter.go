// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"fmt"
	"net"

	"github.com/go-dsm/dsm/pionv2"
	coapNet "github.com/plgd-dev/go-coap/v3/net"
)

// adapter is the listener that go-coap's server.Serve takes, over a pionv2.Listener.
type adapter struct {
	*pionv2.Listener
	accepted uint64 // sessions; only the goroutine that accepts uses it
}

// AcceptWithContext waits for the next session, until the listener is closed or ctx has
// ended. Go-coap closes the listener to stop.
func (a *adapter) AcceptWithContext(ctx context.Context) (net.Conn, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%w: %w", coapNet.ErrListenerIsClosed, ctx.Err())
	}
	conn, err := a.AcceptConn(ctx)
	if err != nil {
		// After any other error than ErrListenerIsClosed go-coap would try again.
		return nil, fmt.Errorf("%w: %w", coapNet.ErrListenerIsClosed, err)
	}
	a.accepted++
	return &numberedConn{pionv2.StateConn{Conn: conn}, numberedAddr{conn.RemoteAddr(), a.accepted}}, nil
}

// numberedConn has a remote address that no other conn has. Go-coap keeps its conns by
// the text of their address: when a session is replaced by the peer's next one and ends a
// moment later, it would remove the entry of the next one.
//
// Like pion's conns it has the method ConnectionState, for handlers that ask a conn who
// its peer is.
type numberedConn struct {
	pionv2.StateConn
	remote net.Addr
}

func (c *numberedConn) RemoteAddr() net.Addr { return c.remote }

type numberedAddr struct {
	net.Addr
	number uint64
}

func (a numberedAddr) String() string { return fmt.Sprintf("%v session %d", a.Addr, a.number) }

// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"context"
	"net"
)

// Accept waits for the next established session. The net.Conn is a *Conn. An error is
// final: it wraps net.ErrClosed after Close, or ErrServing after Serve was called.
func (l *Listener) Accept() (net.Conn, error) {
	c, err := l.AcceptConn(context.Background())
	if err != nil {
		return nil, err
	}
	return c, nil
}

// AcceptConn waits for the next established session, as Accept does, or until ctx has
// ended; then the error wraps that of ctx. A failed handshake is no error.
func (l *Listener) AcceptConn(ctx context.Context) (*Conn, error) {
	l.life.mu.Lock()
	serving := l.serving.Load()
	l.life.accepting = l.life.accepting || !serving
	l.life.mu.Unlock()
	if serving {
		return nil, l.opError("accept", ErrServing)
	}
	for {
		select {
		case <-l.life.done:
			return nil, l.closedError("accept")
		default:
		}
		select {
		case c := <-l.accept:
			if c.worthAccepting() {
				return c, nil
			}
		case <-ctx.Done():
			return nil, l.opError("accept", ctx.Err())
		case <-l.life.done:
			return nil, l.closedError("accept")
		}
	}
}

// worthAccepting reports whether a session is established, or has left something to
// read.
func (c *Conn) worthAccepting() bool {
	c.peer.mu.Lock()
	defer c.peer.mu.Unlock()
	return c.ended == 0 || c.inbox != nil && len(c.inbox.datagrams) > 0
}

// deliverRestored gives the restored sessions to Accept, until Serve is called. There can be
// more of them than Accept's queue holds, so Accept takes them in its time.
func (l *Listener) deliverRestored(conns []*Conn) {
	for _, c := range conns {
		select {
		case l.accept <- c:
		case <-l.served:
			return // Serve knows them
		case <-l.life.done:
			return
		}
	}
}

// storeRestored gives the restored sessions to Config.Resumption, which may not have them any
// more if it keeps them in memory.
func (l *Listener) storeRestored(conns []*Conn) {
	for _, c := range conns {
		if l.life.isClosed() {
			return
		}
		c.storeAgain()
	}
}

// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"context"
	"net"
)

// Serve calls handler with every datagram that is received, and returns when ctx has
// ended or the listener was closed. It does not close the listener.
//
// Sessions need no goroutine. At most Config.Workers goroutines run the handler, and
// for one session it gets one datagram at a time, in their order. A slow handler holds up
// its own session. While all workers are in slow handlers, what is received waits in the
// sessions' queues, and is dropped and counted when these are full.
//
// datagram is valid until handler returns. handler may call every method of the Conn
// except Read. What was received before the end of a session is handled after it, and
// after Config.OnEnd, unless the session was ended by Conn.Close.
//
// The error is that of ctx, wraps net.ErrClosed after Close, or is ErrServing if Accept
// or Serve was called before.
func (l *Listener) Serve(ctx context.Context, handler func(c *Conn, datagram []byte)) error {
	if err := l.beginServing(handler); err != nil {
		return l.opError("serve", err)
	}
	for more := true; more; {
		select {
		case c := <-l.accept: // established before
			l.schedule(c)
		default:
			more = false
		}
	}
	for c := range l.Sessions() { // attached or restored before; what comes now is queued as it comes
		l.schedule(c)
	}
	var err error
	select {
	case <-ctx.Done():
		err = ctx.Err()
		l.queue.stop()
	case <-l.life.done:
		err = l.closedError("serve")
	}
	l.queue.handlers.Wait()
	return err
}

func (l *Listener) beginServing(handler func(*Conn, []byte)) error {
	l.life.mu.Lock()
	defer l.life.mu.Unlock()
	switch {
	case l.life.closed:
		return net.ErrClosed
	case l.life.accepting || l.serving.Load():
		return ErrServing
	}
	l.queue.handler = handler
	l.serving.Store(true)
	close(l.served)
	return nil
}

// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"context"
	"net/netip"
	"time"

	"github.com/go-dsm/dsm/internal/record"
)

// MaxSockets is the largest Config.Sockets.
const MaxSockets = maxSockets

// FilledConfig returns the Config with its defaults.
func (l *Listener) FilledConfig() Config { return l.config }

// IsClosed reports whether Close was called.
func (l *Listener) IsClosed() bool { return l.life.isClosed() }

// WaitForGoroutines waits until no goroutine of the listener is left but the workers.
func (l *Listener) WaitForGoroutines() { l.life.running.Wait() }

// CookieFor returns the cookie that a client gets for a ClientHello, if the server draws them.
func (l *Listener) CookieFor(peer netip.AddrPort, body []byte) []byte {
	hello, _ := record.ParseClientHelloBody(body)
	m := new(cookieMAC)
	m.draw(&l.cookies, route{peer: peer}, &hello, l.milliseconds(time.Now()))
	return m.cookie[:]
}

// IsDraining reports whether Shutdown waits for the last session.
func (l *Listener) IsDraining() bool {
	l.admission.mu.Lock()
	defer l.admission.mu.Unlock()
	return l.admission.drained != nil
}

// DrainQueue waits until the handlers of Serve have got everything, or ctx has ended.
func (l *Listener) DrainQueue(ctx context.Context) error { return l.queue.drain(ctx) }

// HandlersStopped reports whether no handler is called any more.
func (l *Listener) HandlersStopped() bool { return l.queue.stopped.Load() }

// Workers returns how many workers there are.
func (l *Listener) Workers() int {
	l.queue.mu.Lock()
	defer l.queue.mu.Unlock()
	return l.queue.workers
}

// SweeperConns returns how many sessions the sweeper keeps in memory.
func (l *Listener) SweeperConns() int {
	return l.sweeper.len()
}

// SweepAll releases what sessions can do without at a time.
func (l *Listener) SweepAll(now time.Time) { l.sweeper.sweep(l.sweeper.len(), now) }

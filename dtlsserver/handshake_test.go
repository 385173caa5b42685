// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/resume"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestFatalAlertBeforeTheSessionRevokesIt has an authentic fatal alert arrive while an
// abbreviated handshake is being completed. Either the session is established, and the
// alert has come too late, or the handshake fails and nobody can resume the session.
func TestFatalAlertBeforeTheSessionRevokesIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		backend, err := resume.NewMemory(64)
		require.NoError(t, err)
		store, err := resume.New(resume.Config{Backend: backend})
		require.NoError(t, err)
		finish := make(chan struct{}, 1)
		network := dtlstest.NewNetwork(1)
		l, err := NewListener([]net.PacketConn{network.Listen(netip.AddrPort{})}, &scriptedHandshaker{run: func(ctx context.Context, _ *scriptedHandshake) error {
			select {
			case <-finish:
			case <-ctx.Done():
			}
			return ctx.Err()
		}}, Config{Resumption: store, PSK: keyOf("", "", "key"), HandshakesPerSource: -1})
		require.NoError(t, err)
		defer func() { assert.NoError(t, l.Close()) }()

		addr := netip.MustParseAddrPort("192.0.2.7:5684")
		from := route{socket: l.sockets[0], peer: addr}
		alert := dtlstest.Unauthentic(record.TypeAlert, 1, 20)
		secret := make([]byte, 48)
		for n := range uint64(dtlstest.Scaled(3000, 30_000)) {
			id := binary.BigEndian.AppendUint64(make([]byte, 24), n)
			require.NoError(t, store.Put(t.Context(), id, &resume.Session{
				Secret: secret, Suite: uint16(dtlstest.Suite), Scope: taggedScope(l.scope, pskTag([]byte("key"), secret)),
			}))
			l.receive(from, dtlstest.ClientHello{Random: dtlstest.RandomOf(byte(n)), SessionID: id}.Datagram(), time.Now())
			synctest.Wait()
			before := l.Stats()
			require.Equal(t, 1, before.HalfOpen)
			var wg sync.WaitGroup
			first := n % 16 // for two values one comes first, otherwise they race
			start := make(chan struct{})
			wg.Go(func() { <-start; l.receive(from, alert, time.Now()) })
			if first == 0 {
				finish <- struct{}{}
				synctest.Wait()
			}
			close(start)
			if first == 1 {
				synctest.Wait()
			}
			if first != 0 {
				finish <- struct{}{}
			}
			wg.Wait()
			synctest.Wait()
			select {
			case <-finish: // the handshake was aborted before it saw this
			default:
			}

			s := l.Stats()
			require.Zero(t, s.HalfOpen)
			require.Equal(t, s.Started, s.Completed+s.Failed)
			_, resumable := store.Get(t.Context(), netip.Prefix{}, id)
			require.Equal(t, s.Completed > before.Completed, resumable, "handshake %d: %+v", n, s)
			for c := range l.Sessions() {
				require.True(t, c.Resumed())
				require.NoError(t, c.Close())
			}
		}
		s := l.Stats()
		assert.Positive(t, s.Failed)
		assert.Positive(t, s.Completed)
		t.Logf("%d failed, %d completed", s.Failed, s.Completed)
	})
}

// TestHandshakesThatDoNotEndAreBounded floods a listener whose handshakes do not end when
// they are displaced. The flood comes from ever new addresses, or from one address with
// ever new randoms.
func TestHandshakesThatDoNotEndAreBounded(t *testing.T) {
	t.Parallel()
	for name, oneAddress := range map[string]bool{"many addresses": false, "one address": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const handshakes, flood = 16, 1000
				const most = handshakes + handshakes/endingPart + minEnding - handshakes/reservedPart // of newcomers
				network := dtlstest.NewNetwork(1)
				var running atomic.Int64
				release := make(chan struct{})
				l, err := NewListener([]net.PacketConn{network.Listen(netip.AddrPort{})}, &scriptedHandshaker{run: func(context.Context, *scriptedHandshake) error {
					running.Add(1)
					defer running.Add(-1)
					<-release
					return errScripted
				}}, Config{Handshakes: handshakes, HandshakeTimeout: time.Hour})
				require.NoError(t, err)
				defer func() { assert.NoError(t, l.Close()) }()
				for n := range flood {
					from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{byte(n), byte(n >> 8), 1, 1}), 5684)
					if oneAddress {
						from = dtlstest.NthAddr(1, 0, 5684)
					}
					time.Sleep(longPatience) // and restartUnasked, which is less
					hello := dtlstest.ClientHello{Random: record.Random{byte(n >> 8), byte(n)}}
					network.Inject(from, dtlstest.AddrPort(l.Addr()), hello.Datagram())
					synctest.Wait()
					require.LessOrEqual(t, running.Load(), int64(most))
					require.LessOrEqual(t, l.Stats().HalfOpen, handshakes)
				}
				s := l.Stats()
				assert.EqualValues(t, most, s.Started)
				assert.EqualValues(t, most, running.Load())
				assert.EqualValues(t, flood-most, s.NoRoom)

				close(release)
				synctest.Wait()
				assert.Zero(t, running.Load())
				l.admission.check(t)
				assert.Zero(t, l.Stats().Backlog)
				started := l.Stats().Started
				network.Inject(dtlstest.NthAddr(2, 0, 5684), dtlstest.AddrPort(l.Addr()), dtlstest.Hello(1))
				synctest.Wait()
				assert.Equal(t, started+1, l.Stats().Started)
			})
		})
	}
}

// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestClientThatLostItsStateComesBackFromItsPort again and again (RFC 6347 section
// 4.2.8), over loopback and over a long path. The new session keeps the slot.
func TestClientThatLostItsStateComesBackFromItsPort(t *testing.T) {
	t.Parallel()
	onEnd := func(_ *dtlsserver.Conn, why dtlsserver.Reason) {
		assert.Contains(t, []dtlsserver.Reason{dtlsserver.Replaced, dtlsserver.ClosedByUs}, why)
	}
	comeBack := func(t *testing.T, l *dtlsserver.Listener, times int, dial func(t *testing.T, client *dtlstest.Client) *dtlstest.Client) {
		conns := echoServer(t, l)
		client := dial(t, nil)
		dtlstest.Echo(t, client, "first")
		session := <-conns
		for n := range times {
			old, slot := session, session.Slot()
			client.Kill()
			client = dial(t, client)
			dtlstest.Echo(t, client, "again")
			require.Equal(t, dsm.StateNone, old.State())
			_, err := old.Write([]byte("x"))
			require.ErrorIs(t, err, dtlsserver.ErrReplaced)
			session = <-conns
			require.Equal(t, slot, session.Slot())
			require.Equal(t, old.Peer(), session.Peer())
			require.EqualValues(t, n+1, l.Stats().Replaced)
		}
		assert.Equal(t, 1, l.Stats().Established)
	}
	t.Run("loopback", func(t *testing.T) {
		t.Parallel()
		l := listen(t, psk(), dtlsserver.Config{Sessions: 2, OnEnd: onEnd})
		comeBack(t, l, 100, func(t *testing.T, client *dtlstest.Client) *dtlstest.Client {
			if client == nil {
				return dial(t, l, dtlstest.OwnAddr())
			}
			return dial(t, l, client.Addr())
		})
	})
	t.Run("300 ms", func(t *testing.T) {
		t.Parallel()
		inBubble(t, dtlsserver.Config{Sessions: 2, OnEnd: onEnd}, func(t *testing.T, l memory) {
			l.network.SetRoundTrip(300 * time.Millisecond)
			comeBack(t, l.Listener, 100, func(t *testing.T, client *dtlstest.Client) *dtlstest.Client {
				if client == nil {
					return l.dial(t, netip.AddrPort{})
				}
				return l.dial(t, dtlstest.AddrPort(client.Addr()))
			})
		})
	})
}

// TestSessionLivesOnUntilTheNextOneIsEstablished: a handshake that begins at the
// session's address and does not complete, which anybody can forge, has no effect on the
// session.
func TestSessionLivesOnUntilTheNextOneIsEstablished(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{HandshakeTimeout: time.Second}, func(t *testing.T, l memory) {
		conns := echoServer(t, l.Listener)
		client := l.dial(t, netip.AddrPort{})
		dtlstest.Echo(t, client, "before")
		session := <-conns
		for n := range 3 {
			client.Send(t, opening(l.Listener, session.Peer(), dtlstest.RandomOf(byte(n+1))))
			synctest.Wait()
			require.Equal(t, 1, l.Stats().HalfOpen)
			client.Transport.SetIn(func(datagram []byte) bool { return datagram[0] == 23 }) // pion's client ends at a HelloVerifyRequest
			dtlstest.Echo(t, client, "beside")
			time.Sleep(2 * time.Second)
			require.Zero(t, l.Stats().HalfOpen)
			require.EqualValues(t, n+1, l.Stats().TimedOut)
			dtlstest.Echo(t, client, "after")
		}
		assert.Equal(t, dsm.StateEstablished, session.State())
		assert.Zero(t, l.Stats().Replaced)
		_, state := l.Table().Get(l.Sock(), session.Peer())
		assert.Equal(t, dsm.StateEstablished, state)
	})
}

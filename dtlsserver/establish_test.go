// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/resume"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// withEarlyClients runs a test in a bubble with a listener whose clients are done with their
// handshakes before their sessions are established: they resume a session that has ended,
// and their Finished arrives 100 ms late. dial has such a client connect.
func withEarlyClients(t *testing.T, cfg dtlsserver.Config, test func(t *testing.T, l memory, dial func() *dtlstest.Client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		cfg.Resumption = newStore(t, resume.Config{})
		l := listenInMemory(t, psk(), cfg)
		config := psk()
		config.SessionStore = &dtlstest.ClientStore{}
		dial := func() *dtlstest.Client {
			return l.network.DialClient(t, netip.AddrPort{}, l.addr(), config)
		}
		first := dial()
		_, err := l.AcceptConn(t.Context())
		require.NoError(t, err)
		require.NoError(t, first.Close())
		synctest.Wait()
		require.EqualValues(t, 1, l.Stats().ClosedByPeer)
		l.network.SetFilter(dtlstest.ToServer, func(d dtlstest.Datagram, forward func([]byte)) {
			if dtlstest.Has(d.Payload, record.TypeChangeCipherSpec, false) {
				time.AfterFunc(100*time.Millisecond, func() { forward(d.Payload) })
				return
			}
			forward(d.Payload)
		})
		test(t, l, dial)
	})
}

// TestDataBeforeTheSessionAreDelivered: clients write as soon as their handshakes are
// done. Among their data are forged records.
func TestDataBeforeTheSessionAreDelivered(t *testing.T) {
	t.Parallel()
	withEarlyClients(t, dtlsserver.Config{}, func(t *testing.T, l memory, dial func() *dtlstest.Client) {
		echoServer(t, l.Listener)
		for n := range 20 {
			client := dial()
			write(t, client, fmt.Sprint("first of ", n))
			client.Send(t, dtlstest.Unauthentic(record.TypeApplicationData, 1, 40)) // the first's number
			client.Send(t, dtlstest.Unauthentic(record.TypeApplicationData, 1000, 40))
			write(t, client, fmt.Sprint("second of ", n))
			synctest.Wait()
			require.Equal(t, 1, l.Stats().HalfOpen)
			require.Equal(t, n, l.Stats().Established)
			dtlstest.Expect(t, client, fmt.Sprint("first of ", n))
			dtlstest.Expect(t, client, fmt.Sprint("second of ", n))
			dtlstest.Echo(t, client, "later")
			s := l.Stats()
			require.EqualValues(t, 2*(n+1), s.Forged)
			require.Zero(t, s.QueueFull)
			require.Zero(t, s.Epoch)
		}
	})
}

// TestTooMuchDataBeforeTheSessionIsDropped: records beyond the bound are counted.
func TestTooMuchDataBeforeTheSessionIsDropped(t *testing.T) {
	t.Parallel()
	withEarlyClients(t, dtlsserver.Config{}, func(t *testing.T, l memory, dial func() *dtlstest.Client) {
		const more = 5
		echoServer(t, l.Listener)
		client := dial()
		for n := range dtlsserver.HeldRecords + more {
			write(t, client, fmt.Sprint(n))
		}
		synctest.Wait()
		assert.EqualValues(t, more, l.Stats().QueueFull)
		for n := range dtlsserver.HeldRecords {
			dtlstest.Expect(t, client, fmt.Sprint(n))
		}
		dtlstest.Echo(t, client, "later")
	})
}

// TestSessionThatEndsBeforeItIsEstablished: the client closes its session at once. Both
// hooks are called all the same, and Accept does not return the session.
func TestSessionThatEndsBeforeItIsEstablished(t *testing.T) {
	t.Parallel()
	var told hookLog
	withEarlyClients(t, dtlsserver.Config{
		OnEstablished: func(c *dtlsserver.Conn) { told.add("established", c) },
		OnEnd:         func(c *dtlsserver.Conn, why dtlsserver.Reason) { told.add(why.String(), c) },
	}, func(t *testing.T, l memory, dial func() *dtlstest.Client) {
		client := dial()
		peer := dtlstest.AddrPort(client.Addr())
		require.NoError(t, client.Close())
		synctest.Wait()
		require.Equal(t, 1, l.Stats().HalfOpen)
		time.Sleep(time.Second)
		s := l.Stats()
		assert.EqualValues(t, 1, s.Resumed)
		assert.EqualValues(t, 2, s.ClosedByPeer, "it and the session that it resumes")
		assert.Zero(t, s.Established)
		assert.Equal(t, []string{"established", "closed_by_peer"}, told.of(peer))
		assert.Equal(t, l.Table().MaxSlots(), l.Table().AvailableSlots())
	})
}

// TestDataDuringOnEstablishedAreHandled, also if the client closes its session before the
// hook has returned.
func TestDataDuringOnEstablishedAreHandled(t *testing.T) {
	t.Parallel()
	for _, closes := range []bool{false, true} {
		var mu sync.Mutex
		var handled []string
		texts := func() []string {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(handled)
		}
		inBubble(t, dtlsserver.Config{
			OnEstablished: func(*dtlsserver.Conn) { time.Sleep(100 * time.Millisecond) },
		}, func(t *testing.T, l memory) {
			serve(t, l.Listener, func(_ *dtlsserver.Conn, datagram []byte) {
				mu.Lock()
				defer mu.Unlock()
				handled = append(handled, string(datagram))
			})
			client := l.dial(t, netip.AddrPort{})
			synctest.Wait()
			require.Equal(t, 1, l.Stats().Established)
			write(t, client, "a", "b")
			synctest.Wait()
			if closes {
				require.NoError(t, client.Close())
				synctest.Wait()
				require.EqualValues(t, 1, l.Stats().ClosedByPeer)
			}
			assert.Empty(t, texts(), "OnEstablished comes first")
			time.Sleep(time.Second)
			assert.Equal(t, []string{"a", "b"}, texts())
		})
	}
}

// TestReplacementEvictsNobody: a client that comes back from its port has room.
func TestReplacementEvictsNobody(t *testing.T) {
	t.Parallel()
	inBubble(t, dtlsserver.Config{Sessions: 2}, func(t *testing.T, l memory) {
		echoServer(t, l.Listener)
		oldest, client := l.dial(t, netip.AddrPort{}), l.dial(t, netip.AddrPort{})
		for range 3 {
			peer := dtlstest.AddrPort(client.Addr())
			client.Kill()
			client = l.dial(t, peer)
			dtlstest.Echo(t, client, "again")
		}
		dtlstest.Echo(t, oldest, "still here")
		s := l.Stats()
		assert.EqualValues(t, 3, s.Replaced)
		assert.Zero(t, s.Evicted)
		assert.Equal(t, 2, s.Established)
	})
}

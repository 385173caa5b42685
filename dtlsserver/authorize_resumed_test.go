// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// scriptedAuthorize is a Config.Authorize whose calls the test sees and answers.
type scriptedAuthorize struct {
	requests
	wait chan struct{} // not nil: a call returns when it is closed
	err  error
}

func (s *scriptedAuthorize) authorize(_ context.Context, r *dtlsserver.AuthRequest) (any, error) {
	value := s.add(*r)
	err, wait := s.err, s.wait
	if wait != nil {
		<-wait
	}
	return value, err
}

// withScriptedAuthorize is withResumption with a scriptedAuthorize, and a round trip of 300 ms.
func withScriptedAuthorize(t *testing.T, test func(t *testing.T, r *resumption, s *scriptedAuthorize)) {
	t.Helper()
	withResumption(t, func(t *testing.T, r *resumption) {
		s := new(scriptedAuthorize)
		r.cfg.Authorize = s.authorize
		r.network.SetRoundTrip(300 * time.Millisecond)
		test(t, r, s)
	})
}

// TestAuthorizeIsToldOfTheSession in a full and in an abbreviated handshake, and its value is
// there in each hook and for each user of the session.
func TestAuthorizeIsToldOfTheSession(t *testing.T) {
	t.Parallel()
	withScriptedAuthorize(t, func(t *testing.T, r *resumption, s *scriptedAuthorize) {
		var values, ended []any
		r.cfg.OnEstablished = func(c *dtlsserver.Conn) { values = append(values, c.Value()) }
		r.cfg.OnEnd = func(c *dtlsserver.Conn, _ dtlsserver.Reason) { ended = append(ended, c.Value()) }
		r.client.ServerName = "server.example"
		l, sessions, first := r.begin(t)
		second := r.visit(t, l, sessions)
		require.True(t, second.Resumed())
		synctest.Wait()
		asked := s.list()
		require.Len(t, asked, 2)
		for i, c := range []*dtlsserver.Conn{first, second} {
			assert.Equal(t, dtlsserver.AuthRequest{
				Identity: c.Identity(), IdentityKey: c.IdentityKey(), ServerName: "server.example", Peer: c.Peer(), Resumed: i == 1,
			}, asked[i])
			assert.Equal(t, i+1, c.Value(), "after Accept")
		}
		assert.Equal(t, []any{1, 2}, values)
		assert.Equal(t, []any{1, 2}, ended)
		asked[0].Identity.PSKIdentity[0] ^= 1
		assert.Equal(t, dtlstest.Identity, string(first.Identity().PSKIdentity), "it is a copy")
	})
}

func TestValueIsThereInServesHandler(t *testing.T) {
	t.Parallel()
	withAuthorize(t, dtlsserver.Config{}, func(t *testing.T, l memory, _ *atomic.Int32) {
		values := make(chan any, 1)
		serve(t, l.Listener, func(c *dtlsserver.Conn, _ []byte) { values <- c.Value() })
		write(t, l.dial(t, netip.AddrPort{}), "hello")
		assert.Equal(t, dtlstest.Identity, <-values)
	})
}

// TestDeniedResumption ends the session by an alert that its client can read. After a fatal alert
// the session must not be resumed (RFC 5246 section 7.2.2).
func TestDeniedResumption(t *testing.T) {
	t.Parallel()
	for name, verdict := range map[string]struct {
		err   error
		wait  bool
		alert string
	}{
		"denied":    {errDenied, false, "AccessDenied"},
		"timed out": {nil, true, "InternalError"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			withScriptedAuthorize(t, func(t *testing.T, r *resumption, s *scriptedAuthorize) {
				r.cfg.AuthorizeTimeout = time.Second
				l, sessions, _ := r.begin(t)
				kept := r.kept.Session()
				s.err = verdict.err
				if verdict.wait {
					s.wait = make(chan struct{})
					defer close(s.wait)
				}
				var sealedAlerts int
				r.network.SetHook(dtlstest.ToClient, func(datagram []byte) bool {
					if dtlstest.Has(datagram, record.TypeAlert, true) {
						sealedAlerts++
					}
					assert.False(t, dtlstest.Has(datagram, record.TypeAlert, false))
					return true
				})
				client, err := r.tryDial(l, nil)
				require.NoError(t, err, "an abbreviated handshake is done when the client says so")
				defer client.Kill()
				write(t, client, "before the word")
				_, err = client.Read(make([]byte, 100))
				require.Error(t, err)
				synctest.Wait()
				assert.Equal(t, 1, sealedAlerts)
				stats := requireSums(t, l)
				assert.EqualValues(t, 1, stats.Denied+stats.AuthorizeTimedOut)
				assert.EqualValues(t, 1, stats.Completed)
				assert.Zero(t, stats.Resumed)
				r.awaitRevoked(t)
				assert.EqualValues(t, 1, r.cfg.Resumption.Stats().Puts)

				s.err, s.wait = nil, nil
				require.NoError(t, r.kept.Set(nil, kept))
				assert.False(t, r.visit(t, l, sessions).Resumed())
			})
		})
	}
}

// TestSentBeforeTheWordIsHeld: what the client of an abbreviated handshake sends at once. What
// exceeds the bounds is dropped, and counted.
func TestSentBeforeTheWordIsHeld(t *testing.T) {
	t.Parallel()
	withScriptedAuthorize(t, func(t *testing.T, r *resumption, s *scriptedAuthorize) {
		l, sessions, _ := r.begin(t)
		s.wait = make(chan struct{})
		client, err := r.tryDial(l, nil)
		require.NoError(t, err)
		defer client.Kill()
		const dropped = 5
		for i := range dtlsserver.MaxHeldRecords + dropped {
			write(t, client, string(rune('a'+i)))
		}
		time.Sleep(3 * time.Second)
		assert.Len(t, s.list(), 2)
		assert.Empty(t, sessions)
		assert.EqualValues(t, dropped, requireSums(t, l).QueueFull)
		close(s.wait)
		for i := range dtlsserver.MaxHeldRecords {
			dtlstest.Expect(t, client, string(rune('a'+i)))
		}
		assert.Equal(t, 2, dtlstest.Receive(t, sessions).Value())
		dtlstest.Echo(t, client, "later")
		assert.EqualValues(t, dropped, requireSums(t, l).QueueFull)
	})
}

// TestFatalAlertBeforeTheWordRevokesSession: a client that ends its abbreviated handshake while
// it waits is heard (RFC 5246 section 7.2.2), whatever the word is.
func TestFatalAlertBeforeTheWordRevokesSession(t *testing.T) {
	t.Parallel()
	for _, verdict := range []error{nil, errDenied} {
		withScriptedAuthorize(t, func(t *testing.T, r *resumption, s *scriptedAuthorize) {
			l, _, _ := r.begin(t)
			s.wait, s.err = make(chan struct{}), verdict
			client, err := r.tryDial(l, nil)
			require.NoError(t, err)
			defer client.Kill()
			write(t, client, "before the alert")
			time.Sleep(time.Second) // Authorize is being called
			sendFatalAlert(t, client)
			time.Sleep(time.Second)
			assert.Zero(t, r.cfg.Resumption.Stats().Deletes)
			close(s.wait)
			r.awaitRevoked(t)
			requireSums(t, l)
		})
	}
}

// TestRepeatedLastFlightIsAnsweredOnce, and not before the word.
func TestRepeatedLastFlightIsAnsweredOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &scriptedAuthorize{wait: make(chan struct{})}
		l := listenInMemory(t, psk(), dtlsserver.Config{Authorize: s.authorize})
		flights, repeated := 0, 0
		l.network.SetHook(dtlstest.ToClient, func(datagram []byte) bool {
			if dtlstest.Has(datagram, record.TypeChangeCipherSpec, false) {
				flights++
			}
			return true
		})
		l.network.SetHook(dtlstest.ToServer, func(datagram []byte) bool {
			if dtlstest.Has(datagram, record.TypeChangeCipherSpec, false) {
				repeated++
			}
			return true
		})
		done := l.begin(unhurried(psk()))
		time.Sleep(5500 * time.Millisecond)
		synctest.Wait()
		assert.Greater(t, repeated, 2)
		assert.Zero(t, flights)
		close(s.wait)
		require.NoError(t, <-done)
		synctest.Wait()
		assert.Equal(t, 1, flights)
		assert.Len(t, s.list(), 1, "it is asked once")
	})
}

// TestErrorOfAuthorizeIsTheApplications: whatever it wraps, the handshake was denied.
func TestErrorOfAuthorizeIsTheApplications(t *testing.T) {
	t.Parallel()
	for _, err := range []error{context.DeadlineExceeded, dtlsserver.ErrUnknownPSKIdentity, dtlsserver.ErrStatePresent, errors.New("no")} {
		withScriptedAuthorize(t, func(t *testing.T, r *resumption, s *scriptedAuthorize) {
			s.err = err
			l, _ := r.listen(t)
			_, failed := r.tryDial(l, nil)
			require.ErrorContains(t, failed, "AccessDenied")
			assert.EqualValues(t, 1, requireSums(t, l).Denied)
		})
	}
}

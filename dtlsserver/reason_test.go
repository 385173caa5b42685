// SPDX-License-Identifier: MIT

package dtlsserver_test

import (
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/dtlsserver"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestReasonsHaveOneWordEach(t *testing.T) {
	t.Parallel()
	for reason, want := range map[dtlsserver.Reason]string{
		dtlsserver.ClosedByUs: "closed_by_us", dtlsserver.ClosedByPeer: "closed_by_peer", dtlsserver.Evicted: "evicted",
		dtlsserver.Expired: "expired", dtlsserver.Replaced: "replaced", dtlsserver.Refused: "refused", dtlsserver.Exhausted: "exhausted",
		dtlsserver.Detached: "detached", dtlsserver.Interrupted: "interrupted",
		dtlsserver.IdentityReplaced: "identity_replaced", dtlsserver.IdentityRefused: "identity_refused", dtlsserver.Withdrawn: "withdrawn",
		0: "Reason(0)", 13: "Reason(13)", 99: "Reason(99)",
	} {
		assert.Equal(t, want, reason.String())
	}
}

// TestEveryReason ends a session for each reason, and looks at everything that tells it:
// EndReason, Done, OnEnd, the counter, the log, the errors of Read and Write, and what
// the client gets.
func TestEveryReason(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		reason      dtlsserver.Reason
		count       func(s *dtlsserver.Stats) *uint64
		level       string
		cfg         dtlsserver.Config
		end         func(t *testing.T, l memory, client *dtlstest.Client, s *dtlsserver.Conn)
		read, write error // nil: an error that wraps net.ErrClosed and says no more
		notified    bool  // the client gets close_notify
	}{
		{
			reason: dtlsserver.ClosedByUs, level: "DEBUG", notified: true,
			count: func(s *dtlsserver.Stats) *uint64 { return &s.ClosedByUs },
			end: func(t *testing.T, _ memory, _ *dtlstest.Client, s *dtlsserver.Conn) {
				require.NoError(t, s.Close())
			},
		},
		{
			reason: dtlsserver.ClosedByPeer, level: "DEBUG", read: io.EOF, write: dtlsserver.ErrPeerClosed,
			count: func(s *dtlsserver.Stats) *uint64 { return &s.ClosedByPeer },
			end: func(t *testing.T, _ memory, client *dtlstest.Client, _ *dtlsserver.Conn) {
				require.NoError(t, client.Close())
			},
		},
		{
			reason: dtlsserver.Evicted, level: "INFO", read: dtlsserver.ErrEvicted, write: dtlsserver.ErrEvicted, notified: true,
			count: func(s *dtlsserver.Stats) *uint64 { return &s.Evicted },
			end: func(t *testing.T, l memory, _ *dtlstest.Client, _ *dtlsserver.Conn) {
				l.dial(t, netip.AddrPort{})
			},
		},
		{
			reason: dtlsserver.Expired, level: "DEBUG", read: dtlsserver.ErrExpired, write: dtlsserver.ErrExpired, notified: true,
			count: func(s *dtlsserver.Stats) *uint64 { return &s.Expired },
			end: func(*testing.T, memory, *dtlstest.Client, *dtlsserver.Conn) {
				time.Sleep(2 * time.Hour)
			},
		},
		{
			reason: dtlsserver.Replaced, level: "DEBUG", read: io.EOF, write: dtlsserver.ErrReplaced,
			count: func(s *dtlsserver.Stats) *uint64 { return &s.Replaced },
			end: func(t *testing.T, l memory, client *dtlstest.Client, s *dtlsserver.Conn) {
				client.Kill()
				l.dial(t, s.Peer())
			},
		},
		{
			reason: dtlsserver.Refused, level: "INFO",
			cfg:   dtlsserver.Config{AcceptQueue: 1, Sessions: 2},
			count: func(s *dtlsserver.Stats) *uint64 { return &s.Refused },
			end:   func(*testing.T, memory, *dtlstest.Client, *dtlsserver.Conn) {}, // when it is established
		},
		{
			reason: dtlsserver.Exhausted, level: "DEBUG", read: dtlsserver.ErrExhausted, write: dtlsserver.ErrExhausted, notified: true,
			count: func(s *dtlsserver.Stats) *uint64 { return &s.Exhausted },
			end: func(t *testing.T, _ memory, _ *dtlstest.Client, s *dtlsserver.Conn) {
				s.SetNextSequence(record.LastSequence + 1)
				_, err := s.Write(nil)
				require.ErrorIs(t, err, dtlsserver.ErrExhausted)
			},
		},
	} {
		t.Run(c.reason.String(), func(t *testing.T) {
			t.Parallel()
			var log dtlstest.LogBuffer
			var hooks sync.Mutex
			var established []*dtlsserver.Conn
			ended := map[*dtlsserver.Conn][]dtlsserver.Reason{}
			cfg := c.cfg
			if cfg.Sessions == 0 {
				cfg.Sessions = 1
			}
			cfg.IdleTimeout, cfg.Logger = time.Hour, log.Logger()
			cfg.OnEstablished = func(s *dtlsserver.Conn) {
				hooks.Lock()
				defer hooks.Unlock()
				established = append(established, s)
			}
			cfg.OnEnd = func(s *dtlsserver.Conn, why dtlsserver.Reason) {
				assert.Equal(t, why, s.EndReason())
				<-s.Done()
				hooks.Lock()
				defer hooks.Unlock()
				ended[s] = append(ended[s], why)
			}
			inBubble(t, cfg, func(t *testing.T, l memory) {
				client := l.dial(t, netip.AddrPort{})
				synctest.Wait()
				if c.reason == dtlsserver.Refused { // the queue of Accept is full
					l.dialRefused(t)
					synctest.Wait()
				}
				hooks.Lock()
				s := established[len(established)-1]
				hooks.Unlock()
				done := s.Done()
				if c.reason != dtlsserver.Refused {
					require.Zero(t, s.EndReason())
					require.Equal(t, dsm.StateEstablished, s.State())
				}
				c.end(t, l, client, s)
				synctest.Wait()

				assert.Equal(t, c.reason, s.EndReason())
				assert.Equal(t, dsm.StateNone, s.State())
				<-done
				assert.Equal(t, []dtlsserver.Reason{c.reason}, ended[s], "once")
				assert.Contains(t, log.String(), "level="+c.level+` msg="session ended" peer=`+s.Peer().String()+" reason=")

				stats := l.Stats()
				assert.EqualValues(t, 1, *c.count(&stats))
				*c.count(&stats) = 0
				assert.Zero(t, stats.ClosedByUs+stats.ClosedByPeer+stats.Evicted+stats.Expired+stats.Replaced+stats.Refused+stats.Exhausted)

				_, err := s.Read(nil)
				if c.read == nil {
					assert.ErrorIs(t, err, net.ErrClosed)
				} else {
					assert.ErrorIs(t, err, c.read)
				}
				if c.read != io.EOF {
					assert.ErrorIs(t, err, net.ErrClosed)
				}
				_, err = s.Write(nil)
				assert.ErrorIs(t, err, net.ErrClosed)
				if c.write != nil {
					assert.ErrorIs(t, err, c.write)
				}
				for _, other := range []error{
					dtlsserver.ErrEvicted, dtlsserver.ErrExpired, dtlsserver.ErrReplaced, dtlsserver.ErrPeerClosed, dtlsserver.ErrExhausted,
				} {
					if other != c.write {
						assert.NotErrorIs(t, err, other)
					}
				}
				if c.notified {
					dtlstest.RequireEOF(t, client)
				}
			})
		})
	}
}

// TestFirstReasonStands ends a session again, in all other ways.
func TestFirstReasonStands(t *testing.T) {
	t.Parallel()
	var ended []dtlsserver.Reason
	inBubble(t, dtlsserver.Config{Sessions: 1, IdleTimeout: time.Hour, OnEnd: func(_ *dtlsserver.Conn, why dtlsserver.Reason) {
		ended = append(ended, why)
	}}, func(t *testing.T, l memory) {
		client, s := l.connect(t)
		done := s.Done()
		require.NoError(t, client.Close())
		synctest.Wait()
		<-done
		require.NoError(t, s.Close())
		l.dial(t, netip.AddrPort{})
		time.Sleep(90 * time.Minute)
		require.NoError(t, l.Close())
		assert.Equal(t, dtlsserver.ClosedByPeer, s.EndReason())
		_, err := s.Write(nil)
		assert.ErrorIs(t, err, dtlsserver.ErrPeerClosed)
		assert.Equal(t, []dtlsserver.Reason{dtlsserver.ClosedByPeer, dtlsserver.Expired}, ended)
	})
}

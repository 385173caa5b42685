// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestEndIdentityAmongEverythingElse has handshakes, uses, closes and calls of EndIdentity at the
// same time. Once an identity is invalid and EndIdentity has returned, no session of it that was
// admitted before is there, and none comes. The sums of Stats hold all the time.
func TestEndIdentityAmongEverythingElse(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]Config{
		"with a limit":      {Sessions: 24, Handshakes: 64, SessionsPerIdentity: 8},
		"without":           {Sessions: 24, Handshakes: 64},
		"with a limit of 1": {Sessions: 24, Handshakes: 64, SessionsPerIdentity: 1, WhenIdentityFull: RefuseNewcomer},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			endIdentities(t, cfg)
		})
	}
}

// numIdentities is how many identities endIdentities has.
const numIdentities = 4

func endIdentities(t *testing.T, cfg Config) {
	// valid says which period of an identity's validity it is: even numbers are valid ones. A
	// handshake is done in the period in which it is checked, or fails.
	var valid [numIdentities]atomic.Uint64
	var checked sync.Map // the period in which a session was checked, by the client's random
	handshaker := &scriptedHandshaker{
		identityOf: func(r record.Random) string { return identityName(r[0] + 1) },
		run: func(_ context.Context, h *scriptedHandshake) error {
			period := valid[h.hello.Random[0]].Load()
			if period%2 != 0 {
				return errScripted
			}
			checked.Store(h.hello.Random, period)
			runtime.Gosched()
			return nil
		},
	}
	network := dtlstest.NewNetwork(1)
	socket := network.Listen(netip.AddrPort{})
	l, err := NewListener([]net.PacketConn{socket}, handshaker, cfg)
	require.NoError(t, err)
	serveForever(t, l)

	turns := make(chan struct{}, 4) // of the clients, so that they do not keep the network busy alone
	var work sync.WaitGroup
	var clients atomic.Uint32
	for range 3 {
		work.Go(func() {
			for range turns {
				n := clients.Add(1)
				random := record.Random{0: byte(n % numIdentities)}
				binary.BigEndian.PutUint32(random[4:], n)
				hello := dtlstest.ClientHello{Random: random, Extensions: dtlstest.ExtendedMasterSecret()}
				network.Inject(place(int(n%500)), socket.AddrPort(), hello.Datagram())
				for c := range l.Sessions() {
					if _, _ = c.Write([]byte("x")); n%7 == 0 {
						_ = c.Close()
						break
					}
				}
			}
		})
	}
	ended := 0
	for round := range 100 {
		which := round % numIdentities
		for range 8 {
			turns <- struct{}{}
		}
		dtlstest.Eventually(t, func() bool { return l.Stats().Started >= uint64(8*round) }, "all but the last ones have begun")
		period := valid[which].Add(1) // not valid from now on
		n, err := l.EndIdentity(t.Context(), "psk:"+identityName(byte(which)+1), Withdrawn)
		require.NoError(t, err)
		ended += n
		for _, c := range l.allSessions() {
			random := c.secrets().ClientRandom
			if int(random[0]) == which && c.EndReason() == 0 {
				at, _ := checked.Load(random)
				require.GreaterOrEqual(t, at, period, "admitted before the call")
			}
		}
		valid[which].Add(1)
		s := l.Stats() // whose sums define HalfOpen and Established
		require.GreaterOrEqual(t, s.Established, 0)
		require.LessOrEqual(t, s.Established, cfg.Sessions)
		if cfg.SessionsPerIdentity > 0 {
			_, sessions := l.IndexedSessions()
			require.LessOrEqual(t, sessions, numIdentities*cfg.SessionsPerIdentity)
		}
	}
	close(turns)
	work.Wait()
	require.NoError(t, l.Close())
	s := l.Stats()
	assert.Positive(t, ended)
	assert.EqualValues(t, s.Completed, s.ClosedByUs+s.Evicted+s.Replaced+s.Refused+s.IdentityReplaced+s.IdentityRefused+s.Withdrawn)
	if cfg.SessionsPerIdentity > 0 {
		identities, _ := l.IndexedSessions()
		assert.Zero(t, identities)
	}
}

// serveForever serves l until it is closed, and closes it when the test ends.
func serveForever(t *testing.T, l *Listener) {
	t.Helper()
	var serving sync.WaitGroup
	serving.Go(func() { _ = l.Serve(context.Background(), func(*Conn, []byte) {}) })
	t.Cleanup(func() {
		_ = l.Close()
		serving.Wait()
	})
}

// TestWithdrawalsAreBounded: what has no room refuses every handshake that began before it.
func TestWithdrawalsAreBounded(t *testing.T) {
	t.Parallel()
	var x identities
	x.init(&Config{HandshakeTimeout: time.Minute})
	x.withdraw("first")
	assert.True(t, x.isWithdrawn("first", 0))
	assert.False(t, x.isWithdrawn("first", 1), "it began later")
	assert.False(t, x.isWithdrawn("other", 0))
	for range maxWithdrawals - 1 {
		x.withdraw("more")
	}
	assert.False(t, x.isWithdrawn("other", 0))
	x.withdraw("more")
	assert.Len(t, x.withdrawals.recent, maxWithdrawals)
	assert.True(t, x.isWithdrawn("other", 0), "the first is forgotten, and it may have been that")
	assert.False(t, x.isWithdrawn("", 0))
	assert.False(t, x.isWithdrawn("other", 1))
	assert.True(t, x.isWithdrawn("more", 1))

	// No handshake takes that long. The checks of Restore can.
	now := time.Now()
	x.withdrawals.addLocked("late", now.Add(2*time.Minute+time.Second))
	assert.Len(t, x.withdrawals.recent, 1)
	assert.True(t, x.isWithdrawn("more", 1))
	assert.True(t, x.isWithdrawn("other", maxWithdrawals), "it may have been the one that has expired")
	assert.False(t, x.isWithdrawn("other", maxWithdrawals+1), "it began after all that have expired")
}

// TestSweeperShowsSessionsThatAreSwept: all waits for the end of a sweep, which has them
// meanwhile.
func TestSweeperShowsSessionsThatAreSwept(t *testing.T) {
	t.Parallel()
	var s sweeper[*slowSweep]
	session := &slowSweep{began: make(chan struct{}), goOn: make(chan struct{})}
	s.add(session)
	go s.sweep(1, time.Now())
	<-session.began
	found := make(chan int)
	go func() { found <- len(slices.Collect(s.all())) }()
	for s.sweeping.TryRLock() { // until all waits
		s.sweeping.RUnlock()
		runtime.Gosched()
	}
	close(session.goOn)
	assert.Equal(t, 1, <-found)
}

type slowSweep struct{ began, goOn chan struct{} }

func (s *slowSweep) sweep(time.Time) bool {
	close(s.began)
	<-s.goOn
	return false
}

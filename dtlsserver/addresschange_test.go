// SPDX-License-Identifier: MIT

package dtlsserver

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-dsm/dsm"
	"github.com/go-dsm/dsm/internal/dtlstest"
	"github.com/go-dsm/dsm/internal/record"
	"github.com/go-dsm/dsm/keyring"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestNATRebindingLosesNoEcho: a client whose address changes again and again gets each echo
// except those that were on their way to an address that it has lost.
func TestNATRebindingLosesNoEcho(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		handshaker *scriptedHandshaker
		policy     AddressChange
	}{
		"verified":                 {&scriptedHandshaker{rrc: true}, VerifyAddress},
		"verified, with a peer ID": {&scriptedHandshaker{rrc: true, clientID: []byte("client")}, VerifyAddress},
		"trusted":                  {&scriptedHandshaker{}, TrustAddress},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			withMobiles(t, c.handshaker, Config{AddressChange: c.policy}, func(t *testing.T, w *mobileWorld) {
				w.network.SetRoundTrip(100 * time.Millisecond)
				w.network.Inject(place(1), w.server, dtlstest.Hello(1))
				time.Sleep(time.Second)
				session, _ := w.table.Get(w.sock, place(1))
				m := w.clientOf(t, session.Value.Conn())
				const moves, echoes = 20, 60 // more than a second for each: see challengeInterval
				arrived := 0
				for n := range moves {
					at := place(n + 2)
					for i := range echoes {
						m.inject(at, m.data(fmt.Sprint(n, " ", i)))
						time.Sleep(20 * time.Millisecond)
						arrived += m.answerChallenges(at)
					}
					time.Sleep(200 * time.Millisecond)
					arrived += m.answerChallenges(at)
					assert.Equal(t, at, m.addrInTable())
				}
				assert.Equal(t, moves*echoes, arrived)
				stats := w.Stats()
				assert.EqualValues(t, moves, stats.AddressChanges)
				assert.Zero(t, stats.AddressChangesRefused)
				assert.Zero(t, stats.AddressLimited)
				assert.Equal(t, c.policy == VerifyAddress, stats.RoutabilityChecks >= moves)
				assert.EqualValues(t, 1, stats.Started)
			})
		})
	}
}

// answerChallenges answers the path_challenge messages that have arrived at an address, and
// returns how many echoes have.
func (m *mobile) answerChallenges(at netip.AddrPort) (echoes int) {
	for _, got := range m.received(at) {
		switch got.kind {
		case record.TypeApplicationData:
			echoes++
		case record.TypeRoutabilityCheck:
			m.w.network.Inject(at, m.w.server, m.seal(record.TypeRoutabilityCheck, append([]byte{pathResponse}, got.payload[1:]...)...))
		}
	}
	return echoes
}

// TestOldRecordMovesNothing: a record that was received before, and a record that is older
// than another one which was received, do not come from where the peer is now.
func TestOldRecordMovesNothing(t *testing.T) {
	t.Parallel()
	for _, policy := range []AddressChange{VerifyAddress, TrustAddress} {
		withMobiles(t, &scriptedHandshaker{rrc: true}, Config{AddressChange: policy}, func(t *testing.T, w *mobileWorld) {
			m := w.connect(t, place(1), 1)
			heldBack, captured := m.data("held back"), m.data("captured")
			m.inject(place(1), captured)
			require.Equal(t, []mobileMessage{echo("captured")}, m.received(place(1)))

			m.inject(place(2), captured)
			assert.EqualValues(t, 1, w.Stats().Replayed)
			m.inject(place(2), heldBack)
			assert.Equal(t, []mobileMessage{echo("held back")}, m.received(place(1)), "it is received, and answered at the old address")
			assert.Empty(t, m.received(place(2)))
			_, seemsToMove := m.conn.UnverifiedAddress()
			assert.False(t, seemsToMove)
			assert.Equal(t, place(1), m.addrInTable())
			assert.Zero(t, w.Stats().RoutabilityChecks)
		})
	}
}

// TestThreeTimesLimitIsExact: an address that is not verified gets exactly three times as many
// bytes as have come from there, and not one more. What exceeds that goes to the old address.
func TestThreeTimesLimitIsExact(t *testing.T) {
	t.Parallel()
	withMobiles(t, &scriptedHandshaker{}, Config{}, func(t *testing.T, w *mobileWorld) {
		m := w.connect(t, place(1), 1)
		question := m.data("0123456789")
		m.inject(place(2), question)
		answer := w.takeSent(place(2))
		require.Len(t, answer, 1)
		overhead := len(answer[0]) - 10
		left := 3*len(question) - len(answer[0])

		write := func(size int) (to netip.AddrPort) {
			t.Helper()
			_, err := m.conn.Write(make([]byte, size-overhead))
			require.NoError(t, err)
			atNew, atOld := w.takeSent(place(2)), w.takeSent(place(1))
			require.Len(t, append(atNew, atOld...), 1)
			if len(atNew) == 1 {
				require.Len(t, atNew[0], size)
				return place(2)
			}
			return place(1)
		}
		assert.Equal(t, place(1), write(left+1))
		assert.Equal(t, place(2), write(left-overhead))
		assert.Equal(t, place(1), write(overhead+1))
		assert.Equal(t, place(2), write(overhead))
		assert.Equal(t, place(1), write(overhead))
		assert.EqualValues(t, 3, w.Stats().AddressLimited)

		// Each authentic record from there allows more, an older one too.
		older, newer := m.data("older"), m.data("newer")
		m.inject(place(2), newer)
		require.Len(t, w.takeSent(place(2)), 1)
		m.inject(place(2), older)
		require.Len(t, w.takeSent(place(2)), 1)
		left = 3*(len(older)+len(newer)) - 2*(overhead+5)
		assert.Equal(t, place(1), write(left+1))
		forged := m.data("forged")
		forged[len(forged)-1] ^= 1
		m.inject(place(2), forged)
		m.inject(place(2), newer)
		assert.Equal(t, place(1), write(left+1), "a forged record and a replayed one allow nothing")
		assert.Equal(t, place(2), write(left))
		assert.Equal(t, place(1), m.addrInTable())
	})
}

// TestReplacedCandidateLosesItsCount: the count of a second address begins at zero, and that of
// the first one too when it comes back.
func TestReplacedCandidateLosesItsCount(t *testing.T) {
	t.Parallel()
	withMobiles(t, &scriptedHandshaker{}, Config{}, func(t *testing.T, w *mobileWorld) {
		m := w.connect(t, place(1), 1)
		for range 5 {
			m.inject(place(2), m.data("saves up"))
		}
		w.takeSent(place(2))
		for _, at := range []netip.AddrPort{place(3), place(2)} {
			record := m.data("x")
			m.inject(at, record)
			answer := w.takeSent(at)
			require.Len(t, answer, 1)
			_, err := m.conn.Write(make([]byte, 3*len(record)-2*len(answer[0])+2))
			require.NoError(t, err)
			assert.Empty(t, w.takeSent(at))
			assert.Len(t, w.takeSent(place(1)), 1)
		}
	})
}

// TestRecordFromOldAddressDropsCandidate: the peer is back, or an attacker has relayed one of
// its records. A record that was on its way does not.
func TestRecordFromOldAddressDropsCandidate(t *testing.T) {
	t.Parallel()
	withMobiles(t, &scriptedHandshaker{}, Config{}, func(t *testing.T, w *mobileWorld) {
		m := w.connect(t, place(1), 1)
		late := m.data("late")
		m.inject(place(2), m.data("relayed"))
		require.Equal(t, []mobileMessage{echo("relayed")}, m.received(place(2)))
		m.inject(place(1), late)
		candidate, ok := m.conn.UnverifiedAddress()
		assert.True(t, ok)
		assert.Equal(t, place(2), candidate)
		assert.Equal(t, []mobileMessage{echo("late")}, m.received(place(2)))

		m.inject(place(1), m.data("back"))
		_, ok = m.conn.UnverifiedAddress()
		assert.False(t, ok)
		assert.Equal(t, []mobileMessage{echo("back")}, m.received(place(1)))
		assert.False(t, m.conn.ConfirmAddress(place(2)))
		assert.Equal(t, place(1), m.addrInTable())
	})
}

// TestRefusedAddressGetsNothing: the records from there are received.
func TestRefusedAddressGetsNothing(t *testing.T) {
	t.Parallel()
	withMobiles(t, &scriptedHandshaker{rrc: true}, Config{AddressChange: RefuseAddress}, func(t *testing.T, w *mobileWorld) {
		m := w.connect(t, place(1), 1)
		older := m.data("older")
		m.inject(place(2), m.data("away"))
		m.inject(place(2), older)
		m.inject(place(2), m.seal(record.TypeRoutabilityCheck, routabilityMessage(pathChallenge, pathCookie{1})...))
		assert.Empty(t, m.received(place(2)))
		assert.Equal(t, []mobileMessage{echo("away"), echo("older")}, m.received(place(1)))
		stats := w.Stats()
		assert.EqualValues(t, 2, stats.AddressChangesRefused, "the newer ones")
		assert.EqualValues(t, 1, stats.Ignored, "the path_challenge")
		assert.Zero(t, stats.AddressChanges+stats.RoutabilityChecks)
		assert.False(t, m.conn.ConfirmAddress(place(2)))
		assert.Equal(t, place(1), m.addrInTable())
	})
}

// TestConfirmedAddress: the application has verified it. Peer and RemoteAddr follow, and a
// move is use as any authentic record is.
func TestConfirmedAddress(t *testing.T) {
	t.Parallel()
	withMobiles(t, &scriptedHandshaker{}, Config{}, func(t *testing.T, w *mobileWorld) {
		m, other := w.connect(t, place(1), 1), w.connect(t, place(9), 2)
		assert.False(t, m.conn.ConfirmAddress(place(2)), "nothing has come from there")
		m.inject(place(2), m.data("away"))
		assert.False(t, m.conn.ConfirmAddress(place(3)))
		assert.Equal(t, place(1), m.conn.Peer())
		mapped := netip.AddrPortFrom(netip.AddrFrom16(place(2).Addr().As16()), place(2).Port())
		require.True(t, m.conn.ConfirmAddress(mapped))
		assert.Equal(t, place(2), m.addrInTable())
		assert.Equal(t, place(2).String(), m.conn.RemoteAddr().String())
		assert.EqualValues(t, 1, w.Stats().AddressChanges)
		assert.False(t, m.conn.ConfirmAddress(place(2)), "it is the peer's address now")
		_, state := w.table.Get(w.sock, place(1))
		assert.Equal(t, dsm.StateNone, state)
		assert.Same(t, other.conn, w.leastRecentlyUsed())

		w.takeSent(place(2))
		_, err := m.conn.Write(make([]byte, 1000)) // no limit any more
		require.NoError(t, err)
		assert.Len(t, w.takeSent(place(2)), 1)
		require.NoError(t, m.conn.Close())
		assert.False(t, m.conn.ConfirmAddress(place(3)))
	})
}

// TestTakenAddressIsNotMovedTo: the session keeps its place and the limit until the address
// is free, and then the next record moves it.
func TestTakenAddressIsNotMovedTo(t *testing.T) {
	t.Parallel()
	for _, policy := range []AddressChange{VerifyAddress, TrustAddress} {
		withMobiles(t, &scriptedHandshaker{}, Config{AddressChange: policy}, func(t *testing.T, w *mobileWorld) {
			m, other := w.connect(t, place(1), 1), w.connect(t, place(2), 2)
			m.inject(place(2), m.data("away"))
			if policy == VerifyAddress {
				assert.True(t, m.conn.ConfirmAddress(place(2)))
			}
			assert.EqualValues(t, 1, w.Stats().AddressChangesRefused)
			assert.Equal(t, []mobileMessage{echo("away")}, m.received(place(2)))
			assert.Equal(t, place(1), m.addrInTable())
			assert.Equal(t, place(2), other.addrInTable())
			_, err := m.conn.Write(make([]byte, 1000))
			require.NoError(t, err)
			assert.Len(t, w.takeSent(place(1)), 1, "the limit holds")

			other.inject(place(2), other.data("mine"))
			assert.Equal(t, []mobileMessage{echo("mine")}, other.received(place(2)))
			m.inject(place(2), m.data("again"))
			assert.EqualValues(t, 2, w.Stats().AddressChangesRefused)
			require.NoError(t, other.conn.Close())
			w.takeSent(place(2))
			m.inject(place(2), m.data("free"))
			assert.Equal(t, place(2), m.addrInTable())
			assert.EqualValues(t, 1, w.Stats().AddressChanges)
		})
	}
}

// TestCloseNotifyGoesWhereAnswersGo: to the new address, within the limit.
func TestCloseNotifyGoesWhereAnswersGo(t *testing.T) {
	t.Parallel()
	closeNotify := mobileMessage{record.TypeAlert, string([]byte{record.LevelWarning, record.CloseNotify})}
	withMobiles(t, &scriptedHandshaker{}, Config{}, func(t *testing.T, w *mobileWorld) {
		m := w.connect(t, place(1), 1)
		m.inject(place(2), m.data("away"))
		m.received(place(2))
		require.NoError(t, m.conn.Close())
		assert.Equal(t, []mobileMessage{closeNotify}, m.received(place(2)))
		assert.Empty(t, m.received(place(1)))
	})
}

// TestMoveDisplacesHandshakesOfOldAddress: they have lost their slot, and are counted. The
// address is free for another peer.
func TestMoveDisplacesHandshakesOfOldAddress(t *testing.T) {
	t.Parallel()
	handshaker := &scriptedHandshaker{}
	withMobiles(t, handshaker, Config{AddressChange: TrustAddress}, func(t *testing.T, w *mobileWorld) {
		m := w.connect(t, place(1), 1)
		stall := newStall(handshaker)
		m.inject(place(1), dtlstest.Hello(2))
		require.Equal(t, 1, w.Stats().HalfOpen)
		m.inject(place(2), m.data("away"))
		stats := w.Stats()
		assert.Zero(t, stats.HalfOpen)
		assert.EqualValues(t, 1, stats.Displaced)
		assert.Equal(t, place(2), m.addrInTable())
		w.admission.check(t)

		stall.end()
		newcomer := w.connect(t, place(1), 3)
		newcomer.inject(place(1), newcomer.data("new"))
		assert.Equal(t, []mobileMessage{echo("new")}, newcomer.received(place(1)))
		m.inject(place(2), m.data("still here"))
		assert.Equal(t, []mobileMessage{echo("away"), echo("still here")}, m.received(place(2)))
		stats = w.Stats()
		assert.Equal(t, stats.Started, stats.Completed+stats.Displaced)
		assert.Equal(t, stats.Completed, uint64(stats.Established))
	})
}

// TestIDLivesOnWhenEarlierSessionEnds: a handshake has begun beside the peer's session, and
// its client has the ID of the slot. Then the session ends. The ID leads to the new one.
func TestIDLivesOnWhenEarlierSessionEnds(t *testing.T) {
	t.Parallel()
	handshaker := &scriptedHandshaker{}
	withMobiles(t, handshaker, Config{}, func(t *testing.T, w *mobileWorld) {
		old := w.connect(t, place(1), 1)
		stall := newStall(handshaker)
		old.inject(place(1), dtlstest.Hello(2))
		require.NoError(t, old.conn.Close())
		require.Equal(t, 1, w.Stats().HalfOpen)
		stall.end()
		synctest.Wait()
		session, state := w.table.Get(w.sock, place(1))
		require.Equal(t, dsm.StateEstablished, state)
		m := w.clientOf(t, session.Value.Conn())
		m.inject(place(2), m.data("away"))
		assert.Equal(t, []mobileMessage{echo("away")}, m.received(place(2)))
	})
}

// TestDatagramBehindIDDisturbsNoHandshake: from another address than the peer's, where an ID
// has led to it, nothing reaches its handshakes. Whatever is not the session's is dropped
// and counted.
func TestDatagramBehindIDDisturbsNoHandshake(t *testing.T) {
	t.Parallel()
	handshaker := &scriptedHandshaker{}
	withMobiles(t, handshaker, Config{}, func(t *testing.T, w *mobileWorld) {
		m := w.connect(t, place(1), 1)
		stall := newStall(handshaker)
		m.inject(place(1), dtlstest.Hello(2))
		require.Equal(t, 1, w.Stats().HalfOpen)
		forged := bytes.Clone(m.data("forged"))
		forged[len(forged)-1] ^= 1
		behind := func(records ...byte) {
			t.Helper()
			before := w.Stats()
			m.inject(place(2), append(bytes.Clone(forged), records...))
			after := w.Stats()
			assert.Equal(t, before.Forged+1, after.Forged)
			dropped := after.Plaintext + after.Epoch + after.Malformed - before.Plaintext - before.Epoch - before.Malformed
			assert.Equal(t, min(1, len(records)), int(dropped))
			assert.Equal(t, before.Started, after.Started)
		}
		behind()
		behind(dtlstest.Hello(3)...)
		behind(dtlstest.Hello(2)...) // a repetition, which the handshake would take
		behind(dtlstest.Plaintext(record.TypeAlert, 3, record.LevelFatal, 40)...)
		behind(dtlstest.Unauthentic(record.TypeHandshake, 3, 40)...)
		behind(dtlstest.Unauthentic(record.TypeApplicationData, 3, 40)...)
		epoch0 := bytes.Clone(m.data("of epoch 0"))
		epoch0[4] = 0
		behind(epoch0...)
		session, _ := w.table.Get(w.sock, place(1))
		p := session.Value
		p.mu.Lock()
		held := len(p.pending.held)
		p.mu.Unlock()
		assert.Zero(t, held, "nothing is held for the handshake")
		// The peer's own do reach it.
		m.inject(place(1), forged)
		p.mu.Lock()
		held = len(p.pending.held)
		p.mu.Unlock()
		assert.Equal(t, 1, held)
		stall.end()
	})
}

// TestMoveIsNotedForJournal: as a change of the state, not as a use alone.
func TestMoveIsNotedForJournal(t *testing.T) {
	t.Parallel()
	journal := &Journal{Dir: t.TempDir(), Keys: []keyring.Key{{ID: 7, Secret: [32]byte{7}}}}
	withMobiles(t, &scriptedHandshaker{}, Config{AddressChange: TrustAddress, Journal: journal}, func(t *testing.T, w *mobileWorld) {
		m := w.connect(t, place(1), 1)
		dirty := func() dirtiness {
			m.conn.peer.mu.Lock()
			defer m.conn.peer.mu.Unlock()
			return m.conn.dirty & whatDirty
		}
		time.Sleep(5 * DefaultJournalInterval / 2) // between two writes
		require.Equal(t, clean, dirty())
		m.inject(place(1), m.data("here"))
		assert.Equal(t, dirtyUpdate, dirty())
		m.inject(place(2), m.data("away"))
		assert.Equal(t, dirtyState, dirty())
	})
}

// TestAnswersOfRecordLayerGoWhereAnswersGo: to a candidate, and not to an address from which an
// older record has come.
func TestAnswersOfRecordLayerGoWhereAnswersGo(t *testing.T) {
	t.Parallel()
	noRenegotiation := mobileMessage{record.TypeAlert, string([]byte{record.LevelWarning, record.NoRenegotiation})}
	withMobiles(t, &scriptedHandshaker{}, Config{}, func(t *testing.T, w *mobileWorld) {
		m := w.connect(t, place(1), 1)
		hello := dtlstest.Message(record.MessageClientHello, 0, 1)
		older := m.seal(record.TypeHandshake, hello...)
		m.inject(place(2), m.seal(record.TypeHandshake, hello...))
		assert.Equal(t, []mobileMessage{noRenegotiation}, m.received(place(2)))
		m.inject(place(3), older)
		assert.Empty(t, m.received(place(3)))
		assert.Equal(t, []mobileMessage{noRenegotiation}, m.received(place(2)))
		assert.Empty(t, m.received(place(1)))
	})
}

// TestFirstFlightFindsNoPeerThatHasMoved: the peer moves after the flight was looked up.
func TestFirstFlightFindsNoPeerThatHasMoved(t *testing.T) {
	t.Parallel()
	l := newBareListener(t, 1)
	from, p := l.from(0), l.conns[0].peer
	p.addr = place(2) // before the table learns it
	l.receive(from, dtlstest.Hello(1), time.Now())
	stats := l.Stats()
	assert.EqualValues(t, 1, stats.Stray)
	assert.Zero(t, stats.Started)
	assert.Nil(t, p.pending)

	// A repeated flight is not for a handshake at the peer's new address.
	p.pending = &pending{peer: p, handshake: &scriptedHandshake{}}
	assert.False(t, p.takeFirstFlight(newFirstFlight(from, dtlstest.Hello(1), time.Now())))
}

// TestNoSessionMovesToPortZero: nothing can be sent there, and the state of such a session would
// not be sound.
func TestNoSessionMovesToPortZero(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		handshaker := &scriptedHandshaker{rrc: true}
		cfg := Config{Sessions: 4, PSK: scriptedPSK, AddressChange: TrustAddress}
		w := newMobileWorld(t, handshaker, cfg)
		m := withKey(w.connect(t, place(1), 1))
		m.inject(netip.AddrPortFrom(place(2).Addr(), 0), m.data("x"))
		require.Equal(t, place(1), m.conn.Peer())
		assert.EqualValues(t, 1, w.Stats().Malformed)

		state, err := m.conn.Detach()
		require.NoError(t, err)
		assert.Equal(t, place(1), state.Peer())
	})
}
